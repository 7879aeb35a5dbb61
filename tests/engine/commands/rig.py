"""An engine's commands over a real database and real adapters, without hosts; it can be killed."""

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest
import trio
from sqlalchemy import Connection

from engine.commands import dying
from engine.commands.commands import Commands, commands
from engine.commands.services import CommandTimes, Services
from engine.commands.stage import CommandType
from engine.commands.table import TYPES
from engine.db import commands as rows
from engine.db import domains, hosts, quarantine, stages
from engine.db.commands import Command
from engine.db.database import Database
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.quarantine import Quarantined
from engine.db.secrets import Key
from engine.fleet import fleet
from engine.lease_poller import ExternalLeasePoller
from engine.links import Times
from engine.managed_storage import ManagedStorage
from engine.volume_poller import VolumePoller

T = TypeVar("T")
KEY = Key(b"k" * 32)
TIMES = CommandTimes(tries=3, pauses=(0.0,), database=0.01, progress=0.01)
ARRAY = "22222222-2222-4222-8222-222222222222"
QUICK = Times(grace=3.0, pauses=(0.1,), refresh=5.0)  # seconds
LONG = 60.0  # seconds; no test takes them


class Killed(BaseException):
    """The engine was, by kill -9: nothing of it does anything any more."""


@dataclass
class Engine:
    """One life of an engine. told: the events."""

    database: Database
    commands: Commands
    told: list[tuple[str, str, Mapping[str, Any]]]

    async def ended(self, id: str) -> Command:
        """The row, when the command runs no more."""
        with trio.fail_after(LONG):
            return await self.commands.wait(id)

    async def run(self, name: str, spec: Any) -> Command:
        return await self.ended(await self.commands.start(name, spec, user="admin"))

    async def read(self, work: Callable[[Connection], T]) -> T:
        return await self.database.read(work)

    async def journal(self, id: str) -> list[str]:
        found = await self.read(lambda c: stages.of_command(c, id))
        return [f"{line.name} {line.event}" for line in found]

    async def quarantine(self) -> list[Quarantined]:
        return await self.read(quarantine.search)


@dataclass
class Rig:
    """What outlives an engine: its database, the storage, and hosts: their urls, by id. data: ids
    of data domains. before: is done to the database before the commands go on."""

    url: str
    storages: dict[str, ManagedStorage] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    data: list[str] = field(default_factory=list)
    before: Callable[[Connection], None] = field(default=lambda c: None)

    @asynccontextmanager
    async def engine(
        self, types: Mapping[str, CommandType] = TYPES, times: CommandTimes = TIMES
    ) -> AsyncGenerator[Engine]:
        told: list[tuple[str, str, Mapping[str, Any]]] = []

        async def storage(domain: str) -> ManagedStorage:
            return self.storages[domain]

        def tell(kind: str, object: str, data: Any = None, *, id: int | None = None) -> None:
            told.append((kind, object, data or {}))

        async with AsyncExitStack() as stack:
            # A server needs a moment to see that the last engine was killed.
            opened = Database.opened(self.url, key=KEY, standby=True)
            database = await stack.enter_async_context(opened)
            await database.write(self._known)
            all_hosts = await stack.enter_async_context(fleet(database, times=QUICK))
            services = Services(
                database,
                all_hosts,
                storage,
                cast(ExternalLeasePoller, None),
                cast(VolumePoller, None),
                tell,
                times=times,
            )
            running = await stack.enter_async_context(commands(services, types=types))
            yield Engine(database, running, told)

    @asynccontextmanager
    async def killed(self, *args: Any, **more: Any) -> AsyncGenerator[Engine]:
        """An engine that is killed in the body, or of which nothing is left after it."""
        try:
            async with self.engine(*args, **more) as engine:
                yield engine
        except BaseException as e:
            if not _only_killed(e):
                raise

    def _known(self, c: Connection) -> None:
        self.before(c)
        for id in self.storages:
            if not domains.search(c, id=id):
                domains.add(c, Domain(id, id, "managed_block_storage"))
        for id in self.data:
            if not domains.search(c, id=id):
                domains.add(c, Domain(id, id, "data"))
        for id, url in self.hosts.items():
            if id not in {host.id for host in hosts.all_hosts(c)}:
                hosts.add(c, Host(id, id, url))


def _only_killed(e: BaseException) -> bool:
    if isinstance(e, BaseExceptionGroup):
        return all(_only_killed(one) for one in e.exceptions)
    return isinstance(e, Killed | trio.Cancelled)


@contextmanager
def dies_at(monkeypatch: pytest.MonkeyPatch, point: str) -> Iterator[list[str]]:
    """The engine is killed there, once; what it came by, the point the last. See dying.points."""
    passed: list[str] = []

    def reached(command: str, stage: str, where: str) -> None:
        passed.append(f"{command}:{stage}:{where}")
        if passed[-1] == point:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(dying, "reached", reached)
        yield passed


async def all_commands(engine: Engine) -> list[Command]:
    return await engine.read(lambda c: rows.search(c, limit=1000))


def over_databases(points: Sequence[str]) -> pytest.MarkDecorator:
    """Each point over SQLite; over PostgreSQL a sample, and all in a full run."""
    files = [pytest.param("sqlite", point, id=f"sqlite-{point}") for point in points]
    served = [
        pytest.param(
            "postgresql",
            point,
            id=f"postgresql-{point}",
            marks=() if place % 5 == 0 else pytest.mark.full,
        )
        for place, point in enumerate(points)
    ]
    return pytest.mark.parametrize(
        ("database_url", "point"), [*files, *served], indirect=["database_url"]
    )
