"""What a person wants of a command that is there, as lines in its journal. The runner does it."""

from collections.abc import Sequence

from sqlalchemy import Connection

from engine.commands import keeping
from engine.commands.journal import entries_of
from engine.commands.next_step import Did
from engine.commands.run import Run
from engine.commands.stage import CommandType, Stage
from engine.commands.states import ACTIVE, State
from engine.db import commands, stages
from engine.db.commands import Command
from protocol.errors import Error, WrongState

CLEARED = "nobody could tell what became of it; a person has cleared it, so it counts as failed"


def abort(c: Connection, row: Command, at: float) -> None:
    """Raises WrongState (4403)."""
    commands.ask_abort(c, row.id, expected=[state.value for state in ACTIVE], at=at)


def resolve(c: Connection, kind: CommandType, row: Command, at: float) -> None:
    """Raises WrongState (4403)."""
    if State(row.state) is not State.UNRESOLVED:
        raise WrongState("command", row.id, row.state, State.UNRESOLVED.value)
    for stage in _kept(c, kind, row):
        stages.append(c, row.id, stage.name, Did.BEGIN.value, at=at)
    _move(c, row, State.RUNNING, at)


def clear(
    c: Connection, kind: CommandType, run: Run, row: Command, *, by_hand: bool, at: float
) -> None:
    """Raises WrongState (4403)."""
    kept, state = _kept(c, kind, row), State(row.state)
    if state in ACTIVE or not kept:
        expected = f"{State.UNRESOLVED} or {State.QUARANTINED}"
        raise WrongState("command", row.id, row.state, expected)
    if state is State.UNRESOLVED:
        error = {"code": Error.code, "kind": "", "message": CLEARED, "data": {}}
        stages.append(c, row.id, kept[0].name, Did.FAILED.value, at=at, data={"error": error})
        commands.move(c, row.id, State.UNDOING.value, expected=row.state, at=at, error=error)
        return
    undoing = state is State.QUARANTINED
    for stage in kept:
        if by_hand:
            _forget(c, stage, run, Did.UNDONE if undoing else Did.DONE, at)
        else:
            again = Did.UNDO if undoing else Did.BEGIN
            stages.append(c, row.id, stage.name, again.value, at=at)
    _move(c, row, State.UNDOING if undoing else State.RUNNING, at)


def _forget(c: Connection, stage: Stage, run: Run, did: Did, at: float) -> None:
    things = stage.kept(run)
    stages.append(c, run.id, stage.name, did.value, at=at, data={"by_hand": True})
    keeping.free(c, things, command=run.id, at=at)
    keeping.forget(c, things)


def _kept(c: Connection, kind: CommandType, row: Command) -> Sequence[Stage]:
    """The stages that were given up."""
    last = {entry.stage: entry.did for entry in entries_of(c, row.id)}
    return [stage for stage in kind.stages if last.get(stage.name) is Did.KEPT]


def _move(c: Connection, row: Command, state: State, at: float) -> None:
    commands.move(c, row.id, state.value, expected=row.state, at=at)
