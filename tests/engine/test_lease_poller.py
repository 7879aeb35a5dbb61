"""The poller: whom it asks, how often, and what it tells. The clock jumps when nobody can run."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from engine.answers import Fenced, FenceFailed, Free, HostState, Owned, Told
from engine.decide import Do
from engine.heard import Bounds
from engine.host_rounds import SOON
from engine.judgement import End, Verdict
from engine.lease_poller import ExternalLeasePoller, Judged, Looked, Standing, resolve
from engine.unresolved import Unresolved
from protocol.errors import (
    AcquireLockFailure,
    CannotConnect,
    Error,
    GenerationMismatch,
    JobStatusMismatch,
    NoSuchLease,
    SanlockLVBError,
)
from protocol.messages import LeaseRef
from protocol.record import Expectation, JobStatus
from protocol.reported import Reported
from tests.engine.world import HOSTS, JOB, WATCH, Harm, Step, World

SILENT = CannotConnect("host", "no answer")
HELD = {"owners": [2], "version": 3}
PENDING = dict(World().record)
FREE = {"owners": [], "version": 3, "metadata": PENDING}
SUCCEEDED = FREE | {"metadata": PENDING | {"job_status": "SUCCEEDED", "generation": 0}}
FAILED = FREE | {"metadata": PENDING | {"job_status": "FAILED"}}
FENCED = FREE | {"metadata": PENDING | {"job_status": "FENCED", "generation": 0}}


def info(status: str, job_id: str = JOB, **more: Any) -> dict[str, Any]:
    return {"id": job_id, "status": status} | more


def jobs(status: str, **more: Any) -> dict[str, Any]:
    return {JOB: info(status, **more)}


@dataclass
class FakeHosts:
    """Answers are values, errors to raise, or lists with one for each call; the last one stays."""

    reports: dict[str, Any] = field(default_factory=dict)
    looks: dict[str, Any] = field(default_factory=dict)
    fences: dict[str, Any] = field(default_factory=dict)
    states: dict[str, HostState] = field(default_factory=dict)
    owners: dict[int, Any] = field(default_factory=dict)
    before: Callable[[str, str], Awaitable[None]] | None = None  # each answer: verb, host
    asked: list[tuple[str, str, float]] = field(default_factory=list)  # verb, host, when
    job_ids: list[Sequence[str]] = field(default_factory=list)

    def state(self, host: str) -> HostState:
        return self.states.get(host, HostState.UP)

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        return [host for host in self.looks if self.state(host) is HostState.UP]

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        answer = self.owners.get(host_id)
        if isinstance(answer, Exception):
            raise answer
        return None if answer is None else str(answer)

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        self.job_ids.append(job_ids)
        return await self._answer("jobs", host, self.reports)  # type: ignore[no-any-return]

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        return await self._answer("status", host, self.looks)  # type: ignore[no-any-return]

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        assert expected == Expectation(JOB, WATCH.generation, JobStatus.PENDING)
        await self._answer("fence", host, self.fences)

    async def _answer(self, verb: str, host: str, answers: dict[str, Any]) -> Any:
        self.asked.append((verb, host, trio.current_time()))
        if self.before:
            await self.before(verb, host)
        await trio.lowlevel.checkpoint()
        answer = answers.get(host, SILENT)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def of(self, verb: str) -> list[str]:
        return [host for asked, host, _ in self.asked if asked == verb]

    def times(self, verb: str) -> list[float]:
        first = self.asked[0][2]
        return [when - first for asked, _, when in self.asked if asked == verb]


async def judged(hosts: FakeHosts, tell: Any = None, **options: Any) -> Verdict:
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, tell=tell or (lambda event: None), **options)
        verdict = await poller.judge(WATCH)
    # The nursery ends by itself: nobody is polled any more.
    return verdict


# --- whom it asks, and when ---------------------------------------------------------------------


async def test_a_job_is_followed_until_host_and_lease_say_that_it_succeeded(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": [jobs("pending"), jobs("running"), jobs("done")]}, {"b": SUCCEEDED})
    events: list[Any] = []
    verdict = await judged(hosts, events.append)
    assert (verdict.end, verdict.row, verdict.cut_off) == (End.DONE, "2", False)
    assert [type(event) for event in events] == [Looked, Looked, Judged]
    assert [event.info["status"] for event in events[:2]] == ["pending", "running"]
    assert events[-1] == Judged(WATCH, verdict)
    assert hosts.of("status") == ["b"]


async def test_rounds_come_after_1_2_4_8_and_then_every_10_seconds(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": [jobs("running")] * 8 + [jobs("done")]}, {"b": SUCCEEDED})
    await judged(hosts)
    assert hosts.times("jobs") == [0, 1, 3, 7, 15, 25, 35, 45, 55]


async def test_rounds_are_quick_again_when_something_changes(autojump_clock: MockClock) -> None:
    reports = [jobs("running")] * 7 + [SILENT, jobs("running"), jobs("running"), jobs("done")]
    hosts = FakeHosts({"a": reports}, {"b": SUCCEEDED})
    await judged(hosts)
    assert hosts.times("jobs") == [0, 1, 3, 7, 15, 25, 35, 45, 46, 47, 49]


async def test_a_host_that_tells_of_a_change_is_asked_soon(autojump_clock: MockClock) -> None:
    hosts = FakeHosts({"a": jobs("running")}, {"b": SUCCEEDED})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
        await trio.sleep(47)  # two seconds after the last round
        poller.hurry("b")  # of which no job is known
        poller.hurry("a")
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert hosts.times("jobs") == [0, 1, 3, 7, 15, 25, 35, 45, 48]


async def test_a_host_that_tells_of_the_end_of_a_job_is_asked_at_once_and_once(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": jobs("running")}, {"b": SUCCEEDED})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
        await trio.sleep(5)  # the next round would be at 7
        poller.job_ended("b")  # of which no job is known
        poller.job_ended("a")
        await trio.sleep(7)
        nursery.cancel_scope.cancel()
    assert hosts.times("jobs") == [0, 1, 3, 5, 7, 11]


async def test_an_end_that_is_told_during_a_round_has_the_host_asked_again_soon(
    autojump_clock: MockClock,
) -> None:
    async def told_meanwhile(verb: str, host: str) -> None:
        if verb == "jobs" and len(hosts.of("jobs")) == 1:
            poller.job_ended("a")

    hosts = FakeHosts({"a": [jobs("running"), jobs("done")]}, {"b": SUCCEEDED})
    hosts.before = told_meanwhile
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
    assert hosts.times("jobs") == [0, SOON]


async def test_however_often_a_host_tells_of_ends_it_is_asked_now_and_then(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": jobs("running")}, {"b": SUCCEEDED})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
        for _ in range(1000):
            poller.job_ended("a")
            await trio.sleep(SOON / 100)
        nursery.cancel_scope.cancel()
    assert 5 < len(hosts.of("jobs")) <= 12


async def test_an_end_that_is_told_while_the_lease_is_looked_at_makes_nobody_spin(
    autojump_clock: MockClock,
) -> None:
    async def hangs(verb: str, host: str) -> None:
        if verb == "status":
            poller.job_ended("a")
            await trio.sleep(20)

    hosts = FakeHosts({"a": jobs("done")}, {"b": SUCCEEDED})
    hosts.before = hangs
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
    assert hosts.times("jobs") == [0]
    assert hosts.times("status") == [0]


async def test_a_new_job_does_not_wait_for_the_pause_of_another(autojump_clock: MockClock) -> None:
    hosts = FakeHosts(
        {"a": {JOB: info("running"), "new": info("running", "new")}}, {"b": SUCCEEDED}
    )
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        nursery.start_soon(poller.judge, WATCH)
        await trio.sleep(16)  # the next round would be at 25
        nursery.start_soon(poller.judge, replace(WATCH, job_id="new"))
        await trio.sleep(1.5)
        nursery.cancel_scope.cancel()
    assert hosts.times("jobs") == [0, 1, 3, 7, 15, 17]
    assert set(hosts.job_ids[-1]) == {JOB, "new"}


async def test_one_call_a_host_and_round_however_many_jobs_it_has(
    autojump_clock: MockClock,
) -> None:
    names = [f"job {number}" for number in range(1000)]
    report = {name: info("running", name) for name in names}
    hosts = FakeHosts({"a": report, "z": report})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        for number, name in enumerate(names):
            host = "z" if number % 2 else "a"
            nursery.start_soon(poller.judge, replace(WATCH, job_id=name, host=host))
        await trio.sleep(15.5)
        nursery.cancel_scope.cancel()
    assert Counter(hosts.of("jobs")) == {"a": 5, "z": 5}  # at 0, 1, 3, 7, 15
    assert {len(ids) for ids in hosts.job_ids} == {500}


async def test_the_jobs_own_host_is_asked_in_every_round_while_the_lease_is_held(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts(
        {"a": [SILENT] * 9 + [jobs("running"), jobs("done")]},
        {"b": [HELD] * 9 + [SUCCEEDED]},
        states={"a": HostState.NOT_UP},
    )
    events: list[Any] = []
    verdict = await judged(hosts, events.append)
    assert (verdict.end, verdict.row) == (End.DONE, "2")
    assert [event.row for event in events[:-1]] == ["5"] * 9 + ["1"]
    assert len(hosts.of("jobs")) == 11


async def test_a_host_that_answers_is_up_whatever_was_known_of_it(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": [jobs("running"), jobs("done")]}, {"b": SUCCEEDED})
    hosts.states["a"] = HostState.NOT_UP
    assert (await judged(hosts)).row == "2"


@pytest.mark.parametrize("host", ["a", None])
async def test_a_host_that_was_removed_is_not_asked(
    autojump_clock: MockClock, host: str | None
) -> None:
    hosts = FakeHosts({}, {"b": [HELD, HELD, SUCCEEDED]}, states={"a": HostState.REMOVED})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        verdict = await poller.judge(replace(WATCH, host=host))
    assert (verdict.end, verdict.row, verdict.cut_off) == (End.DONE, "6", True)
    assert hosts.of("jobs") == []
    assert hosts.times("status") == [0, 1, 3]


async def test_a_host_that_is_up_is_tried_some_times_before_the_lease_is_asked(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({}, {"b": FAILED})
    verdict = await judged(hosts, bounds=Bounds(calls=4))
    assert (verdict.end, verdict.row) == (End.FAILED, "7")
    assert [verb for verb, *_ in hosts.asked] == ["jobs"] * 4 + ["status"]


async def test_another_host_is_asked_about_the_lease_and_the_jobs_own_only_if_there_is_none(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": jobs("done")}, {"a": SUCCEEDED, "b": SUCCEEDED})
    await judged(hosts)
    assert hosts.of("status") == ["b"]
    hosts = FakeHosts({"a": jobs("done")}, {"a": SUCCEEDED})
    await judged(hosts)
    assert hosts.of("status") == ["a"]


async def test_a_host_that_cannot_tell_is_not_asked_again_while_there_is_another(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts(
        {"a": jobs("done")}, {"b": SILENT, "c": SILENT, "a": [SILENT, SILENT, SUCCEEDED]}
    )
    assert (await judged(hosts)).row == "2"
    assert hosts.of("status") == ["b", "c", "a", "b", "c", "a", "b", "c", "a"]


async def test_a_lease_that_cannot_be_read_is_fenced_on_another_host(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": {}}, {"b": SILENT, "c": FENCED}, {"c": None})
    verdict = await judged(hosts)
    assert (verdict.end, verdict.row, verdict.fenced) == (End.FAILED, "7", True)
    assert [(verb, host) for verb, host, _ in hosts.asked[1:]] == [
        ("status", "b"),
        ("fence", "c"),
        ("status", "c"),
    ]


async def test_a_lease_held_for_too_long_is_fenced_on_its_owner_then_on_any(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts(
        {"a": {}},
        {"b": HELD, "c": HELD},
        {"a": [AcquireLockFailure("lease", "held"), SILENT], "b": AcquireLockFailure("lease", "")},
        owners={2: "a"},
    )
    bounds = Bounds(held=5.0, fences=3)
    verdict = await judged(hosts, bounds=bounds)
    assert verdict.cause is Unresolved.STILL_HELD
    # Really held at first; then the owner is silent, and what others say is no proof.
    assert hosts.of("fence") == ["a"] + ["a", "b"] * 3


@pytest.mark.parametrize("owner", [None, SILENT])
async def test_an_owner_that_is_not_known_leaves_any_host(
    autojump_clock: MockClock, owner: object
) -> None:
    hosts = FakeHosts({"a": {}}, {"b": [HELD, HELD, FENCED]}, {"b": None}, owners={2: owner})
    verdict = await judged(hosts, bounds=Bounds(held=1.0))
    assert (verdict.end, verdict.row) == (End.FAILED, "7")
    assert hosts.of("fence") == ["b"]


@pytest.mark.parametrize(
    ("refusal", "row"),
    [
        (JobStatusMismatch("PENDING", "SUCCEEDED"), "6"),
        (GenerationMismatch(999, 0), "12"),
        (NoSuchLease(JOB), "12"),
        (Reported({"code": 911, "message": "told by an agent"}), "12"),
    ],
)
async def test_the_code_of_a_refused_fence_decides(
    autojump_clock: MockClock, refusal: Error, row: str
) -> None:
    hosts = FakeHosts({"a": {}}, {"b": [FREE, SUCCEEDED]}, {"b": refusal})
    assert (await judged(hosts)).row == row


@pytest.mark.parametrize(
    "answer", [None, [], {JOB: None}, {JOB: {}}, {JOB: {"status": 1}}, jobs("asleep"), OSError(5)]
)
async def test_an_answer_that_cannot_be_understood_is_none(
    autojump_clock: MockClock, answer: object
) -> None:
    hosts = FakeHosts({"a": answer}, {"b": [{"owners": "?"}, None, FAILED]}, {"b": SILENT})
    if isinstance(answer, list):
        hosts.reports["a"] = [answer]
    assert (await judged(hosts)).row == "7"
    assert len(hosts.of("jobs")) == 5  # 3 until the lease is asked, and 2 more


# --- slow and hanging hosts ---------------------------------------------------------------------


async def test_a_call_that_hangs_ends_after_its_time_and_other_hosts_go_on(
    autojump_clock: MockClock,
) -> None:
    async def hang(verb: str, host: str) -> None:
        if host == "a":
            await trio.sleep_forever()

    hosts = FakeHosts({"z": jobs("running")}, {"b": FAILED}, before=hang)
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, call_time=30)
        nursery.start_soon(poller.judge, replace(WATCH, host="z"))
        verdict = await poller.judge(WATCH)
        nursery.cancel_scope.cancel()
    assert verdict.row == "7"
    assert hosts.of("jobs").count("z") > 8
    assert "a: no answer: TooSlowError" in str(verdict.story[0])


@pytest.mark.parametrize("verb", ["status", "fence"])
async def test_a_question_about_the_lease_that_hangs_ends_and_another_host_is_asked(
    autojump_clock: MockClock, verb: str
) -> None:
    async def hang(asked: str, host: str) -> None:
        if (asked, host) == (verb, "b"):
            await trio.sleep_forever()

    free = {"b": FREE, "c": [FREE, FENCED]} if verb == "fence" else {"b": FREE, "c": FENCED}
    hosts = FakeHosts({"a": {}}, free, {"b": None, "c": None}, before=hang)
    with trio.fail_after(300):
        verdict = await judged(hosts, call_time=30)
    assert (verdict.end, verdict.fenced) == (End.FAILED, True)


async def test_a_hanging_look_does_not_keep_the_other_jobs_of_the_host(
    autojump_clock: MockClock,
) -> None:
    async def hang(verb: str, host: str) -> None:
        if verb == "status":
            await trio.sleep(29)

    report = {JOB: info("done"), "other": info("running", "other")}
    hosts = FakeHosts({"a": report}, {"b": SUCCEEDED}, before=hang)
    events: list[Any] = []
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, tell=events.append)
        nursery.start_soon(poller.judge, replace(WATCH, job_id="other"))
        assert (await poller.judge(WATCH)).end is End.DONE
        nursery.cancel_scope.cancel()
    assert len(events) >= 6
    assert hosts.job_ids[1:] == [["other"]] * (len(hosts.job_ids) - 1)


async def test_only_so_many_questions_about_leases_are_asked_at_once(
    autojump_clock: MockClock,
) -> None:
    at_once = most = 0

    async def count(verb: str, host: str) -> None:
        nonlocal at_once, most
        if verb == "status":
            at_once += 1
            most = max(most, at_once)
            await trio.sleep(1)
            at_once -= 1

    names = [f"job {number}" for number in range(50)]
    hosts = FakeHosts(
        {"a": {name: info("done", name) for name in names}}, {"b": HELD}, before=count
    )
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, questions=5)
        for name in names:
            nursery.start_soon(poller.judge, replace(WATCH, job_id=name))
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert most == 5


# --- what it tells ------------------------------------------------------------------------------


async def test_a_running_job_without_a_word_of_its_host_gives_an_alarm_now_and_then(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({}, {"b": HELD}, states={"a": HostState.NOT_UP})
    events: list[Looked] = []
    with trio.move_on_after(1000):
        await judged(hosts, events.append, bounds=Bounds(alarm=300.0))
    alarms = [event for event in events if event.alarm]
    assert [round(event.unheard_for, -1) for event in alarms] == [300, 600, 900]
    assert {event.do for event in events} == {Do.RUNNING}
    assert [event.changed for event in events] == [True] + [False] * (len(events) - 1)


async def test_host_and_lease_that_disagree_are_told(autojump_clock: MockClock) -> None:
    hosts = FakeHosts({"a": jobs("done")}, {"b": FENCED})
    verdict = await judged(hosts)
    assert (verdict.row, verdict.disagree, verdict.fenced) == ("2a", True, True)


async def test_an_unresolved_job_says_what_to_do_with_its_ids(autojump_clock: MockClock) -> None:
    hosts = FakeHosts({"a": {}}, {"b": NoSuchLease(JOB)})
    verdict = await judged(hosts)
    assert (verdict.end, verdict.cause) == (End.UNRESOLVED, Unresolved.LEASE_GONE)
    assert f"leasehold lease rebuild {WATCH.lease.sd_id}" in verdict.action


async def test_damage_is_looked_at_on_other_hosts_before_it_is_believed(
    autojump_clock: MockClock,
) -> None:
    damaged = SanlockLVBError("is not JSON")
    hosts = FakeHosts({"a": {}}, {"b": damaged, "c": damaged, "d": damaged})
    assert (await judged(hosts)).cause is Unresolved.CORRUPT
    assert hosts.of("status") == ["b", "c", "d"]


async def test_the_error_of_the_job_is_in_the_verdict(autojump_clock: MockClock) -> None:
    error = {"code": 4113, "message": "input/output error"}
    hosts = FakeHosts({"a": jobs("failed", error=error)}, {"b": FAILED})
    verdict = await judged(hosts)
    assert (verdict.row, verdict.error) == ("3", error)


# --- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 0.5, 1, 1.5, 2.5, 3, 4, 8, 20])
async def test_a_judge_that_is_cancelled_anywhere_can_be_asked_again(
    autojump_clock: MockClock, after: float
) -> None:
    async def slow(verb: str, host: str) -> None:
        await trio.sleep(1)

    world: dict[str, Any] = {"b": [FREE, FENCED]}
    hosts = FakeHosts({"a": {}}, world, {"b": None}, before=slow)
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        with trio.move_on_after(after):
            await poller.judge(WATCH)
        verdict = await poller.judge(WATCH)
    assert (verdict.end, verdict.fenced) == (End.FAILED, True)


async def test_after_the_last_job_of_a_host_it_is_not_asked_any_more(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": jobs("running")})
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery)
        with trio.move_on_after(8):
            await poller.judge(WATCH)
        await wait_all_tasks_blocked()
        assert not nursery.child_tasks
        asked = len(hosts.asked)
        await trio.sleep(100)
    assert len(hosts.asked) == asked


async def test_a_judge_does_not_wait_for_a_poller_that_was_stopped(
    autojump_clock: MockClock,
) -> None:
    hosts = FakeHosts({"a": jobs("running")})
    async with trio.open_nursery() as outer:

        async def told() -> None:
            with trio.fail_after(60), pytest.raises(trio.ClosedResourceError):
                await poller.judge(WATCH)

        async with trio.open_nursery() as nursery:
            poller = ExternalLeasePoller(hosts, nursery)
            outer.start_soon(told)
            await trio.sleep(5)
            nursery.cancel_scope.cancel()


# --- for somebody who asks once -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "row", "do"),
    [
        (FakeHosts({"a": jobs("running", progress=5)}), "1", Do.FOLLOW),
        (FakeHosts({}, {"b": HELD}, states={"a": HostState.NOT_UP}), "5", Do.RUNNING),
        (FakeHosts({"a": {}}, {"b": HELD}, {"b": AcquireLockFailure("", "")}), "10", Do.RUNNING),
        (
            FakeHosts({"a": {}}, {"b": HELD}, {"b": AcquireLockFailure("", "")}, owners={2: "b"}),
            "5",
            Do.RUNNING,
        ),
    ],
    ids=str,
)
async def test_resolve_says_at_once_that_there_is_no_verdict_yet(
    autojump_clock: MockClock, hosts: FakeHosts, row: str, do: Do
) -> None:
    began = trio.current_time()
    found = await resolve(hosts, WATCH)
    assert isinstance(found, Standing)
    assert (found.row, found.do) == (row, do)
    assert found.story
    assert trio.current_time() == began


async def test_resolve_ends_a_job_whose_lease_only_looks_held(autojump_clock: MockClock) -> None:
    """Its owner can acquire it, so nobody holds it."""
    hosts = FakeHosts({"a": {}}, {"b": [HELD, FENCED]}, {"c": None}, owners={2: "c"})
    found = await resolve(hosts, WATCH)
    assert isinstance(found, Verdict)
    assert (found.end, found.fenced) == (End.FAILED, True)


async def test_resolve_without_any_host_is_unresolved_at_once(autojump_clock: MockClock) -> None:
    events: list[Any] = []
    found = await resolve(FakeHosts(), replace(WATCH, host=None), tell=events.append)
    assert isinstance(found, Verdict)
    assert found.cause is Unresolved.NOBODY
    assert [type(event) for event in events] == [Judged]


# --- over a whole world -------------------------------------------------------------------------


class WorldHosts(FakeHosts):
    """The hosts of a World, which answers correctly, save for `fails` calls."""

    def __init__(self, world: World, fails: list[bool]) -> None:
        super().__init__()
        self.world = world
        self.fails = fails

    def state(self, host: str) -> HostState:
        return self.world.state if host == "a" else HostState.UP

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        return self.world.candidates()

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        return HOSTS[host_id - 1]

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        await self._faults()
        _, report = self.world.report()
        if isinstance(report, Told):
            return jobs(report.status)
        if self.world.answers:
            return {}
        raise SILENT

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        await self._faults()
        view = self.world.look(host)
        if isinstance(view, Owned):
            return {"owners": list(view.owners), "version": 1}
        if isinstance(view, Free):
            return {"owners": [], "version": 1, "metadata": view.metadata}
        raise Reported({"code": getattr(view, "code", 100)})

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        await self._faults()
        answer = self.world.fence(host)
        if isinstance(answer, FenceFailed):
            raise Reported({"code": answer.code})
        assert isinstance(answer, Fenced)

    async def _faults(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.fails and self.fails.pop():
            raise SILENT


ends = st.sampled_from(["recorded", "failed", "died", "orphan", "lied", "never begun"])


@dataclass
class Course:
    """How it goes with a job. orphan: seconds that its tool outlives it. ghost: as in World."""

    end: str
    forgets: bool
    ghost: bool
    state: HostState
    fails: list[bool]
    orphan: float
    harm: Harm | None


courses = st.builds(
    Course,
    st.sampled_from(["recorded", "failed", "died", "lied", "never begun"]),
    forgets=st.booleans(),
    ghost=st.booleans(),
    state=st.sampled_from(HostState),
    fails=st.lists(st.booleans(), max_size=20),
    orphan=st.sampled_from([0.0, 5.0, 300.0]),
    harm=st.sampled_from([None, None, *Harm]),
)


@settings(max_examples=100)
@given(courses)
def test_every_way_in_which_a_job_ends_gets_its_true_verdict(course: Course) -> None:
    world = World(state=course.state, answers=course.state is HostState.UP)

    async def live() -> None:
        await trio.sleep(2.5)
        if course.end != "never begun":
            world.take_up()
        await trio.sleep(2.5)
        if world.step is Step.HOLDS and course.end in ("recorded", "failed"):
            succeeded = course.end == "recorded"
            world.finish(JobStatus.SUCCEEDED if succeeded else JobStatus.FAILED)
            world.release()
        elif world.step is Step.HOLDS and course.end == "lied":
            world.lie()
        else:
            world.die()
            await trio.sleep(course.orphan)
            world.tool = False
        world.ghost = course.ghost and course.state is HostState.UP
        if course.harm and not world.ended:
            world.suffer(course.harm)
        world.told = None if course.forgets else world.told
        world.agent_notices()

    async def main() -> Verdict:
        hosts, bounds = WorldHosts(world, course.fails), Bounds(held=50.0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            poller = ExternalLeasePoller(hosts, nursery, bounds=bounds)
            with trio.fail_after(3000):
                return await poller.judge(WATCH)

    verdict = trio.run(main, clock=MockClock(autojump_threshold=0))
    if world.harm:
        assert verdict.end is End.UNRESOLVED or world.ended
    else:
        assert verdict.end is (End.DONE if world.succeeded else End.FAILED)
        assert world.ended
