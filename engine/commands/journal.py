"""What is written down about one command: its journal, its row, and what becomes of it elsewhere.

Each step is one transaction, which is on disk before anything is done because of it; when the
database is gone, it waits. What it says is told to whoever listens afterwards.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from engine.commands import keeping, storable, telling
from engine.commands.next_step import Did, Entry
from engine.commands.run import Run
from engine.commands.services import Services
from engine.commands.stage import CommandType, Kept
from engine.commands.states import NEXT, State
from engine.db import commands, disks, stages, volumes
from engine.db.commands import Command

Work = Callable[[Connection], None]


class Journal:
    """Of the command in `row`, as it is now. Only this changes that row while it runs."""

    def __init__(self, services: Services, row: Command, entries: Sequence[Entry]) -> None:
        self.row = row
        self.state = State(row.state)
        self.entries: list[Entry] = list(entries)
        self._services = services

    def last(self, stage: str) -> Did | None:
        return next((one.did for one in reversed(self.entries) if one.stage == stage), None)

    async def note(self, facts: Mapping[str, Any]) -> None:
        """Facts of a stage that acts."""
        at = self._services.clock()
        write = self._services.database.write
        await write(lambda c: commands.note(c, self.row.id, facts, at=at), patience=math.inf)

    async def write(
        self,
        entry: Entry,
        *,
        state: State | None = None,
        also: Iterable[Work] = (),
        kept: Iterable[Kept] = (),
        freed: Iterable[Kept] = (),
    ) -> None:
        """One line of the journal, with all that goes with it.

        state: of the command from now on. also: more work in this transaction. kept, freed: things
        that are in quarantine, or no more. Raises what `also` does; nothing is written then.
        """
        state, at = self._checked(state or self.state), self._services.clock()
        row, data, works = self.row, dict(entry.data or {}), list(also)
        if entry.did is not Did.DONE:  # facts are our own
            data = storable.data(data)
            entry = replace(entry, data=data or None)
        told = telling.stage(row.type, entry.stage, entry.did, telling.reason_of(data))

        def work(c: Connection) -> tuple[int, list[str]]:
            stages.append(c, row.id, entry.stage, entry.did.value, at=at, data=entry.data)
            for one in works:
                one(c)
            keeping.free(c, freed, command=row.id, at=at)
            reason, action = telling.reason_of(data), str(data.get("action", ""))
            new = keeping.keep(c, kept, command=row.id, reason=reason, action=action, at=at)
            facts = data if entry.did is Did.DONE else {}
            commands.move(
                c,
                row.id,
                state.value,
                expected=self.state.value,
                at=at,
                stage=entry.stage,
                facts=facts,
                error=data.get("error"),
                host=facts.get("host"),
            )
            return telling.audited(c, row, told, at), new

        id, new = await self._services.database.write(work, patience=math.inf)
        self.entries.append(entry)
        self.state = state
        self._tell(id, stage=entry.stage, event=entry.did.value)
        for quarantined in new:
            self._services.tell("quarantine.added", quarantined, {"command": row.id})

    async def end(self, kind: CommandType, run: Run, state: State) -> None:
        """It has ended, or is unresolved.

        What `begin` had made is withdrawn if nothing came of it, and its disks are unlocked.
        """
        at, data, row = self._services.clock(), self._data_of_end(state), self.row
        told = telling.ended(row.type, self._checked(state), telling.reason_of(data))
        unresolved = state is State.UNRESOLVED

        def work(c: Connection) -> tuple[int, list[str]]:
            if state in (State.FAILED, State.ABORTED):
                kind.withdraw(c, run)
            left = state in (State.UNRESOLVED, State.QUARANTINED)
            held = kind.holds(c, run, state) if left else ()
            unlocked = _unlock(c, row.id, whole=left, but=held)
            commands.move(
                c,
                row.id,
                state.value,
                expected=self.state.value,
                at=at,
                verdict=data.get("verdict") if unresolved else None,
                ended=not unresolved,
            )
            return telling.audited(c, row, told, at), unlocked

        id, unlocked = await self._services.database.write(work, patience=math.inf)
        self.state = state
        self._tell(id)
        for disk in unlocked:
            self._services.tell("disk.changed", disk, {"command": row.id})

    def _checked(self, state: State) -> State:
        assert state is self.state or state in NEXT[self.state], f"{self.state} to {state}"
        return state

    def _data_of_end(self, state: State) -> Mapping[str, Any]:
        """Of the entry that tells why it ended so."""
        did = {
            State.UNRESOLVED: Did.KEPT,
            State.QUARANTINED: Did.KEPT,
            State.FAILED: Did.FAILED,
            State.ABORTED: Did.FAILED,
        }.get(state)
        return next((one.data or {} for one in reversed(self.entries) if one.did is did), {})

    def _tell(self, id: int, **more: Any) -> None:
        facts = {"type": self.row.type, "state": self.state.value, **more}
        self._services.tell("command.changed", self.row.id, facts, id=id)


def entries_of(c: Connection, command: str) -> list[Entry]:
    return [Entry(one.name, Did(one.event), one.data) for one in stages.of_command(c, command)]


def _unlock(c: Connection, command: str, *, whole: bool, but: Collection[str]) -> list[str]:
    """Unlock the disks of a command, but not these. whole: only those whose volume is: the target
    of a copy that is unresolved stays locked, the source does not."""
    unlocked = []
    for disk in disks.locked_by(c, command):
        volume = volumes.find(c, disk.volume) if disk.volume is not None else None
        if disk.id in but:
            continue
        if not whole or (volume is not None and volume.state == "ok"):
            disks.unlock(c, disk.id, command)
            unlocked.append(disk.id)
    return unlocked
