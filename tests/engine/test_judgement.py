"""What is counted over the rounds of one judgement, and what its verdict says."""

from engine.answers import (
    CallFailed,
    FenceAnswer,
    Fenced,
    FenceFailed,
    HostState,
    LeaseView,
    LookFailed,
    Nobody,
    NotReported,
    Owned,
    Report,
    Told,
)
from engine.decide import Decision, Do
from engine.heard import Bounds
from engine.judgement import End, Judgement, Verdict
from engine.story import LENGTH, Story
from engine.unresolved import Unresolved
from protocol.record import JobStatus
from tests.engine.world import JOB, WATCH, Step, World

BOUNDS = Bounds()
HELD = Owned((2,))
ABSENT, DONE, FAILED = NotReported(), Told("done"), Told("failed")
PENDING = World().look("b")


class Scene:
    """A judgement with a clock that moves ten seconds with each round."""

    def __init__(self, bounds: Bounds = BOUNDS) -> None:
        self.now = 1000.0
        self.judgement = Judgement(WATCH, bounds, self.now)

    def round(
        self,
        report: Report,
        *answers: LeaseView | FenceAnswer,
        host: HostState = HostState.UP,
        error: object = None,
    ) -> Decision:
        self.now += 10.0
        decision = self.judgement.told(host, report, self.now, error=error)
        for answer in answers:
            if isinstance(answer, Fenced | FenceFailed):
                assert decision.do is Do.FENCE, decision
                decision = self.judgement.fenced("b", answer, self.now)
            else:
                assert decision.do is Do.ASK_LEASE, decision
                decision = self.judgement.looked("b", answer, self.now)
        return decision

    def verdict(self, decision: Decision) -> Verdict:
        verdict = self.judgement.verdict(decision)
        assert verdict is not None
        return verdict


def test_calls_that_fail_are_counted_in_a_row() -> None:
    scene = Scene()
    for _ in range(3):
        for _ in range(BOUNDS.calls - 1):
            assert scene.round(CallFailed()).row == "4"
        assert scene.round(Told("running")).row == "1"
    for _ in range(BOUNDS.calls - 1):
        assert scene.round(CallFailed()).row == "4"
    assert scene.round(CallFailed()).do is Do.ASK_LEASE


def test_a_host_that_is_not_up_is_not_waited_for() -> None:
    assert Scene().round(CallFailed(), host=HostState.NOT_UP).do is Do.ASK_LEASE
    assert Scene().round(CallFailed(), host=HostState.REMOVED).do is Do.ASK_LEASE


def test_done_but_unreadable_is_unresolved_after_so_many_looks_in_a_row() -> None:
    scene = Scene()
    for _ in range(BOUNDS.looks - 1):
        assert scene.round(DONE, LookFailed(100)).do is Do.BACK_OFF
    assert scene.round(DONE, HELD).do is Do.BACK_OFF  # it could be read: the count begins again
    for _ in range(BOUNDS.looks - 1):
        assert scene.round(DONE, LookFailed(100)).do is Do.BACK_OFF
    assert scene.round(DONE, LookFailed(100)).cause is Unresolved.UNREADABLE


def test_damage_is_believed_when_looks_in_a_row_find_it() -> None:
    scene = Scene()
    for _ in range(4):
        assert scene.round(ABSENT, LookFailed(703)).do is Do.BACK_OFF
        assert scene.round(ABSENT, LookFailed(4009)).do is Do.BACK_OFF
        assert scene.round(ABSENT, HELD).do is Do.RUNNING
    for _ in range(BOUNDS.damaged_looks - 1):
        assert scene.round(ABSENT, LookFailed(703)).do is Do.BACK_OFF
    assert scene.round(ABSENT, LookFailed(703)).cause is Unresolved.CORRUPT


def test_fences_without_an_answer_are_unresolved_at_the_bound() -> None:
    scene = Scene()
    for _ in range(BOUNDS.fences):
        assert scene.round(ABSENT, PENDING, FenceFailed(100)).do is Do.BACK_OFF
    decision = scene.round(ABSENT, PENDING)
    assert (decision.row, decision.cause) == ("12", Unresolved.FENCE_BOUND)


def test_hosts_that_disagree_whether_the_lease_is_free_are_unresolved_at_the_bound() -> None:
    """One always says free, the other always refuses to fence: 651, or 912."""
    for code, end in ((651, "10"), (912, "8")):
        scene = Scene()
        for _ in range(BOUNDS.fences):
            answers = (PENDING, FenceFailed(code), *((PENDING,) if code == 912 else ()))
            assert scene.round(ABSENT, *answers).row == end
        assert scene.round(ABSENT, PENDING).cause is Unresolved.FENCE_BOUND


def test_fences_that_do_not_last_are_unresolved_at_the_bound() -> None:
    """Storage that forgets what was written to it."""
    scene = Scene()
    for _ in range(BOUNDS.fences):
        assert scene.round(ABSENT, PENDING, Fenced(), PENDING).do is Do.BACK_OFF
    assert scene.round(ABSENT, PENDING).cause is Unresolved.FENCE_BOUND


def test_an_active_job_forgets_earlier_fences() -> None:
    scene = Scene()
    for _ in range(3 * BOUNDS.fences):
        assert scene.round(ABSENT, PENDING, FenceFailed(100)).do is Do.BACK_OFF
        assert scene.round(Told("running")).do is Do.FOLLOW


def test_a_lease_that_somebody_acquired_since_forgets_earlier_fences() -> None:
    scene = Scene()
    for _ in range(3 * BOUNDS.fences):
        assert scene.round(ABSENT, PENDING, FenceFailed(651)).do is Do.RUNNING
        assert scene.round(ABSENT, HELD).do is Do.RUNNING


def rounds_until(scene: Scene, report: Report, do: Do) -> int:
    for rounds in range(1000):
        if scene.round(report, HELD).do is do:
            return rounds
    raise AssertionError(f"never {do}")


def test_held_for_too_long_is_counted_while_the_host_answers_and_the_lease_is_held() -> None:
    scene = Scene()
    for _ in range(100):
        assert scene.round(CallFailed(), HELD, host=HostState.NOT_UP).do is Do.RUNNING
    assert rounds_until(scene, ABSENT, Do.FENCE) == BOUNDS.held / 10
    scene.round(Told("running"))
    assert rounds_until(scene, FAILED, Do.FENCE) == BOUNDS.held / 10
    scene.round(CallFailed(), HELD, host=HostState.NOT_UP)
    assert rounds_until(scene, DONE, Do.FENCE) == BOUNDS.held / 10


def test_an_owner_that_really_holds_the_lease_is_asked_again_after_as_long() -> None:
    """A copy of many hours that its agent forgot is no failure to fence it."""
    scene = Scene()
    rounds_until(scene, ABSENT, Do.FENCE)
    for _ in range(3 * BOUNDS.fences):
        decision = scene.judgement.fenced("a", FenceFailed(651, by_owner=True), scene.now)
        assert (decision.row, decision.do) == ("5", Do.RUNNING)
        assert rounds_until(scene, ABSENT, Do.FENCE) == BOUNDS.held / 10 - 1


def test_an_owner_that_cannot_be_asked_is_unresolved_at_the_bound() -> None:
    scene = Scene()
    rounds_until(scene, ABSENT, Do.FENCE)
    nobody = FenceFailed(100, by_owner=True)
    scene.judgement.fenced(None, nobody, scene.now)
    scene.judgement.fenced("c", FenceFailed(651), scene.now)
    for _ in range(BOUNDS.fences - 1):
        assert scene.round(ABSENT, HELD, nobody, FenceFailed(651)).do is Do.RUNNING
    decision = scene.round(ABSENT, HELD)
    assert (decision.row, decision.cause) == ("5a", Unresolved.STILL_HELD)


def test_a_done_job_whose_lease_stays_held_is_unresolved_even_if_its_owner_says_so() -> None:
    scene = Scene()
    rounds_until(scene, DONE, Do.FENCE)
    held = FenceFailed(651, by_owner=True)
    scene.judgement.fenced("a", held, scene.now)
    for _ in range(BOUNDS.fences - 1):
        assert scene.round(DONE, HELD, held).do is Do.BACK_OFF
    decision = scene.round(DONE, HELD)
    assert (decision.row, decision.cause) == ("2b", Unresolved.STILL_HELD)


def test_without_a_host_to_ask_it_is_unresolved_after_a_time() -> None:
    scene = Scene()
    for _ in range(int(BOUNDS.nobody / 10)):
        decision = scene.round(CallFailed(), Nobody(), host=HostState.NOT_UP)
        assert decision.do is Do.BACK_OFF
    decision = scene.round(CallFailed(), Nobody(), host=HostState.NOT_UP)
    assert decision.cause is Unresolved.NOBODY
    verdict = scene.verdict(decision)
    assert verdict.end is End.UNRESOLVED
    assert str(WATCH.lease.sd_id) in verdict.action


def test_the_alarm_comes_again_as_long_as_nothing_changes() -> None:
    scene = Scene()
    every = int(BOUNDS.alarm / 10)
    rounds = range(1, 3 * every + 1)
    alarms = [
        number for number in rounds if scene.round(CallFailed(), HELD, host=HostState.NOT_UP).alarm
    ]
    assert alarms == [every, 2 * every, 3 * every]
    assert scene.judgement.unheard_for(scene.now) == 3 * BOUNDS.alarm
    scene.round(Told("running"))
    assert scene.judgement.unheard_for(scene.now) == 0


def test_a_job_that_succeeds_between_look_and_fence_is_done() -> None:
    scene, world = Scene(), World()
    world.told = None
    before = world.look("b")
    world.take_up()
    world.finish(JobStatus.SUCCEEDED)
    world.release()
    fence = world.fence("b")
    decision = scene.round(ABSENT, before, fence, world.look("b"))
    assert (decision.row, decision.do) == ("6", Do.DONE)


def test_a_job_that_is_taken_up_between_look_and_fence_is_running() -> None:
    scene, world = Scene(), World()
    before = world.look("b")
    world.take_up()
    assert scene.round(ABSENT, before, world.fence("b")).row == "10"


def test_the_writer_of_a_host_without_storage_is_to_be_cut_off() -> None:
    """Its lease expired, so it can be fenced, and a tool may still write."""
    scene, world = Scene(), World()
    world.take_up()
    world.expired = True
    assert (world.step, world.writable) == (Step.HOLDS, True)
    silent = CallFailed()
    decision = scene.round(
        silent, world.look("b"), world.fence("b"), world.look("c"), host=HostState.NOT_UP
    )
    verdict = scene.verdict(decision)
    assert (verdict.end, verdict.fenced, verdict.cut_off) == (End.FAILED, True, True)


def test_an_answer_of_an_earlier_round_is_forgotten() -> None:
    scene = Scene()
    assert scene.round(ABSENT, PENDING, FenceFailed(100)).do is Do.BACK_OFF
    assert scene.round(ABSENT).do is Do.ASK_LEASE
    assert scene.round(ABSENT, HELD).do is Do.RUNNING
    assert scene.round(ABSENT).do is Do.ASK_LEASE


def test_a_verdict_says_what_the_host_told_of_the_error_and_what_was_found() -> None:
    scene, world = Scene(), World()
    world.take_up()
    world.finish(JobStatus.FAILED)
    world.release()
    error = {"code": 4113, "message": "input/output error"}
    scene.round(Told("running"))
    verdict = scene.verdict(scene.round(FAILED, world.look("b"), error=error))
    assert (verdict.end, verdict.row, verdict.fenced, verdict.cut_off) == (
        End.FAILED,
        "3",
        False,
        False,
    )
    assert verdict.error == error
    assert [str(finding) for finding in verdict.story] == [
        "    10 s  a: the job is running [1]",
        "    20 s  a: the job is failed [3]",
        f"    20 s  b: the lease is free: job_status FAILED, generation 999, job_id {JOB} [3]",
    ]


def test_a_story_tells_the_same_once_and_has_an_end() -> None:
    story = Story()
    for second in range(1000):
        story.add("a", "it does not know the job", "5", second)
        story.add(None, f"error {second}", "9", second)
    findings = list(story)
    assert len(findings) == LENGTH
    assert findings[-1].answer == "error 999"
    story = Story()
    for second in range(3):
        story.add("a", "it does not know the job", "5", second)
    assert [str(finding) for finding in story] == [
        "     0 s  a: it does not know the job [5] (3 times, last at 2 s)"
    ]
