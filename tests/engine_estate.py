"""A whole estate for tests: an engine, two hosts on real sanlock, data and managed domains."""

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from engine.adapter_programs import AdapterPrograms, Driver
from engine.managed_storage import ManagedStorage, Times
from tests.engine_hosts import AgentHost, agent_host, until
from tests.engine_left import Rows, left
from tests.engine_service import DIE_AT, Engine, engine, initialized, sqlite_url
from tests.faults.command import Command, command
from tests.sanlock_hosts import IO_TIMEOUT, SD_ID
from tests.servers import MIB, pattern
from tests.tgt_server import TgtServer, tgt_server

GIB = 1 << 30
DATA = 3 * MIB  # of a disk, from AT on
AT = 5 * MIB
LEASES = 24
# By name. The leases of jobs are made in the one with the lowest id.
DATA_DOMAINS = {"data": SD_ID, "data2": "22222222-2222-4333-8444-555555555555"}
JOINED = 60.0  # seconds
TIDY = 75.0  # seconds, in which a host that was silent forgets what it was shut out from


@dataclass
class Estate:
    """hosts: by the names host-a and host-b. domains: ids by name: "data", "array", "array2", and
    "data2" where it is wanted."""

    folder: Path
    database: str
    command: Command
    hosts: list[AgentHost]
    domains: dict[str, str] = field(default_factory=dict)
    storages: dict[str, ManagedStorage] = field(default_factory=dict)  # by id
    places: dict[str, Path] = field(default_factory=dict)  # of the managed domains, by id
    settings: tuple[str, ...] = ()
    _engine: Engine | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    # --- its engine -------------------------------------------------------------------------------

    @property
    def engine(self) -> Engine:
        assert self._engine is not None
        return self._engine

    def start(self, *, die_at: str | None = None, **environment: str) -> Engine:
        """The engine; the former one has ended. die_at: COMMAND:STAGE:before or after."""
        self._stack.close()
        told = {**environment, **({DIE_AT: die_at} if die_at else {})}
        self._engine = self._stack.enter_context(
            engine(self.command, self.database, *self.settings, environment=told)
        )
        return self._engine

    def another(self, *settings: str, **options: Any) -> AbstractContextManager[Engine]:
        """A second engine on the same database."""
        return engine(self.command, self.database, *self.settings, *settings, **options)

    def close(self) -> None:
        self._stack.close()

    @property
    def a(self) -> AgentHost:
        return self.hosts[0]

    @property
    def b(self) -> AgentHost:
        return self.hosts[1]

    def host(self, id: str) -> AgentHost:
        """By its id in the engine."""
        return next(one for one in self.hosts if one.id == id)

    @property
    def mount(self) -> Path:
        return self.folder / "mount"

    @property
    def data(self) -> Path:
        """The folder of the first data domain, in which the leases of jobs are."""
        return self.mount / self.domains["data"]

    @property
    def data_domains(self) -> list[Path]:
        """The folders of all."""
        ids = [self.domains[name] for name in DATA_DOMAINS if name in self.domains]
        return [self.mount / id for id in ids]

    @property
    def rows(self) -> Rows:
        """The tables of the database, past the engine."""
        return Rows(self.database)

    # --- its disks --------------------------------------------------------------------------------

    def disk(self, domain: str = "array", data: bytes | None = None, gib: int = 1) -> str:
        """A new disk with these bytes at AT; its id. None: DATA bytes of a pattern."""
        name = f"disk-{uuid.uuid4().hex[:8]}"
        body = {
            "name": name,
            "provisioned_size": str(gib * GIB),
            "format": "raw",
            "storage_domains": {"storage_domain": [{"id": self.domains[domain]}]},
        }
        made = self.engine.post("disks", body)
        until(lambda: self.told(made["id"])["status"] != "locked", lambda: self.told(made["id"]))
        assert self.told(made["id"])["status"] == "ok", self.engine.log[-4000:]
        path = self.path(made["id"])
        with path.open("r+b") as file:
            file.seek(AT)
            file.write(pattern(DATA) if data is None else data)
        return str(made["id"])

    def told(self, disk: str) -> dict[str, Any]:
        found: dict[str, Any] = self.engine.get(f"disks/{disk}")
        return found

    def path(self, disk: str) -> Path:
        """The file with the bytes of a disk, past all hosts."""
        rows = self.rows
        row = next(one for one in rows.disks if one.id == disk)
        volume = next(one for one in rows.volumes if one.id == row.volume)
        return self.volume_path(volume.domain, volume.id, volume.image)

    def volume_path(self, domain: str, volume: str, image: str | None = None) -> Path:
        if domain in self.places:
            return self.places[domain] / "volumes" / volume / "disk"
        return self.mount / domain / "images" / str(image) / volume

    def equal(self, disk: str, other: str) -> bool:
        """Has `other` the content of `disk`, and zeros behind that?"""
        return same(self.path(disk), self.path(other))

    def copy(self, disk: str, to: str = "array2", **more: Any) -> str:
        """Begin to copy a disk; the id of the command."""
        return self._action(disk, "copy", to, **more)

    def move(self, disk: str, to: str = "array2", **more: Any) -> str:
        return self._action(disk, "move", to, **more)

    def _action(self, disk: str, action: str, to: str, **more: Any) -> str:
        body: dict[str, Any] = {"storage_domain": {"id": self.domains[to]}, **more}
        if action == "copy":
            body.setdefault("disk", {"name": f"copy-{uuid.uuid4().hex[:8]}"})
        mark = uuid.uuid4().hex
        self.engine.post(f"disks/{disk}/{action}", body, **{"async": "true"}, correlation_id=mark)
        return self.command_of(mark)

    def command_of(self, correlation: str) -> str:
        """The id of the command that a call with this correlation id has made."""
        found = [one for one in self.rows.commands if one.correlation == correlation]
        assert len(found) == 1, found
        return str(found[0].id)

    def remove(self, *disks: str) -> None:
        for disk in disks:
            self.engine.delete(f"disks/{disk}", **{"async": "true"})
        gone = set(disks)
        until(lambda: not gone & {one.id for one in self.rows.disks})

    # --- the end ----------------------------------------------------------------------------------

    def is_whole(self) -> bool:
        """Is every host up, and has it joined the data domains?"""
        for host in self.hosts:
            told = host.call("Host.getCapabilities")["domains"]
            states = [told.get(one.name, {}).get("state") for one in self.data_domains]
            if set(states) != {"joined"}:
                return False
            if self.engine.get(f"hosts/{host.id}")["status"] != "up":
                return False
        return True

    def left(self) -> list[str]:
        """What is left that should not be; no command runs."""
        return left(self.database, self.hosts, self.storages, self.data_domains)

    def nothing_is_left(self, *, quarantined: Sequence[str] = (), seconds: float = 60.0) -> None:
        """But for what these commands have in quarantine. Ends of processes take a moment."""
        until(lambda: not self.left(), self.left, seconds=seconds)
        rows = self.rows
        kept = {one.command for one in rows.quarantine if one.cleared is None}
        assert kept == set(quarantined), (kept, self.engine.log[-4000:])


def command_row(made: Estate, command: str) -> Any:
    return next(one for one in made.rows.commands if one.id == command)


def spec_of(made: Estate, command: str) -> dict[str, Any]:
    """What was asked of a command."""
    return _object(command_row(made, command).spec)


def facts_of(made: Estate, command: str) -> dict[str, Any]:
    """What was written down on the way."""
    return _object(command_row(made, command).facts)


def verdict_of(made: Estate, command: str) -> dict[str, Any]:
    """Of the job of a command."""
    [row] = [one for one in made.rows.jobs if one.command == command]
    return _object(row.verdict or command_row(made, command).verdict)


def _object(text: Any) -> dict[str, Any]:
    found = json.loads(text) if isinstance(text, str | bytes) else text
    assert isinstance(found, dict), text
    return found


def holds(disk: Path, data: bytes) -> bool:
    """Has it these bytes at AT, and zeros everywhere else? Holes are not read."""
    with disk.open("rb") as file:
        return (
            all(
                content == _expected(data, place, len(content)) for place, content in _written(file)
            )
            and _at(file, len(data)) == data
        )


def _expected(data: bytes, place: int, size: int) -> bytes:
    """Of `size` bytes at `place`."""
    before = max(AT - place, 0)
    part = data[max(place - AT, 0) : max(place + size - AT, 0)]
    return (bytes(min(before, size)) + part).ljust(size, b"\0")


def _at(file: BinaryIO, size: int) -> bytes:
    file.seek(AT)
    return file.read(size)


def _written(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Where and what: all that is no hole, a MiB at most each."""
    end = 0
    while True:
        try:
            begin = os.lseek(file.fileno(), end, os.SEEK_DATA)
        except OSError:  # ENXIO: nothing more
            return
        end = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
        for place in range(begin, end, MIB):
            yield place, os.pread(file.fileno(), min(MIB, end - place), place)


def same(disk: Path, other: Path) -> bool:
    with disk.open("rb") as one, other.open("rb") as two:
        while chunk := one.read(MIB):
            if chunk != two.read(MIB):
                return False
        while chunk := two.read(MIB):
            if chunk.count(0) != len(chunk):
                return False
    return True


# --- how one is made -----------------------------------------------------------------------------


@contextmanager
def estate(
    folder: Path,
    *,
    database: str | None = None,
    kind: str = "file",
    data: int = 1,
    settings: Sequence[str] = (),
    agents: Sequence[str] = (),
) -> Iterator[Estate]:
    """All of it, ready, for the body. Nothing lives afterwards.

    database: a url; None: SQLite in the folder. kind: of the managed domains: file or tgt. data:
    how many data domains. settings: of the engine. agents: of both agents.
    """
    mount = folder / "mount"
    own = folder / "engine"
    own.mkdir()
    given = ("endpoints.schemes=path,nbd+unix,iscsi", f"storage.directories={mount}", *agents)
    with ExitStack() as stack:
        made = stack.enter_context(command(own))
        hosts = [
            stack.enter_context(agent_host(f"host-{name}", folder, number, *given))
            for number, name in enumerate("ab", 1)
        ]
        result = Estate(folder, database or sqlite_url(own), made, hosts, settings=tuple(settings))
        initialized(made, result.database, *settings)
        stack.callback(result.close)
        result.start()
        _add_hosts(result)
        _add_data_domains(result, list(DATA_DOMAINS)[:data])
        server = stack.enter_context(tgt_server()) if kind == "tgt" else None
        for name in ("array", "array2"):
            _add_managed_domain(result, name, server)
        yield result


def _add_hosts(made: Estate) -> None:
    for host in made.hosts:
        told = made.engine.post("hosts", {"name": host.name, "address": host.gate.url})
        host.id = told["id"]
    until(lambda: all(made.engine.get(f"hosts/{one.id}")["status"] == "up" for one in made.hosts))


def _add_data_domains(made: Estate, names: Sequence[str]) -> None:
    """On sanlock; both hosts have joined them at the end."""
    made.mount.mkdir()
    options: tuple[object, ...] = ("--store", "sanlock", "--io-timeout", IO_TIMEOUT)
    options += ("--leases", LEASES)
    for name in names:
        id = DATA_DOMAINS[name]
        made.a.leasehold("domain", "create", made.mount, "--id", id, *options)
    made.b.leasehold("domain", "open", made.mount)
    for name in names:
        body = {
            "name": name,
            "id": DATA_DOMAINS[name],
            "type": "data",
            "host": {"name": made.a.name},
            "storage": {"type": "posixfs", "path": str(made.mount)},
        }
        made.domains[name] = made.engine.post("storagedomains", body)["id"]
    until(made.is_whole, lambda: made.engine.log[-4000:], JOINED)


def _add_managed_domain(made: Estate, name: str, server: TgtServer | None) -> None:
    # Not in the folder of a command: what the storage runs is none of its processes.
    place = made.folder / name
    options = {"adapter": "file", "path": str(place)}
    if server is not None:
        options = {"adapter": "tgt", "path": str(place), "portal": server.portal}
        options |= {"socket": server.socket}
    words = [{"name": key, "value": value} for key, value in options.items()]
    body = {
        "name": name,
        "type": "managed_block_storage",
        "host": {"name": made.a.name},
        "storage": {
            "type": "managed_block_storage",
            "driver_options": {"property": words},
        },
    }
    told = made.engine.post("storagedomains", body)["id"]
    nowhere = made.folder / "nowhere"
    programs = AdapterPrograms(managedblock=nowhere, cinderlib=nowhere)
    made.domains[name] = told
    made.places[told] = place
    made.storages[told] = ManagedStorage(Driver(options, {}), programs, Times())
