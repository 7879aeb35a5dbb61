"""Two real hosts, on real sanlock daemons, that share data domains and managed ones; the engine's
commands run in the process of the test.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import trio

from engine.commands.add_disk import first_volume
from engine.commands.commands import Commands, commands
from engine.commands.copy_times import CopyTimes
from engine.commands.following import Following
from engine.commands.services import CommandTimes, Services
from engine.db import disks, domains, hosts, volumes
from engine.db.database import Database
from engine.db.disks import Disk
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.secrets import Key
from engine.fleet import Fleet, fleet
from engine.heard import Bounds
from engine.lease_poller import ExternalLeasePoller
from engine.links import Times
from engine.managed_storage import ManagedStorage
from engine.volume_poller import VolumePoller
from protocol.client import connected
from protocol.managed import GIB
from tests import sanlock_hosts
from tests.agent_service import Service, service
from tests.conformance.adapters import Site
from tests.faults.command import Command, command
from tests.managed import new_id
from tests.sanlock_hosts import IO_TIMEOUT
from tests.servers import MIB, WAIT

LEASES = 16
QUICK = Times(grace=3.0, pauses=(0.2, 0.5, 1.0), refresh=5.0)
BOUNDS = Bounds(calls=2, held=5.0, nobody=30.0)
# Where a source has data; all else is zero.
DATA = ((0, 5), (37, 3), (1023, 1))  # MiB: offset and length


@dataclass
class Machine:
    """A host: its daemon of sanlock, and its agent. Their processes die with `kill`."""

    id: str
    daemon: sanlock_hosts.Host
    home: Command
    short: Path
    mount: Path
    agent: Service | None = None
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        return f"unix:{self.short / 'agent'}"

    def start(self) -> None:
        settings = [
            f"storage.directories={self.mount}",
            "storage.require_watchdog=false",
            f"identity.hardware_id={self.id}",
            f"identity.name={self.daemon.name}",
            f"identity.initiator=iqn.2026-11.test.leasehold:{self.daemon.name}",
            f"folders.state={self.home.folder / 'state'}",
            f"managed.run={self.home.folder / 'run'}",
            "jobs.stall_time=5",
        ]
        started = service(self.home, self.short, *settings, environment=self.daemon.environment)
        self.agent = self.stack.enter_context(started)

    def kill(self) -> None:
        """Power off: everything of it dies at once."""
        assert self.agent is not None
        self.daemon.kill()
        self.agent.kill()
        for process in self.home.family():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    async def call(self, method: str, **params: Any) -> Any:
        assert self.agent is not None
        async with connected(self.agent.address) as client:
            return await client.call(method, params, timeout=60)


@dataclass
class Estate:
    """An engine over two machines. data: ids of data domains; managed: by id, their storage."""

    machines: list[Machine]
    mount: Path
    data: list[str]
    managed: Mapping[str, Site]
    database: Database
    fleet: Fleet
    commands: Commands

    async def ended(self, id: str, seconds: float = 3 * WAIT) -> Any:
        with trio.fail_after(seconds):
            return await self.commands.wait(id)

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return await self.database.read(work)

    # --- disks ----------------------------------------------------------------------------------

    async def filled(self, domain: str, size: int = GIB) -> str:
        """A disk with data in it; its id."""
        id, volume = new_id(), new_id()
        image = None if domain in self.managed else id
        if image is None:
            self.managed[domain].volumes.append(volume)
            await self.managed[domain].storage.create_volume(volume, size // GIB)
        else:
            ids = {"storagedomainID": domain, "imageID": image, "volumeID": volume}
            await self.fleet.task(
                self.machines[0].id, "Volume.create", {**ids, "volFormat": "RAW", "size": size}
            )
        fill(self.path(domain, image, volume))
        disk = Disk(
            *(id, f"disk-{id[:8]}", "", size, domain, "image" if image else "managed", "raw"),
            *(True, volume, image, "ok", None, 0.0),
        )

        def add(c: Any) -> None:
            disks.add(c, disk)
            volumes.add(c, first_volume(disk, "none"))
            volumes.move(c, volume, "ok")

        await self.database.write(add)
        return id

    def path(self, domain: str, image: str | None, volume: str) -> Path:
        """Of the file that holds a raw volume."""
        if image is None:
            return self.managed[domain].folder / "disks" / "volumes" / volume / "disk"
        return self.mount / domain / "images" / image / volume

    async def file(self, disk: str) -> Path:
        row = await self.read(lambda c: disks.get(c, disk))
        return self.path(row.domain, row.image, row.volume)

    # --- what is left ---------------------------------------------------------------------------

    async def leases(self) -> list[str]:
        """Of all data domains, as the first host that is up tells of those that are known."""
        found = []
        for path in self.mount.glob("*/dom_md/xleases"):
            with path.open("rb") as file:
                file.seek(MIB)
                index = file.read(512 + LEASES * 64)
            records = (index[at : at + 64] for at in range(512, len(index), 64))
            found += [one[:36].decode() for one in records if one[0] != 0]
        return found

    async def attached(self) -> list[str]:
        found = []
        for machine in self.machines:
            if machine.agent is not None and not machine.agent.running.over:
                told = await machine.call("ManagedVolume.volumes_info")
                found += [one["vol_id"] for one in told]
        return found

    async def volumes(self) -> set[str]:
        """That storage has, of any kind."""
        found: set[str] = set()
        for site in self.managed.values():
            for volume in await site.storage.list_volumes():
                info = await site.storage.volume_info(volume)
                assert info.hosts == [], volume
                found.add(volume)
        images = self.mount.glob("*/images/*/*")
        return found | {path.name for path in images if path.suffix == ""}

    async def nothing_is_left(self) -> None:
        """But disks that nobody has locked, with a volume each."""
        assert await self.attached() == []
        assert await self.leases() == []
        rows = await self.read(disks.search)
        assert [row.state for row in rows] == ["ok"] * len(rows)
        assert await self.volumes() == {row.volume for row in rows}


def fill(path: Path) -> None:
    with path.open("r+b") as file:
        for offset, length in DATA:
            file.seek(offset * MIB)
            file.write(bytes((offset + place // 512) % 251 + 1 for place in range(length * MIB)))


def same(one: Path, other: Path, format: str = "raw") -> bool:
    """All bytes. format: of the other one."""
    argv = ["cmp", "-s"] if format == "raw" else ["qemu-img", "compare", "-f", "raw", "-F", format]
    done = subprocess.run([*argv, one, other], check=False, capture_output=True)
    assert done.returncode in (0, 1), (one, other)
    return done.returncode == 0


@contextmanager
def machine(folder: Path, name: str, host_id: int, mount: Path) -> Iterator[Machine]:
    """A host whose agent runs."""
    short = Path(tempfile.mkdtemp(prefix="lh-", dir="/tmp"))
    short.chmod(0o755)
    place = folder / name
    place.mkdir()
    try:
        with (
            command(place) as home,
            sanlock_hosts.running(name, short, host_id) as daemon,
            ExitStack() as stack,
        ):
            made = Machine(str(uuid.uuid4()), daemon, home, short, mount, stack=stack)
            made.start()
            yield made
    finally:
        shutil.rmtree(short, ignore_errors=True)


@asynccontextmanager
async def estate(
    folder: Path, sites: Mapping[str, Site], *, data: int = 1
) -> AsyncGenerator[Estate]:
    """data: how many data domains. sites: managed domains, by id."""
    mount = folder / "mount"
    mount.mkdir()
    ids = [new_id() for _ in range(data)]
    with machine(folder, "a", 1, mount) as a, machine(folder, "b", 2, mount) as b:
        await _joined([a, b], mount, ids)
        key, url = Key.random(), f"sqlite:///{folder / 'engine.db'}"
        async with Database.opened(url, key=key) as database:
            await database.write(partial(_known, machines=[a, b], data=ids, sites=sites))
            async with _engine([a, b], mount, ids, sites, database) as made:
                yield made


async def _joined(machines: list[Machine], mount: Path, ids: list[str]) -> None:
    for id in ids:
        options = {"store": "sanlock", "io_timeout": IO_TIMEOUT, "leases": LEASES}
        await machines[0].call(
            "StorageDomain.create", storagedomainID=id, path=str(mount), **options
        )
    async with trio.open_nursery() as nursery:
        for machine in machines:
            for id in ids:
                activate = partial(
                    machine.call,
                    "StorageDomain.activate",
                    storagedomainID=id,
                    path=str(mount),
                    host_id=machine.daemon.host_id,
                )
                nursery.start_soon(activate)


def _known(c: Any, machines: list[Machine], data: list[str], sites: Mapping[str, Site]) -> None:
    for one in machines:
        hosts.add(c, Host(one.id, one.daemon.name, one.url))
    for id in data:
        domains.add(c, Domain(id, f"data-{id[:8]}", "data"))
    for id, site in sites.items():
        row = Domain(id, f"array-{id[:8]}", "managed_block_storage", options=site.driver.options)
        domains.add(c, row, secret=site.driver.secret)


@asynccontextmanager
async def _engine(
    machines: list[Machine],
    mount: Path,
    ids: list[str],
    sites: Mapping[str, Site],
    database: Database,
) -> AsyncGenerator[Estate]:
    async def storage(domain: str) -> ManagedStorage:
        return sites[domain].storage

    def tell(kind: str, object: str, data: Any = None, *, id: int | None = None) -> None:
        pass

    async with fleet(database, times=QUICK) as all_hosts, trio.open_nursery() as nursery:
        following = Following()
        poller = ExternalLeasePoller(
            all_hosts,
            nursery,
            bounds=BOUNDS,
            tell=following.tell,
            pauses=(0.2, 0.5, 1.0),
            call_time=10,
        )
        services = Services(
            database,
            all_hosts,
            storage,
            poller,
            VolumePoller(poller, all_hosts),
            tell,
            times=CommandTimes(tries=4, pauses=(0.2, 0.5, 1.0), database=0.1, progress=0.2),
            copies=CopyTimes(silent=1.0, calls=3, pause=0.2, room=60.0, look=0.2),
            following=following,
        )
        async with commands(services) as running:
            yield Estate(machines, mount, ids, sites, database, all_hosts, running)
        nursery.cancel_scope.cancel()
