"""The judgement about a local disk, row by row, and what no row and no history ever allows."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from host.local_disk_judge import TABLE, Decision, Facts, Known, Lease, judge, unused

FREE = (Lease.NONE, Lease.MISSING, Lease.FAILED, Lease.FENCED, Lease.SUCCEEDED, Lease.PENDING)
FILLING = Facts(filling=True, lease=Lease.PENDING)
READY = Facts(lease=Lease.SUCCEEDED)
STALE = replace(READY, changed=True)
KEEP = 600.0
VM = "dddddddd-eeee-4fff-8000-111111111111"


@pytest.mark.parametrize(
    ("facts", "decision"),
    [
        # One line for each row of the table, in its order.
        (Facts(exists=False), Decision.CREATE),
        (replace(READY, ours=False), Decision.REFUSED),
        (replace(FILLING, lease=Lease.OWNED), Decision.WAIT),
        (replace(FILLING, lease=Lease.UNKNOWN), Decision.UNCERTAIN),
        (replace(FILLING, open=True), Decision.IN_USE),
        (replace(FILLING, started=True), Decision.REFUSED),
        (FILLING, Decision.AGAIN),
        (replace(READY, another=True, open=True), Decision.IN_USE),
        (replace(READY, another=True, started=True), Decision.REFUSED),
        (READY, Decision.USE),
        (replace(READY, changed=True, started=True), Decision.USE_CHANGED),
        (replace(READY, same_size=False, started=True), Decision.REFUSED),
        (replace(READY, same_size=False, lease=Lease.OWNED), Decision.WAIT),
        (replace(READY, same_size=False, lease=Lease.UNKNOWN), Decision.UNCERTAIN),
        (replace(READY, changed=True, open=True), Decision.USE_CHANGED),
        (replace(READY, same_size=False, open=True), Decision.IN_USE),
        (replace(READY, again=True), Decision.AGAIN),
        (replace(READY, same_size=False), Decision.AGAIN),
        (replace(READY, changed=True), Decision.AGAIN),
    ],
)
def test_each_row(facts: Facts, decision: Decision) -> None:
    assert judge(facts).decision is decision


def test_each_row_is_needed() -> None:
    """A row that no facts reach says nothing."""
    reached = {judge_row(facts) for facts in everything()}
    assert reached == set(range(len(TABLE)))


@pytest.mark.parametrize(
    ("facts", "decision", "fence"),
    [
        (replace(FILLING, alive=True), Decision.WAIT, False),  # it waits in the queue
        (replace(FILLING, lease=Lease.FAILED), Decision.AGAIN, False),
        (replace(FILLING, lease=Lease.FENCED), Decision.AGAIN, False),
        (replace(FILLING, lease=Lease.SUCCEEDED), Decision.AGAIN, False),
        (replace(FILLING, lease=Lease.MISSING), Decision.AGAIN, False),
        (replace(FILLING, lease=Lease.NONE), Decision.AGAIN, False),  # oVirt's hook has left it
        (FILLING, Decision.AGAIN, True),
        (replace(FILLING, started=True, again=True), Decision.AGAIN, True),
        (replace(READY, lease=Lease.PENDING), Decision.USE, True),  # its worker died late
        (replace(READY, lease=Lease.PENDING, alive=True), Decision.USE, False),
        (replace(READY, lease=Lease.OWNED), Decision.USE, False),  # it is just being recorded
        (replace(READY, lease=Lease.FAILED), Decision.USE, False),
        (replace(READY, lease=Lease.UNKNOWN), Decision.USE, False),
        (replace(READY, lease=Lease.NONE, open=True), Decision.USE, False),
        (replace(READY, same_size=None), Decision.USE, False),  # the source is not there
        (replace(READY, started=True, again=True), Decision.AGAIN, False),
        (replace(READY, again=True, open=True), Decision.IN_USE, False),
        (replace(READY, again=True, lease=Lease.OWNED), Decision.WAIT, False),
        (
            replace(READY, changed=True, started=True, lease=Lease.PENDING),
            Decision.USE_CHANGED,
            True,
        ),
        (replace(STALE, lease=Lease.PENDING), Decision.AGAIN, True),
    ],
)
def test_what_else_the_issue_names(facts: Facts, decision: Decision, fence: bool) -> None:
    verdict = judge(facts)
    assert (verdict.decision, verdict.fence) == (decision, fence)


def everything() -> list[Facts]:
    names = ("exists", "ours", "filling", "started", "open", "alive", "changed", "another", "again")
    return [
        Facts(**dict(zip(names, values, strict=True)), lease=lease, same_size=size)
        for values in itertools.product((False, True), repeat=len(names))
        for lease in Lease
        for size in (True, False, None)
    ]


def judge_row(facts: Facts) -> int:
    found = facts.looked_at()
    return next(
        number
        for number, (conditions, _, _) in enumerate(TABLE)
        if all(found[name] is value for name, value in conditions.items())
    )


def test_nothing_is_removed_under_a_writer_nor_what_a_vm_has_written() -> None:
    for facts in everything():
        verdict = judge(facts)
        if verdict.decision is not Decision.AGAIN:
            continue
        assert (facts.exists, facts.ours) == (True, True), facts
        assert (facts.alive, facts.open) == (False, False), facts
        assert facts.lease in FREE, facts
        assert not facts.started or facts.again, facts
        # A ready disk only if it is not what is wanted.
        assert facts.filling or facts.again or facts.changed or facts.same_size is False, facts


def test_no_vm_is_given_what_another_one_writes_to_or_has_written() -> None:
    for facts in everything():
        if facts.another and judge(facts).decision in (Decision.USE, Decision.USE_CHANGED):
            assert not facts.started
            assert not facts.open


def test_a_ready_disk_is_used_whatever_its_lease_says() -> None:
    for lease in Lease:
        assert judge(replace(READY, lease=lease)).decision is Decision.USE


def test_nobody_is_fenced_who_may_still_end_by_itself() -> None:
    for facts in everything():
        if judge(facts).fence:
            assert facts.lease is Lease.PENDING
            assert not facts.alive


def known(facts: Facts, *, age: float | None = KEEP, vm_id: str | None = VM) -> Known:
    return Known(facts, vm_id, age)


@pytest.mark.parametrize(
    ("disk", "vms", "needless"),
    [
        (known(FILLING), None, True),
        (known(FILLING, age=None), None, True),
        (known(FILLING, age=KEEP - 1), None, False),
        (known(FILLING, age=-5.0), None, False),  # the clock was set back
        (known(replace(FILLING, alive=True)), None, False),
        (known(replace(FILLING, open=True)), None, False),
        (known(replace(FILLING, lease=Lease.OWNED)), None, False),
        (known(replace(FILLING, lease=Lease.UNKNOWN)), None, False),
        (known(replace(FILLING, started=True)), None, False),
        (known(replace(FILLING, ours=False)), [], False),
        (known(READY), None, False),
        (known(READY), [VM], False),
        (known(READY), [], True),
        (known(replace(READY, started=True)), [], True),
        (known(READY, vm_id=None), [], False),
        (known(READY, age=KEEP - 1), [], False),
        (known(replace(READY, open=True)), [], False),
        (known(replace(READY, lease=Lease.OWNED)), [], False),
        (Known(Facts(exists=False), None, None), [], False),
    ],
)
def test_what_nothing_needs(disk: Known, vms: list[str] | None, needless: bool) -> None:
    assert (unused(disk, KEEP, vms) is not None) is needless


@given(
    st.builds(
        Facts,
        filling=st.booleans(),
        started=st.booleans(),
        open=st.booleans(),
        alive=st.booleans(),
        lease=st.sampled_from(Lease),
        ours=st.booleans(),
    ),
    st.floats(allow_nan=False),
    st.sampled_from([None, [], [VM]]),
)
def test_what_is_in_use_is_needed(facts: Facts, age: float, vms: list[str] | None) -> None:
    if unused(known(facts, age=age), KEEP, vms) is not None:
        assert facts.ours
        assert not facts.open
        assert not facts.alive
        assert age >= KEEP
        assert facts.lease in FREE
        assert facts.filling or vms == []


class OneDisk(RuleBasedStateMachine):
    """A disk, its copy and its VM, through any history of starts, deaths and endings.

    Every look is judged, and what is decided is done. The model remembers what the disk really
    holds, which no judgement is told.
    """

    def __init__(self) -> None:
        super().__init__()
        self.exists = self.filling = self.started = self.open = False
        self.lease = Lease.NONE
        self.queued = self.writing = False
        self.complete = self.vm_wrote = False
        self.template = self.copied_from = 0
        self.lost: str | None = None

    def facts(self, *, again: bool = False) -> Facts:
        return Facts(
            exists=self.exists,
            filling=self.filling,
            started=self.started,
            open=self.open or self.writing,
            alive=self.queued or self.writing,
            lease=self.lease,
            changed=self.exists and self.template != self.copied_from,
            again=again,
        )

    def start(self, *, again: bool) -> None:
        verdict = judge(self.facts(again=again))
        if verdict.fence:
            assert not self.writing
            assert not self.queued
            self.lease = Lease.FENCED
        if verdict.decision is Decision.AGAIN:
            if self.queued or self.writing:
                self.lost = "a disk was removed under its writer"
            if self.open:
                self.lost = "an open disk was removed"
            if self.vm_wrote and not again:
                self.lost = "what a VM has written was removed"
            if self.complete and not again and self.template == self.copied_from:
                self.lost = "a ready disk was removed that is what was wanted"
            self.exists = False
        if verdict.decision in (Decision.AGAIN, Decision.CREATE):
            self.exists = self.filling = self.queued = True
            self.started = self.complete = self.vm_wrote = False
            self.lease, self.copied_from = Lease.PENDING, self.template
        if verdict.decision in (Decision.USE, Decision.USE_CHANGED):
            if not self.complete:
                self.lost = "a disk was handed out that is not complete"
            self.started = True

    @rule(again=st.booleans())
    def a_vm_is_started(self, again: bool) -> None:
        self.start(again=again)

    @precondition(lambda self: self.queued)
    @rule()
    def the_copy_begins(self) -> None:
        self.queued, self.writing, self.lease = False, True, Lease.OWNED

    @precondition(lambda self: self.writing)
    @rule()
    def all_is_copied(self) -> None:
        self.complete, self.filling = True, False  # flushed, then the tag

    @precondition(lambda self: self.writing and self.complete)
    @rule()
    def it_is_recorded(self) -> None:
        self.writing, self.lease = False, Lease.SUCCEEDED

    @precondition(lambda self: self.writing)
    @rule()
    def the_copy_fails(self) -> None:
        self.writing, self.lease = False, Lease.FAILED

    @precondition(lambda self: self.writing or self.queued)
    @rule()
    def its_process_is_killed(self) -> None:
        self.writing = self.queued = False
        self.lease = Lease.PENDING

    @precondition(lambda self: self.exists and not self.writing)
    @rule(lease=st.sampled_from([Lease.MISSING, Lease.UNKNOWN]))
    def its_lease_cannot_be_had(self, lease: Lease) -> None:
        if not self.queued:
            self.lease = lease

    @precondition(lambda self: self.started and self.complete)
    @rule()
    def the_vm_runs(self) -> None:
        self.open = self.vm_wrote = True

    @precondition(lambda self: self.open)
    @rule()
    def the_vm_stops(self) -> None:
        self.open = False

    @rule()
    def the_template_changes(self) -> None:
        self.template += 1

    @rule(vm_exists=st.booleans())
    def it_is_collected(self, vm_exists: bool) -> None:
        reason = unused(known(self.facts()), KEEP, [VM] if vm_exists else None)
        if reason is not None:
            if self.queued or self.writing or self.open or self.complete:
                self.lost = f"a disk that is needed was collected: {reason}"
            self.exists = self.filling = False

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.lost is None


TestOneDisk = OneDisk.TestCase
