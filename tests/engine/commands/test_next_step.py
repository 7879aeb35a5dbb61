"""The machine of commands: whatever fails and whenever the engine is killed, it ends, in order."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.commands.next_step import (
    ABORTED,
    Act,
    Did,
    End,
    Entry,
    Keep,
    Outcome,
    Turn,
    Undo,
    final_of,
    next_step,
    rests_on,
)
from engine.commands.run import Run
from engine.commands.stage import Facts, Stage


async def _act(run: Run) -> Facts | None:
    return None


async def _undo(run: Run) -> None:
    pass


def stage(
    name: str, *, undo: bool = True, final: bool = False, needs: tuple[str, ...] | None = None
) -> Stage:
    return Stage(name, _act, _undo if undo else None, final=final, needs=needs)


def journal(*lines: str) -> list[Entry]:
    """Of "create begin" and such."""
    return [Entry(name, Did(did)) for name, did in (line.split() for line in lines)]


COPY = (
    stage("create"),
    stage("attach", needs=("create",)),
    stage("lease", needs=()),
    stage("copy", undo=False, final=True),
    stage("quiesce", undo=False),
    stage("unlease", undo=False, needs=()),
    stage("finish", undo=False, needs=("quiesce",)),
)
CREATED = ("create begin", "create done")
ATTACHED = (*CREATED, "attach begin", "attach done")
COPIED = (*ATTACHED, "lease begin", "lease done", "copy begin", "copy done")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ((), Act(COPY[0], resumed=False, cleaning=False)),
        (("create begin",), Act(COPY[0], resumed=True, cleaning=False)),
        (CREATED, Act(COPY[1], resumed=False, cleaning=False)),
        ((*CREATED, "attach begin", "attach failed"), Undo(COPY[1])),
        ((*CREATED, "attach begin", "attach failed", "attach undo"), Undo(COPY[1])),
        ((*CREATED, "attach begin", "attach failed", "attach undone"), Undo(COPY[0])),
        (
            (*CREATED, "attach begin", "attach failed", "attach undone", "create undone"),
            End(Outcome.FAILED),
        ),
        ((*CREATED, "attach begin", "attach failed", "attach kept"), Keep(COPY[0], "attach")),
        (
            (*CREATED, "attach begin", "attach failed", "attach kept", "create kept"),
            End(Outcome.QUARANTINED),
        ),
        ((*ATTACHED, "lease begin", "lease failed", "lease kept"), Undo(COPY[1])),
        (COPIED[:-1], Act(COPY[3], resumed=True, cleaning=False)),
        ((*COPIED[:-1], "copy kept"), End(Outcome.UNRESOLVED)),
        ((*COPIED[:-1], "copy kept", "copy failed"), Undo(COPY[2])),
        ((*COPIED[:-1], "copy kept", "copy begin"), Act(COPY[3], resumed=True, cleaning=False)),
        (COPIED, Act(COPY[4], resumed=False, cleaning=True)),
        (
            (*COPIED, "quiesce begin", "quiesce kept"),
            Act(COPY[5], resumed=False, cleaning=True),
        ),
        (
            (*COPIED, "quiesce begin", "quiesce kept", "unlease begin", "unlease done"),
            Keep(COPY[6], "quiesce"),
        ),
        (
            (*COPIED, "quiesce kept", "unlease done", "finish kept"),
            End(Outcome.SUCCEEDED),
        ),
    ],
)
def test_the_journal_and_the_stages_tell_the_next_step(
    lines: tuple[str, ...], expected: object
) -> None:
    assert next_step(COPY, journal(*lines)) == expected


def test_an_abort_turns_the_command_round_between_two_stages() -> None:
    assert next_step(COPY, journal(*CREATED), abort=True) == Turn(COPY[1])


def test_an_abort_leaves_a_stage_that_has_begun_to_end_by_itself() -> None:
    step = next_step(COPY, journal("create begin"), abort=True)
    assert step == Act(COPY[0], resumed=True, cleaning=False)


def test_an_abort_after_the_final_stage_comes_too_late() -> None:
    step = next_step(COPY, journal(*COPIED), abort=True)
    assert step == Act(COPY[4], resumed=False, cleaning=True)


def test_what_failed_because_of_an_abort_is_aborted() -> None:
    lines = [*journal("create begin"), Entry("create", Did.FAILED, {ABORTED: True})]
    assert next_step(COPY, [*lines, *journal("create undone")]) == End(Outcome.ABORTED)


def test_a_stage_needs_what_those_need_that_it_needs() -> None:
    three = (stage("a"), stage("b", undo=False, needs=("a",)), stage("c", needs=("b",)))
    assert rests_on(three, three[2]) == {"a", "b"}


# --- whatever happens ---------------------------------------------------------------------------


@dataclass
class World:
    """Does what a runner does; `fate` says what becomes of each thing that it tries.

    there: the stages whose thing exists. calls: all acts and undos, in order.
    """

    stages: Sequence[Stage]
    fate: list[str]
    there: set[str] = field(default_factory=set)
    journal: list[Entry] = field(default_factory=list)
    abort: bool = False
    acts: int = 0

    def write(self, stage: Stage, did: Did) -> None:
        self.journal.append(Entry(stage.name, did))

    def next_fate(self) -> str:
        return self.fate.pop() if self.fate else "well"

    def last(self, name: str) -> Did | None:
        return next((one.did for one in reversed(self.journal) if one.stage == name), None)

    def step(self) -> Outcome | None:
        """Do the next step, or a part of it: then the engine was killed."""
        match next_step(self.stages, self.journal, abort=self.abort):
            case End(outcome):
                return outcome
            case Turn(stage):
                self.write(stage, Did.FAILED)
            case Keep(stage, _):
                self.write(stage, Did.KEPT)
            case Act(stage):
                self.act(stage, cleaning=self.committed)
            case Undo(stage):
                self.undo(stage)
        return None

    @property
    def committed(self) -> bool:
        return self.last(final_of(self.stages).name) is Did.DONE

    def act(self, stage: Stage, *, cleaning: bool) -> None:
        assert not any(one.did is Did.FAILED for one in self.journal)
        if self.last(stage.name) is None:
            self.write(stage, Did.BEGIN)
        match self.next_fate():
            case "killed before":
                return
            case "killed after":
                self.there.add(stage.name)
                return
            case "fails":
                self.write(stage, Did.KEPT if cleaning else Did.FAILED)
            case "fails late":
                self.there.add(stage.name)
                self.write(stage, Did.KEPT if cleaning else Did.FAILED)
            case "no verdict":
                self.there.add(stage.name)
                self.write(stage, Did.KEPT)
            case "abort":
                self.abort = True
            case _:
                self.there.add(stage.name)
                self.write(stage, Did.DONE)

    def undo(self, stage: Stage) -> None:
        assert self.last(stage.name) is not Did.UNDONE, "undone twice"
        assert not self.committed, "undone after it had succeeded"
        later = self.stages[self.stages.index(stage) + 1 :]
        for one in later:
            ended = (None, Did.UNDONE, Did.KEPT)
            unbegun = one.name not in {e.stage for e in self.journal if e.did is Did.BEGIN}
            assert one.undo is None or unbegun or self.last(one.name) in ended, "out of order"
        resting = {one.name for one in later if stage.name in rests_on(self.stages, one)}
        with_undo = {one.name for one in self.stages if one.undo is not None}
        assert not resting & with_undo & self.there, "destroyed under something that needs it"
        self.write(stage, Did.UNDO)
        match self.next_fate():
            case "killed before" | "abort":
                return
            case "killed after":
                self.there.discard(stage.name)
                return
            case "fails" | "fails late" | "no verdict":
                self.write(stage, Did.KEPT)
            case _:
                self.there.discard(stage.name)
                self.write(stage, Did.UNDONE)


FATES = ["well", "fails", "fails late", "no verdict", "killed before", "killed after", "abort"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[Stage, ...]:
    names = [f"s{n}" for n in range(draw(st.integers(1, 6)))]
    final = draw(st.sampled_from([None, *names]))
    made = []
    for n, name in enumerate(names):
        subset = st.lists(st.sampled_from(names[:n]), unique=True) if n else st.just([])
        needs = draw(st.none() | subset.map(tuple))
        made.append(stage(name, undo=draw(st.booleans()), final=name == final, needs=needs))
    return tuple(made)


def ran(world: World) -> Outcome:
    for _ in range(len(world.fate) + 4 * len(world.stages) + 4):
        if outcome := world.step():
            return outcome
    raise AssertionError("it does not end")


@given(tables(), st.lists(st.sampled_from(FATES), max_size=30))
def test_whatever_fails_and_whenever_it_is_killed_it_ends_in_order(
    stages: tuple[Stage, ...], fate: list[str]
) -> None:
    world = World(stages, fate)
    outcome = ran(world)
    kept = [one for one in stages if world.last(one.name) is Did.KEPT]
    failed = any(one.did is Did.FAILED for one in world.journal)
    match outcome:
        case Outcome.SUCCEEDED:
            assert world.committed
        case Outcome.UNRESOLVED:
            assert not failed
            assert len(kept) == 1
        case Outcome.QUARANTINED:
            assert failed
            assert kept
        case _:
            assert failed
            assert not kept
            assert not any(one.undo and one.name in world.there for one in stages), "leaked"


@given(tables(), st.lists(st.sampled_from(FATES), max_size=30))
def test_what_was_given_up_is_undone_when_it_is_asked_for_again(
    stages: tuple[Stage, ...], fate: list[str]
) -> None:
    """As Commands.clear does it: another "undo", or "begin", for all that is kept."""
    world = World(stages, fate)
    outcome = ran(world)
    if outcome is Outcome.UNRESOLVED:
        kept = next(one for one in stages if world.last(one.name) is Did.KEPT)
        world.write(kept, Did.FAILED)
        world.fate.clear()
        outcome = ran(world)
    if outcome in (Outcome.QUARANTINED, Outcome.SUCCEEDED):
        again = Did.UNDO if outcome is Outcome.QUARANTINED else Did.BEGIN
        for one in stages:
            if world.last(one.name) is Did.KEPT:
                world.write(one, again)
        world.fate.clear()
        outcome = ran(world)
    assert not any(world.last(one.name) is Did.KEPT for one in stages)
    if outcome is not Outcome.SUCCEEDED:
        assert not any(one.undo and one.name in world.there for one in stages), "leaked"
