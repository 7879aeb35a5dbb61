"""What a command is made of: stages, each with its undo.

The runner (engine/commands/runner.py) writes "begin" into the journal before a stage acts, and
"done" with its facts after. So an act may be called again, when the engine was killed in it: then
`run.resumed` is true, and the act looks at what is there and goes on with that.

A stage fails by raising. Then the stages that have begun are undone, the last one first. An undo is
called until it succeeds: it must be able to say that there is nothing to undo (any more).
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec
from sqlalchemy import Connection

from engine.commands.states import State

if TYPE_CHECKING:
    from engine.commands.run import Run

Facts: TypeAlias = Mapping[str, Any]
Act: TypeAlias = Callable[["Run"], Awaitable[Facts | None]]
Undo: TypeAlias = Callable[["Run"], Awaitable[None]]


class Thing(StrEnum):
    """What can be in quarantine; the tables of the database have a state "kept" for each."""

    VOLUME = "volume"
    ATTACHMENT = "attachment"
    LEASE = "lease"
    SNAPSHOT = "snapshot"


@dataclass(frozen=True)
class Kept:
    """A thing that a stage may have left, and that could not be taken away.

    object: its id; of an attachment that of the volume, and `host` is not None. domain: its id.
    action: what an operator does who wants to be rid of it, besides asking the engine again.
    """

    kind: Thing
    object: str
    domain: str
    host: str | None = None
    action: str = ""


def nothing(run: "Run") -> Sequence[Kept]:
    """The stage leaves nothing."""
    return ()


@dataclass(frozen=True)
class Stage:
    """One step of a command.

    act: returns facts, JSON; they are journalled with "done", and `run.facts` has them from then
        on. It may call `run.together(work)`: done in the transaction of "done".
    undo: called when a later stage, or this one, failed; also when nobody knows how far the act
        came. None: there is nothing to undo. `run.together` goes with "undone".
    final: when it is done, the command has succeeded. What follows is clean-up: an act there that
        fails is tried again, and then what it should have taken away is in quarantine, which does
        not change the result. Without a final stage the last one is it.
    needs: the stages whose work this one's rests on. If the undo of this one is given up, theirs is
        not done either: an attachment that was not ended keeps its volume. Among the stages of the
        clean-up: those that must have been done before this one may act. None: all before it.
    kept: what is in quarantine when the undo (or clean-up) of this stage is given up, and when its
        act raised NoVerdict. It is also asked when they succeed, what is kept no more. The stage
        may have done nothing at all, so facts may be missing: then it names nothing.
    title: for people: "creating the volume". undone: what the undo does, for the documentation.
    """

    name: str
    act: Act
    undo: Undo | None = None
    final: bool = False
    needs: tuple[str, ...] | None = None
    kept: Callable[["Run"], Sequence[Kept]] = nothing
    title: str = ""
    undone: str = ""


def no_rows(c: Connection, run: "Run") -> None:
    """The first transaction made no rows."""


def no_disks(c: Connection, run: "Run", state: State) -> Collection[str]:
    """All that are whole are free."""
    return ()


@dataclass(frozen=True)
class CommandType:
    """begin: in the transaction that makes the command: checks states, locks disks, makes rows. It
        gets the spec and the id of the command. What it raises is the answer to who asked.
    withdraw: in the transaction in which the command ends as failed or aborted, after all was
        undone: takes back the rows that `begin` made.
    holds: in the transaction in which the command is unresolved or in quarantine: ids of disks that
        stay locked though they are whole.
    retakes: in the transaction in which it is asked to resolve: locks those of them again that are
        not. What it raises is the answer to who asked.

    At the end the runner unlocks every disk that is locked by the command, but for those with a
    volume that is kept, and those that it holds.
    """

    name: str
    spec: type[msgspec.Struct]
    stages: tuple[Stage, ...]
    begin: Callable[[Connection, Any, str], None]
    withdraw: Callable[[Connection, "Run"], None] = no_rows
    title: str = ""
    holds: Callable[[Connection, "Run", State], Collection[str]] = no_disks
    retakes: Callable[[Connection, "Run"], None] = no_rows


class NoVerdict(Exception):
    """Raised by an act: nobody can tell what became of it. The command is then unresolved: nothing
    is undone, and what `kept` of the stage names is kept until a person has looked.

    action: what an operator does. verdict: JSON, for the row of the command.
    """

    def __init__(self, reason: str, *, action: str = "", verdict: Facts | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action
        self.verdict = verdict


class Hopeless(Exception):
    """Raised by an undo, or by a clean-up: to try again would not help. It is given up at once."""

    def __init__(self, reason: str, *, action: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action
