"""The commands of an engine: begun, followed, aborted, and asked again."""

import logging
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
import trio
from sqlalchemy import Connection

from engine.commands import telling, wishes
from engine.commands.journal import Journal, entries_of
from engine.commands.run import Progress, Run
from engine.commands.runner import Runner
from engine.commands.services import Services
from engine.commands.specs import new_id
from engine.commands.stage import CommandType
from engine.commands.states import ACTIVE
from engine.commands.table import TYPES
from engine.db import commands as rows
from engine.db.commands import Command
from protocol.errors import EngineBusy, NotSupported

log = logging.getLogger(__name__)


@dataclass
class _Running:
    """run: None until its row was read. over: set when it runs no more."""

    run: Run | None = None
    over: trio.Event = field(default_factory=trio.Event)


class Commands:
    """Made by `commands(services)`. Only this writes the states of commands.

    Not thread safe: it belongs to the trio thread. Commands run in `nursery`.
    """

    def __init__(
        self, services: Services, nursery: trio.Nursery, types: Mapping[str, CommandType]
    ) -> None:
        self._services = services
        self._nursery = nursery
        self._types = types
        self._running: dict[str, _Running] = {}

    async def start(
        self, name: str, spec: msgspec.Struct, *, user: str, correlation: str = ""
    ) -> str:
        """Begin a command; its id. It has been written down and its disks are locked when this
        returns.

        Raises what the `begin` of its type does: NoSuchObject (4400), DiskLocked (4402), WrongState
        (4403), StillUsed (4406), InQuarantine (4412), NotSupported (4413), BadParameter (1000) ...
        """
        kind, at = self._types[name], self._services.clock()
        row = Command(
            id=new_id(),
            type=name,
            state="running",
            spec=msgspec.to_builtins(spec),
            user=user,
            correlation=correlation or None,
            created=at,
            changed=at,
        )

        def work(c: Connection) -> int:
            rows.add(c, row)
            kind.begin(c, spec, row.id)
            return telling.audited(c, row, telling.begun(name), at)

        with trio.CancelScope(shield=True):  # one that was written down runs
            id = await self._services.database.write(work)
            self._services.tell(
                "command.changed", row.id, {"type": name, "state": row.state}, id=id
            )
            self._run(row.id)
        return row.id

    async def abort(self, id: str) -> None:
        """Ask a command to end; it is undone then. After its final stage it goes on to its end.

        Raises NoSuchObject (4400); WrongState (4403): it has ended, or is unresolved.
        """
        at = self._services.clock()
        await self._wish(id, "abort", lambda c, row: wishes.abort(c, row, at))
        if (running := self._running.get(id)) and running.run is not None:
            running.run.abort_asked.set()

    async def resolve(self, id: str) -> None:
        """Ask again what became of an unresolved command; it goes on in the background.

        Raises NoSuchObject (4400); WrongState (4403): it is not unresolved, or its disk, which was
        free, has changed; DiskLocked (4402), InQuarantine (4412): of that disk.
        """
        at = self._services.clock()

        def work(c: Connection, row: Command) -> None:
            wishes.resolve(c, self._type(row), self._run_of(row), row, at)

        await self._wish(id, "resolve", work)
        self._run(id)

    async def clear(self, id: str, *, by_hand: bool = False) -> None:
        """Go on with what a command has left, in the background.

        Of an unresolved command: count what nobody knows as failed, and undo it. Of any other: try
        again to undo or clean up what is in quarantine. by_hand: a person has done that, and looked
        that nothing uses it: it is only forgotten.

        Raises NoSuchObject (4400); WrongState (4403): nothing of it is left, or it still runs.
        """
        at = self._services.clock()

        def work(c: Connection, row: Command) -> None:
            kind, run = self._type(row), self._run_of(row)
            wishes.clear(c, kind, run, row, by_hand=by_hand, at=at)

        await self._wish(id, "clear by hand" if by_hand else "clear", work)
        self._run(id)

    async def wait(self, id: str, timeout: float | None = None) -> Command:
        """Its row, as soon as it runs no more; after `timeout` seconds as it is then.

        Raises NoSuchObject (4400).
        """
        if running := self._running.get(id):
            with trio.move_on_after(math.inf if timeout is None else timeout):
                await running.over.wait()
        return await self._services.database.read(lambda c: rows.get(c, id))

    def progress(self, id: str) -> Progress | None:
        """Of the stage in which a command is that runs now."""
        running = self._running.get(id)
        return running.run.progress if running and running.run else None

    # --- inside ---------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Go on with all that had not ended."""
        states = [state.value for state in ACTIVE]
        found = await self._services.database.read(lambda c: rows.in_states(c, states))
        for row in found:
            log.info("command %s (%s) goes on", row.id, row.type)
            self._run(row.id)

    def _run(self, id: str) -> None:
        running = self._running[id] = _Running()
        self._nursery.start_soon(self._to_end, id, running, name=f"command {id}")

    async def _to_end(self, id: str, running: _Running) -> None:
        try:
            row, entries = await self._services.database.read(
                lambda c: (rows.get(c, id), entries_of(c, id)), patience=math.inf
            )
            journal = Journal(self._services, row, entries)
            running.run = run = self._run_of(row, journal)
            await Runner(self._type(row), run, journal).run()
        except EngineBusy as e:
            log.error("command %s stops, as another engine goes on with it: %s", id, e)
        except Exception:
            # A fault of ours in one command; the others go on, and so does this with a new engine.
            log.exception("command %s stands still", id)
        finally:
            running.over.set()
            if self._running.get(id) is running:  # it may have been asked to go on by now
                del self._running[id]

    def _run_of(self, row: Command, journal: Journal | None = None) -> Run:
        run = Run(
            row.id,
            row.type,
            msgspec.convert(row.spec, self._type(row).spec),
            self._services,
            row.user,
            facts=dict(row.facts),
            journalled=journal.note if journal is not None else None,
        )
        if row.abort_asked:
            run.abort_asked.set()
        return run

    def _type(self, row: Command) -> CommandType:
        try:
            return self._types[row.type]
        except KeyError:
            raise NotSupported(f"commands of type {row.type}") from None

    async def _wish(self, id: str, what: str, work: Callable[[Connection, Command], None]) -> None:
        """What somebody asks of a command that is there, written down."""
        at = self._services.clock()

        def write(c: Connection) -> tuple[Command, int]:
            row = rows.get(c, id)
            work(c, row)
            audited = telling.audited(c, row, telling.wished(row.type, what), at)
            return rows.get(c, id), audited

        row, audited = await self._services.database.write(write)
        self._services.tell(
            "command.changed", id, {"type": row.type, "state": row.state}, id=audited
        )


@asynccontextmanager
async def commands(
    services: Services, *, types: Mapping[str, CommandType] = TYPES
) -> AsyncGenerator[Commands]:
    """Resumes what was running. When the body is left the commands stop where they are: they go on
    in the next one.

    Raises DatabaseGone.
    """
    async with trio.open_nursery() as nursery:
        made = Commands(services, nursery, types)
        await made.resume()
        yield made
        nursery.cancel_scope.cancel()
