"""What a command does next: a pure function of its stages and its journal. It is the whole machine.

    forwards   begin -> done, stage by stage; an act that fails: failed, and everything turns round
    backwards  undo -> undone, the last stage that has begun first
    given up   kept: of an undo, of a clean-up behind the final stage, of an act without a verdict

Of each stage the last event counts. A stage that was given up is taken up again by another "begin"
or "undo", and unless somebody writes that, nothing that is done, undone or kept is touched again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from engine.commands.stage import Stage


class Did(StrEnum):
    """The events of the journal."""

    BEGIN = "begin"
    DONE = "done"
    FAILED = "failed"
    UNDO = "undo"
    UNDONE = "undone"
    KEPT = "kept"


@dataclass(frozen=True)
class Entry:
    """One line of the journal. stage: its name."""

    stage: str
    did: Did
    data: Mapping[str, Any] | None = None


class Outcome(StrEnum):
    """How a command ends; also states of its row."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    UNRESOLVED = "unresolved"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Act:
    """resumed: it has begun before. cleaning: behind the final stage."""

    stage: Stage
    resumed: bool
    cleaning: bool


@dataclass(frozen=True)
class Turn:
    """It is to be aborted: write "failed" for this stage, which has not begun."""

    stage: Stage


@dataclass(frozen=True)
class Undo:
    stage: Stage


@dataclass(frozen=True)
class Keep:
    """Write "kept" for this stage: `because`, a stage that rests on it, was given up."""

    stage: Stage
    because: str


@dataclass(frozen=True)
class End:
    outcome: Outcome


Step: TypeAlias = Act | Turn | Undo | Keep | End
ABORTED = "aborted"  # in the data of "failed": it was wished for
RESTS_ON = "rests_on"  # in the data of "kept": the stage that was given up, for which this one was


def next_step(stages: Sequence[Stage], journal: Sequence[Entry], *, abort: bool = False) -> Step:
    """abort: somebody wants the command to end."""
    last = {entry.stage: entry.did for entry in journal}
    if any(entry.did is Did.FAILED for entry in journal):
        return _backwards(stages, journal, last)
    return _forwards(stages, last, abort)


def rests_on(stages: Sequence[Stage], stage: Stage) -> frozenset[str]:
    """The names of the stages that `stage` needs, by itself or by one of those."""
    place = stages.index(stage)
    before = {one.name: one for one in stages[:place]}
    named = before if stage.needs is None else [name for name in stage.needs if name in before]
    found = set(named)
    for name in named:
        found |= rests_on(stages, before[name])
    return frozenset(found)


def final_of(stages: Sequence[Stage]) -> Stage:
    return next((stage for stage in stages if stage.final), stages[-1])


def _forwards(stages: Sequence[Stage], last: Mapping[str, Did], abort: bool) -> Step:
    final = final_of(stages)
    cleaning = False
    given_up: list[str] = []
    for stage in stages:
        match last.get(stage.name):
            case Did.KEPT if cleaning:
                given_up.append(stage.name)
            case Did.KEPT:
                return End(Outcome.UNRESOLVED)
            case Did.DONE:
                pass
            case did:
                blocked = [name for name in given_up if name in rests_on(stages, stage)]
                if blocked:
                    return Keep(stage, blocked[0])
                if abort and did is None and not cleaning:
                    return Turn(stage)
                return Act(stage, resumed=did is not None, cleaning=cleaning)
        cleaning = cleaning or stage is final
    return End(Outcome.SUCCEEDED)


def _backwards(stages: Sequence[Stage], journal: Sequence[Entry], last: Mapping[str, Did]) -> Step:
    begun = {entry.stage for entry in journal if entry.did is Did.BEGIN}
    kept: dict[str, str] = {}  # what must not be undone, and the stage that was given up
    quarantined = False
    for stage in reversed(stages):
        if stage.name not in begun or stage.undo is None:
            continue
        match last[stage.name]:
            case Did.UNDONE:
                continue
            case Did.KEPT:
                quarantined = True
                for name in rests_on(stages, stage):
                    kept.setdefault(name, stage.name)
            case _ if stage.name in kept:
                return Keep(stage, kept[stage.name])
            case _:
                return Undo(stage)
    if quarantined:
        return End(Outcome.QUARANTINED)
    wished = any(entry.did is Did.FAILED and (entry.data or {}).get(ABORTED) for entry in journal)
    return End(Outcome.ABORTED if wished else Outcome.FAILED)
