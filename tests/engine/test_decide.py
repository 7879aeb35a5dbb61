"""The table, row by row, and all of it."""

from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers import (
    CallFailed,
    FenceAnswer,
    Fenced,
    FenceFailed,
    Free,
    HostState,
    LeaseView,
    LookFailed,
    Nobody,
    NotReported,
    Owned,
    Report,
    Told,
    lease_view,
)
from engine.decide import ROWS, TABLE, Decision, Do, Where, decide
from engine.heard import Bounds, Facts, Fence, Lease, Word, recorded
from engine.unresolved import Unresolved
from protocol.record import Expectation, JobStatus

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
OTHER_JOB = "00000000-0000-0000-0000-000000000000"
GENERATION = 999  # the next one is 0
MINE = Expectation(JOB, GENERATION)
BOUNDS = Bounds()

UP = HostState.UP
ACTIVE = [Told("pending"), Told("running"), Told("aborting")]
DONE = Told("done")
ENDED = [Told("failed"), Told("aborted")]
HELD = Owned((2,))
EMPTY = Free({})
DAMAGE = [703, 4005, 4006, 4007, 4009]
NO_LOOK = [LookFailed(code) for code in (100, 358, 4004, 4011, 4012)]

# What rows 5 to 9 are about.
AS_5 = [
    Facts(UP, NotReported()),
    Facts(HostState.NOT_UP, CallFailed()),
    Facts(HostState.NOT_UP, Told("running")),  # told before it went down
    Facts(HostState.REMOVED, CallFailed()),
    Facts(UP, CallFailed(), calls_failed=BOUNDS.calls),
]
as_5 = pytest.mark.parametrize("facts", AS_5, ids=str)
ended = pytest.mark.parametrize("report", ENDED, ids=str)


def record(status: str, generation: object, **other: Any) -> Free:
    return Free(
        {"type": "JOB", "job_id": JOB, "job_status": status, "generation": generation} | other
    )


SUCCEEDED = record("SUCCEEDED", 0)
FENCED = record("FENCED", 0)
FAILED = record("FAILED", GENERATION)
PENDING = record("PENDING", GENERATION)
NOT_MINE = [
    record("SUCCEEDED", GENERATION),
    record("FENCED", GENERATION),
    record("FAILED", 0),
    record("PENDING", 0),
    record("PENDING", 998),
    record("PENDING", GENERATION, job_id=OTHER_JOB),
    record("SUCCEEDED", 0, job_id=OTHER_JOB),
    record("PENDING", GENERATION, type="DISK"),
    record("SUCCEEDED", 0, type=None),
    record("RUNNING", GENERATION),
    record("SUCCEEDED", 0, job_status=["SUCCEEDED"]),
    record("SUCCEEDED", "0"),
    record("SUCCEEDED", False),
    Free({"job_status": "SUCCEEDED"}),
]


def of(facts: Facts) -> Decision:
    return decide(facts, MINE, BOUNDS)


def up(report: Report, lease: LeaseView | None = None, fence: FenceAnswer | None = None) -> Facts:
    return Facts(UP, report, lease, fence)


def test_mine_is_the_type_in_any_case_the_job_id_and_the_generation_of_the_status() -> None:
    assert recorded(SUCCEEDED.metadata, MINE) is Lease.SUCCEEDED
    assert recorded(FENCED.metadata, MINE) is Lease.FENCED
    assert recorded(FAILED.metadata, MINE) is Lease.FAILED
    assert recorded(PENDING.metadata, MINE) is Lease.PENDING
    assert recorded({**PENDING.metadata, "type": "job", "more": 1}, MINE) is Lease.PENDING
    assert recorded({}, MINE) is Lease.EMPTY
    assert {recorded(free.metadata, MINE) for free in NOT_MINE} == {Lease.OTHER}


# --- the rows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("report", ACTIVE, ids=str)
def test_row_1_an_active_job_is_followed_and_its_lease_not_asked(report: Report) -> None:
    decision = of(up(report))
    assert (decision.row, decision.do) == ("1", Do.FOLLOW)


def test_row_2_a_host_that_says_done_is_no_verdict_before_the_lease_was_asked() -> None:
    assert of(up(DONE)).do is Do.ASK_LEASE


def test_row_2_done_and_succeeded_is_done() -> None:
    assert of(up(DONE, SUCCEEDED)) == Decision(
        "2", Do.DONE, "host and lease say that it succeeded", cut_off=False
    )


@pytest.mark.parametrize(("lease", "fenced"), [(FENCED, True), (FAILED, False)])
def test_row_2a_the_lease_wins_over_a_host_that_says_done(lease: Free, fenced: bool) -> None:
    decision = of(up(DONE, lease))
    assert (decision.row, decision.do, decision.fenced) == ("2a", Do.FAILED, fenced)
    assert decision.disagree


@pytest.mark.parametrize("lease", [HELD, *NO_LOOK], ids=str)
def test_row_2b_done_but_held_or_unreadable_is_asked_again(lease: LeaseView) -> None:
    decision = of(up(DONE, lease))
    assert (decision.row, decision.do) == ("2b", Do.BACK_OFF)


@pytest.mark.parametrize("lease", NO_LOOK, ids=str)
def test_row_2b_done_but_unreadable_is_unresolved_at_the_bound(lease: LeaseView) -> None:
    facts = replace(up(DONE, lease), looks_failed=BOUNDS.looks - 1)
    assert of(facts).do is Do.BACK_OFF
    decision = of(replace(facts, looks_failed=BOUNDS.looks))
    assert (decision.row, decision.do) == ("2b", Do.UNRESOLVED)
    assert decision.cause is Unresolved.UNREADABLE


def test_row_2b_done_but_held_is_unresolved_at_the_bound_of_row_5a() -> None:
    facts = replace(up(DONE, HELD), held_for=BOUNDS.held)
    assert of(facts).row == "5a"
    for code in (651, 100):
        assert of(replace(facts, fence=FenceFailed(code))).do is Do.BACK_OFF
    decision = of(replace(facts, fences=BOUNDS.fences))
    assert (decision.row, decision.do) == ("2b", Do.UNRESOLVED)
    assert decision.cause is Unresolved.STILL_HELD


@pytest.mark.parametrize("by_owner", [False, True])
def test_row_2b_a_fence_that_finds_it_held_does_not_make_a_done_job_running(by_owner: bool) -> None:
    decision = of(up(DONE, fence=FenceFailed(651, by_owner=by_owner)))
    assert (decision.row, decision.do) == ("2b", Do.BACK_OFF)


@pytest.mark.parametrize("lease", [PENDING, EMPTY], ids=str)
def test_row_2c_done_but_not_recorded_is_fenced_then_failed(lease: Free) -> None:
    decision = of(up(DONE, lease))
    assert (decision.row, decision.do, decision.where) == ("2c", Do.FENCE, Where.ANY)
    after = of(up(DONE, fence=Fenced()))
    assert (after.row, after.do, after.fenced) == ("2c", Do.FAILED, True)
    assert after.disagree


@pytest.mark.parametrize("lease", NOT_MINE, ids=str)
@pytest.mark.parametrize("facts", [up(ACTIVE[1]), up(DONE), up(ENDED[0]), *AS_5], ids=str)
def test_row_2d_a_record_that_is_not_mine_is_unresolved(facts: Facts, lease: Free) -> None:
    decision = of(replace(facts, lease=lease))
    assert (decision.row, decision.do) == ("2d", Do.UNRESOLVED)
    assert decision.cause is Unresolved.OTHER_RECORD


@pytest.mark.parametrize("facts", [up(ACTIVE[1]), up(DONE), up(ENDED[0]), *AS_5], ids=str)
def test_row_2d_a_lease_that_is_gone_before_a_verdict_is_unresolved(facts: Facts) -> None:
    decision = of(replace(facts, lease=LookFailed(936), looks_failed=1))
    assert (decision.row, decision.cause) == ("2d", Unresolved.LEASE_GONE)


@pytest.mark.parametrize("code", DAMAGE)
@pytest.mark.parametrize("facts", [up(DONE), up(ENDED[0]), *AS_5], ids=str)
def test_row_2d_damage_is_unresolved_once_it_was_seen_some_times(facts: Facts, code: int) -> None:
    facts = replace(facts, lease=LookFailed(code), looks_failed=3, damaged_looks=2)
    assert (of(facts).row, of(facts).do) == ("2d", Do.BACK_OFF)
    decision = of(replace(facts, damaged_looks=BOUNDS.damaged_looks))
    assert (decision.row, decision.cause) == ("2d", Unresolved.CORRUPT)


@ended
def test_row_3_a_job_that_ended_without_success_is_no_verdict_before_the_lease(
    report: Report,
) -> None:
    assert (of(up(report)).row, of(up(report)).do) == ("3", Do.ASK_LEASE)


@ended
@pytest.mark.parametrize(("lease", "fenced"), [(FENCED, True), (FAILED, False)])
def test_row_3_failed_on_both_is_failed(report: Report, lease: Free, fenced: bool) -> None:
    decision = of(up(report, lease))
    assert (decision.row, decision.do, decision.fenced) == ("3", Do.FAILED, fenced)
    assert not decision.disagree


@ended
@pytest.mark.parametrize("lease", [PENDING, EMPTY], ids=str)
def test_row_3_failed_but_not_recorded_is_fenced_then_failed(report: Report, lease: Free) -> None:
    decision = of(up(report, lease))
    assert (decision.row, decision.do, decision.where) == ("3", Do.FENCE, Where.ANY)
    after = of(up(report, fence=Fenced()))
    assert (after.row, after.do, after.fenced) == ("3", Do.FAILED, True)


@ended
def test_row_3_failed_but_held_is_row_5(report: Report) -> None:
    assert (of(up(report, HELD)).row, of(up(report, HELD)).do) == ("5", Do.RUNNING)


@ended
def test_row_3_failed_but_recorded_as_succeeded_is_done_by_row_6(report: Report) -> None:
    decision = of(up(report, SUCCEEDED))
    assert (decision.row, decision.do, decision.disagree) == ("6", Do.DONE, True)


def test_row_4_a_failed_call_is_tried_again_and_then_the_lease_is_asked() -> None:
    for calls_failed in range(1, BOUNDS.calls):
        decision = of(Facts(UP, CallFailed(), calls_failed=calls_failed))
        assert (decision.row, decision.do) == ("4", Do.ASK_HOST)
    assert of(Facts(UP, CallFailed(), calls_failed=BOUNDS.calls)).do is Do.ASK_LEASE


def test_row_4_a_status_that_nobody_knows_is_no_answer() -> None:
    assert of(Facts(UP, Told("sleeping"), calls_failed=1)).row == "4"
    assert of(Facts(UP, Told("sleeping"), calls_failed=BOUNDS.calls)).do is Do.ASK_LEASE


@as_5
def test_row_5_without_a_word_of_the_host_the_lease_is_asked(facts: Facts) -> None:
    assert (of(facts).row, of(facts).do) == ("5", Do.ASK_LEASE)


@as_5
def test_row_5_a_held_lease_means_running_with_an_alarm_after_a_time(facts: Facts) -> None:
    decision = of(replace(facts, lease=HELD))
    assert (decision.row, decision.do, decision.alarm) == ("5", Do.RUNNING, False)
    assert of(replace(facts, lease=HELD, unheard_for=BOUNDS.alarm)).alarm


def test_row_5_a_host_that_does_not_answer_is_never_fenced_while_the_lease_is_held() -> None:
    for facts in AS_5[1:]:
        decision = of(replace(facts, lease=HELD, held_for=1e9, fences=99))
        assert (decision.row, decision.do) == ("5", Do.RUNNING)


ANSWERS = [NotReported(), DONE, *ENDED]


@pytest.mark.parametrize("report", ANSWERS, ids=str)
def test_row_5a_a_lease_held_for_too_long_is_fenced_on_its_owner_first(report: Report) -> None:
    assert of(replace(up(report, HELD), held_for=BOUNDS.held - 1)).do is not Do.FENCE
    facts = replace(up(report, HELD), held_for=BOUNDS.held)
    decision = of(facts)
    assert (decision.row, decision.do, decision.where) == ("5a", Do.FENCE, Where.OWNER)
    no_answer = of(replace(facts, lease=None, fence=FenceFailed(100, by_owner=True)))
    assert (no_answer.row, no_answer.do, no_answer.where) == ("5a", Do.FENCE, Where.ANY)


@pytest.mark.parametrize("report", [NotReported(), *ENDED], ids=str)
def test_row_5a_an_owner_that_really_holds_it_is_row_5(report: Report) -> None:
    decision = of(up(report, fence=FenceFailed(651, by_owner=True)))
    assert (decision.row, decision.do) == ("5", Do.RUNNING)


@pytest.mark.parametrize("report", [NotReported(), *ENDED], ids=str)
def test_row_5a_is_unresolved_at_the_bound(report: Report) -> None:
    decision = of(replace(up(report, HELD), held_for=BOUNDS.held, fences=BOUNDS.fences))
    assert (decision.row, decision.cause) == ("5a", Unresolved.STILL_HELD)


@as_5
def test_row_6_succeeded_is_done(facts: Facts) -> None:
    decision = of(replace(facts, lease=SUCCEEDED))
    assert (decision.row, decision.do, decision.disagree) == ("6", Do.DONE, False)


@as_5
@pytest.mark.parametrize(("lease", "fenced"), [(FENCED, True), (FAILED, False)])
def test_row_7_failed_or_fenced_is_failed(facts: Facts, lease: Free, fenced: bool) -> None:
    decision = of(replace(facts, lease=lease))
    assert (decision.row, decision.do, decision.fenced) == ("7", Do.FAILED, fenced)


@as_5
@pytest.mark.parametrize("lease", [PENDING, EMPTY], ids=str)
def test_row_8_pending_or_empty_is_fenced_and_asked_again(facts: Facts, lease: Free) -> None:
    decision = of(replace(facts, lease=lease))
    assert (decision.row, decision.do, decision.where) == ("8", Do.FENCE, Where.ANY)
    assert of(replace(facts, fence=Fenced())).do is Do.ASK_LEASE
    assert of(replace(facts, fence=Fenced(), lease=FENCED)).row == "7"
    # That the fence was done is known, so the job has failed even if nobody can look now.
    views: list[LeaseView] = [*NO_LOOK, Nobody()]
    for view in views:
        after = of(replace(facts, fence=Fenced(), lease=view))
        assert (after.row, after.do, after.fenced) == ("8", Do.FAILED, True)


@as_5
@pytest.mark.parametrize("lease", [PENDING, EMPTY], ids=str)
def test_row_8_one_fence_a_round_even_if_hosts_disagree(facts: Facts, lease: Free) -> None:
    for fence in (Fenced(), FenceFailed(912)):
        decision = of(replace(facts, fence=fence, lease=lease))
        assert (decision.row, decision.do) == ("8", Do.BACK_OFF)


@pytest.mark.parametrize("facts", [*AS_5, *map(up, ENDED)], ids=str)
@pytest.mark.parametrize("lease", NO_LOOK, ids=str)
def test_row_9_a_lease_that_cannot_be_read_is_fenced_on_another_host(
    facts: Facts, lease: LeaseView
) -> None:
    decision = of(replace(facts, lease=lease))
    assert (decision.row, decision.do, decision.where) == ("9", Do.FENCE, Where.OTHER)
    no_answer = of(replace(facts, fence=FenceFailed(100)))
    assert (no_answer.row, no_answer.do) == ("9", Do.BACK_OFF)
    bound = of(replace(facts, lease=lease, fences=BOUNDS.fences))
    assert (bound.row, bound.cause) == ("12", Unresolved.FENCE_BOUND)


@as_5
def test_row_9_without_any_host_to_ask_it_waits_with_an_alarm_and_a_bound(facts: Facts) -> None:
    facts = replace(facts, lease=Nobody())
    assert of(facts).do is Do.BACK_OFF
    assert of(replace(facts, unheard_for=BOUNDS.alarm)).alarm
    decision = of(replace(facts, nobody_for=BOUNDS.nobody))
    assert (decision.row, decision.cause) == ("9", Unresolved.NOBODY)


@as_5
def test_row_10_a_fence_refused_with_651_is_row_5(facts: Facts) -> None:
    decision = of(replace(facts, fence=FenceFailed(651)))
    assert (decision.row, decision.do) == ("10", Do.RUNNING)


@pytest.mark.parametrize("facts", [up(DONE), *map(up, ENDED), *AS_5], ids=str)
def test_row_11_a_fence_refused_with_912_asks_the_lease_again(facts: Facts) -> None:
    decision = of(replace(facts, fence=FenceFailed(912)))
    assert (decision.row, decision.do) == ("11", Do.ASK_LEASE)
    succeeded = of(replace(facts, fence=FenceFailed(912), lease=SUCCEEDED))
    assert succeeded.do is Do.DONE
    assert of(replace(facts, fence=FenceFailed(912), lease=FAILED)).do is Do.FAILED


@pytest.mark.parametrize("facts", [up(DONE), *map(up, ENDED), *AS_5], ids=str)
@pytest.mark.parametrize("code", [911, 2009, 936])
@pytest.mark.parametrize("by_owner", [False, True])
def test_row_12_any_other_refusal_is_unresolved(facts: Facts, code: int, by_owner: bool) -> None:
    decision = of(replace(facts, fence=FenceFailed(code, by_owner=by_owner)))
    assert (decision.row, decision.cause) == ("12", Unresolved.FENCE_REFUSED)


@pytest.mark.parametrize("facts", [up(DONE), *map(up, ENDED), *AS_5], ids=str)
@pytest.mark.parametrize("lease", [PENDING, EMPTY], ids=str)
def test_row_12_a_fence_tried_too_often_is_unresolved(facts: Facts, lease: Free) -> None:
    decision = of(replace(facts, lease=lease, fences=BOUNDS.fences))
    assert (decision.row, decision.cause) == ("12", Unresolved.FENCE_BOUND)


@pytest.mark.parametrize("lease", [SUCCEEDED, FAILED, FENCED], ids=str)
def test_row_13_the_access_of_a_host_that_did_not_tell_the_end_is_cut_first(lease: Free) -> None:
    for facts in AS_5:
        assert of(replace(facts, lease=lease)).cut_off
    for report in (DONE, *ENDED):
        assert not of(up(report, lease)).cut_off


# --- all of it ----------------------------------------------------------------------------------


def test_every_row_and_sub_row_is_in_the_table() -> None:
    numbers = {"1", "2", "2a", "2b", "2c", "2d", "3", "4", "5", "5a", "6", "7", "8", "9"}
    assert {row.number for row in ROWS} == numbers | {"10", "11", "12"}  # 13 is cut_off


def test_every_combination_is_in_exactly_one_row() -> None:
    often = Counter(cell for row in ROWS for cell in row.cells)
    assert set(often) == set(product(Word, Lease, Fence)) == set(TABLE)
    assert {cell for cell, times in often.items() if times > 1} == set()


def test_no_row_is_done_or_failed_without_the_record_saying_so() -> None:
    for (_, lease, fence), row in TABLE.items():
        if row.do is Do.DONE:
            assert lease is Lease.SUCCEEDED
        if row.do is Do.FAILED:
            assert lease in (Lease.FAILED, Lease.FENCED) or fence is Fence.DONE
            assert lease not in (Lease.HELD, Lease.OVERDUE, Lease.SUCCEEDED, Lease.PENDING)


def test_nothing_is_fenced_on_a_held_lease_before_it_is_overdue() -> None:
    fenced = {lease for (_, lease, _), row in TABLE.items() if row.do is Do.FENCE}
    assert Lease.HELD not in fenced


def test_every_unresolved_row_has_a_cause_and_no_other_row_has() -> None:
    assert [row for row in ROWS if (row.do is Do.UNRESOLVED) != (row.cause is not None)] == []
    assert {row.cause for row in ROWS} - {None} == set(Unresolved)


def test_every_fence_says_where_and_no_other_row_does() -> None:
    assert [row for row in ROWS if (row.do is Do.FENCE) != (row.where is not None)] == []


def test_a_round_asks_at_most_four_questions_whatever_the_answers_are() -> None:
    """Follow every answer to every question through the table."""
    looks = set(Lease) - {Lease.UNASKED}
    fences = set(Fence) - {Fence.UNTRIED, Fence.SPENT, Fence.NO_OWNER}

    def questions(word: Word, lease: Lease, fence: Fence) -> int:
        row = TABLE[word, lease, fence]
        if row.do is Do.ASK_LEASE:
            return 1 + max(questions(word, look, fence) for look in looks)
        if row.do is Do.FENCE:
            owner = {Fence.NO_OWNER} if row.where is Where.OWNER else {Fence.NO_ANSWER}
            return 1 + max(questions(word, Lease.UNASKED, answer) for answer in fences | owner)
        return 0

    for word, fence in product(Word, (Fence.UNTRIED, Fence.SPENT)):
        assert questions(word, Lease.UNASKED, fence) <= 4


json = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1001) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=3,
)
values = st.sampled_from(
    ["JOB", "job", JOB, OTHER_JOB, 0, 998, 999, False, 0.0, *JobStatus, "RUNNING"]
)
keys = st.sampled_from(["type", "job_id", "job_status", "generation"])
nearly = st.builds(
    lambda free, key, value: Free({**free.metadata, key: value}),
    st.sampled_from([SUCCEEDED, FENCED, FAILED, PENDING]),
    keys,
    values | json,
)
reports: st.SearchStrategy[Report] = st.one_of(
    st.sampled_from([*ACTIVE, DONE, *ENDED]),
    st.builds(Told, st.text(max_size=8)),
    st.just(NotReported()),
    st.just(CallFailed()),
)
codes = st.sampled_from([100, 651, 911, 912, 936, 2009, 703, 4004, *DAMAGE]) | st.integers()
leases: st.SearchStrategy[LeaseView | None] = st.one_of(
    st.none(),
    st.builds(Owned, st.tuples(st.integers(1, 2000))),
    nearly,
    st.builds(Free, st.dictionaries(keys | st.text(max_size=4), values | json)),
    st.builds(LookFailed, codes),
    st.just(Nobody()),
)
fences: st.SearchStrategy[FenceAnswer | None] = st.one_of(
    st.none(), st.just(Fenced()), st.builds(FenceFailed, codes, by_owner=st.booleans())
)
counts = st.integers(0, 12)
seconds = st.floats(0, 1e5)
moments = st.builds(
    Facts,
    st.sampled_from(HostState),
    reports,
    leases,
    fences,
    calls_failed=counts,
    looks_failed=counts,
    damaged_looks=counts,
    fences=counts,
    held_for=seconds,
    unheard_for=seconds,
    nobody_for=seconds,
)


@given(moments)
def test_there_is_one_safe_answer_to_every_moment(facts: Facts) -> None:
    decision = of(facts)
    assert of(facts) == decision
    if decision.do is Do.DONE:
        assert isinstance(facts.lease, Free)
        assert facts.lease.metadata["job_status"] == "SUCCEEDED"
        assert facts.lease.metadata["job_id"] == JOB
        assert facts.lease.metadata["generation"] == 0
    if decision.do is Do.FAILED and not isinstance(facts.fence, Fenced):
        assert isinstance(facts.lease, Free)
        assert (facts.lease.metadata["job_status"], facts.lease.metadata["generation"]) in (
            ("FAILED", 999),
            ("FENCED", 0),
        )


@given(json | st.dictionaries(st.sampled_from(["owners", "version", "metadata"]), json))
def test_every_answer_of_a_host_is_a_view_of_the_lease(answer: object) -> None:
    view = lease_view(answer)
    if isinstance(view, Free | Owned):
        assert isinstance(answer, dict)
    else:
        assert view.code == 100 if isinstance(view, LookFailed) else False


def test_the_status_of_a_lease_is_read_as_it_comes() -> None:
    assert lease_view({"owners": [2], "version": 7}) == Owned((2,))
    assert lease_view({"owners": [], "version": 7, "metadata": {}}) == EMPTY
    assert isinstance(lease_view({"owners": [], "version": 7}), LookFailed)
    assert isinstance(lease_view({"owners": [True], "version": 7}), LookFailed)
