"""What a person wants of a command that is there, as lines in its journal. The runner does it."""

from collections.abc import Sequence

from sqlalchemy import Connection

from engine.commands import keeping
from engine.commands.journal import entries_of
from engine.commands.next_step import RESTS_ON, Did, Entry, final_of
from engine.commands.run import Run
from engine.commands.stage import CommandType, Kept, Stage, Thing
from engine.commands.states import ACTIVE, State
from engine.db import commands, quarantine, stages
from engine.db.commands import Command
from engine.db.rows import MOST
from protocol.errors import Error, WrongState

CLEARED = "nobody could tell what became of it; a person has cleared it, so it counts as failed"


def abort(c: Connection, row: Command, at: float) -> None:
    """Raises WrongState (4403)."""
    commands.ask_abort(c, row.id, expected=[state.value for state in ACTIVE], at=at)


def resolve(c: Connection, kind: CommandType, run: Run, row: Command, at: float) -> None:
    """Raises WrongState (4403), and what its type does that has to take disks again."""
    if State(row.state) is not State.UNRESOLVED:
        raise WrongState("command", row.id, row.state, State.UNRESOLVED.value)
    kind.retakes(c, run)
    for stage in _kept(kind, entries_of(c, row.id)):
        stages.append(c, row.id, stage.name, Did.BEGIN.value, at=at)
    _move(c, row, State.RUNNING, at)


def clear(
    c: Connection, kind: CommandType, run: Run, row: Command, *, by_hand: bool, at: float
) -> None:
    """Raises WrongState (4403)."""
    entries, state = entries_of(c, row.id), State(row.state)
    kept = _kept(kind, entries)
    again = kept or _overlooked(c, kind, row, entries)
    if state in ACTIVE or not again:
        expected = f"{State.UNRESOLVED} or {State.QUARANTINED}"
        raise WrongState("command", row.id, row.state, expected)
    if state is State.UNRESOLVED:
        error = {"code": Error.code, "kind": "", "message": CLEARED, "data": {}}
        stages.append(c, row.id, again[0].name, Did.FAILED.value, at=at, data={"error": error})
        commands.move(c, row.id, State.UNDOING.value, expected=row.state, at=at, error=error)
        return
    undoing = state is State.QUARANTINED
    for stage in again:
        # One that only rests on another one has its work still to do, whatever was done by hand.
        if not by_hand or (not undoing and _rests(stage, entries)):
            did = Did.UNDO if undoing else Did.BEGIN
            stages.append(c, row.id, stage.name, did.value, at=at)
        elif kept:
            _forget(c, stage, run, Did.UNDONE if undoing else Did.DONE, at)
    if by_hand and not kept:
        _forget_rest(c, row, at)
    _move(c, row, State.UNDOING if undoing else State.RUNNING, at)


def _forget(c: Connection, stage: Stage, run: Run, did: Did, at: float) -> None:
    things = stage.kept(run)
    stages.append(c, run.id, stage.name, did.value, at=at, data={"by_hand": True})
    keeping.free(c, things, command=run.id, at=at)
    keeping.forget(c, things, command=run.id, used=did is Did.UNDONE)


def _forget_rest(c: Connection, row: Command, at: float) -> None:
    """What is in quarantine and no stage names."""
    for one in quarantine.search(c, command=row.id, limit=MOST):
        thing = Kept(Thing(one.kind), one.object, one.domain, one.host)
        keeping.free(c, [thing], command=row.id, at=at)
        keeping.forget(c, [thing], command=row.id)


def _overlooked(
    c: Connection, kind: CommandType, row: Command, entries: Sequence[Entry]
) -> Sequence[Stage]:
    """Stages of the clean-up that were given up once and then ended, though something of theirs is
    in quarantine still. They have to act again."""
    if State(row.state) is not State.SUCCEEDED or not quarantine.search(c, command=row.id, limit=1):
        return ()
    ever = {entry.stage for entry in entries if entry.did is Did.KEPT}
    cleaning = kind.stages[kind.stages.index(final_of(kind.stages)) + 1 :]
    return [stage for stage in cleaning if stage.name in ever]


def _rests(stage: Stage, entries: Sequence[Entry]) -> bool:
    """Was it given up only for another one, without having acted?"""
    last = next(entry for entry in reversed(entries) if entry.stage == stage.name)
    return last.did is Did.KEPT and RESTS_ON in (last.data or {})


def _kept(kind: CommandType, entries: Sequence[Entry]) -> Sequence[Stage]:
    """Those of which this is the last word."""
    last = {entry.stage: entry.did for entry in entries}
    return [stage for stage in kind.stages if last.get(stage.name) is Did.KEPT]


def _move(c: Connection, row: Command, state: State, at: float) -> None:
    commands.move(c, row.id, state.value, expected=row.state, at=at)
