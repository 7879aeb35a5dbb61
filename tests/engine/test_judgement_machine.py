"""No sequence of faults leads to a wrong end, or to none.

Two judges look at one world (tests/engine/world.py): the engine, and somebody who resolves by hand.
Between a question and its answer, and between an answer and the next question, anything may happen.
"""

from collections.abc import Callable

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from engine.answers import FenceFailed, HostState, LookFailed, Nobody
from engine.decide import Decision, Do, Where
from engine.heard import Bounds
from engine.judgement import End, Judgement, Verdict
from protocol.record import JobStatus
from tests.engine.world import HOSTS, WATCH, Harm, Step, World

BOUNDS = Bounds(calls=2, looks=4, fences=4, held=30.0, nobody=100.0)
ROUNDS = 40  # of a judge after the last fault; more would be a loop


class Judge:
    """Asks the world as the poller does, and keeps each answer back until it is delivered."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.judgement = Judgement(WATCH, BOUNDS, 0.0)
        self.decision: Decision | None = None
        self.answer: Callable[[float], Decision] | None = None
        self.verdict: Verdict | None = None
        self.rounds = self.questions = 0
        self._turn = 0

    def ask(self, fault: str = "", host: str | None = None) -> None:
        """Ask what is to be asked next. fault: of this question, see `FAULTS`."""
        if self.decision and self.decision.do is Do.ASK_LEASE:
            self._look(fault, host)
        elif self.decision and self.decision.do is Do.FENCE:
            self._fence(fault, host, self.decision.where)
        else:
            self.rounds, self.questions = self.rounds + 1, 0
            state, report = self.world.report()
            self.answer = lambda now: self.judgement.told(state, report, now)
        self.questions += 1

    def hear(self, now: float) -> None:
        assert self.answer is not None
        self.decision, self.answer = self.answer(now), None
        self.verdict = self.judgement.verdict(self.decision)
        assert self.questions <= 5  # the host, and four more
        if self.verdict:
            self._check(self.verdict)

    def _look(self, fault: str, host: str | None) -> None:
        host = host or self._next()
        view = self.world.look(host)
        if fault == "nobody":
            host, view = None, Nobody()
        elif fault:
            view = LookFailed(703 if fault == "damaged" else 100)
        self.answer = lambda now: self.judgement.looked(host, view, now)

    def _fence(self, fault: str, host: str | None, where: Where | None) -> None:
        owned = where is Where.OWNER
        if owned:
            known = fault != "nobody" and self.judgement.owners
            host = HOSTS[self.judgement.owners[0] - 1] if known else None
        else:
            host = host or self._next()
        came = FenceFailed(100, by_owner=owned)
        if fault == "late":
            self.world.late.append(host)
        answer = came if fault in ("lost", "late") else self.world.fence(host, by_owner=owned)
        if fault == "done but lost":
            answer = came
        self.answer = lambda now: self.judgement.fenced(host, answer, now)

    def _next(self) -> str:
        """Another host each time."""
        self._turn += 1
        candidates = self.world.candidates()
        return candidates[self._turn % len(candidates)]

    def _check(self, verdict: Verdict) -> None:
        world = self.world
        if verdict.end is End.UNRESOLVED:
            assert verdict.action
            return
        assert world.succeeded if verdict.end is End.DONE else world.lost
        assert world.owner is None or world.fencing
        assert verdict.cut_off or not world.writable


FAULTS = st.sampled_from([""] * 8 + ["lost", "late", "done but lost", "damaged", "nobody"])


SECONDS = st.sampled_from([0.0, 1.0, 10.0, 40.0])


class Judging(RuleBasedStateMachine):
    @initialize(empty=st.booleans(), harmless=st.integers(0, 4))
    def begin(self, empty: bool, harmless: int) -> None:
        self.now = 0.0
        self.world = World()
        self.harmless = bool(harmless)
        if empty:  # the lease was made without a record: then no worker takes it up
            self.world.record = {}
        self.judges = [Judge(self.world), Judge(self.world)]

    # --- the judges -----------------------------------------------------------------------------

    @rule(
        which=st.integers(0, 1), faults=st.lists(FAULTS, min_size=3, max_size=10), seconds=SECONDS
    )
    def a_judge_goes_on(self, which: int, faults: list[str], seconds: float) -> None:
        for fault in faults:
            self._turn(self.judges[which], fault, None, seconds)

    @rule(
        which=st.integers(0, 1), fault=FAULTS, host=st.sampled_from([None, *HOSTS]), seconds=SECONDS
    )
    def a_judge_asks_or_hears(
        self, which: int, fault: str, host: str | None, seconds: float
    ) -> None:
        self._turn(self.judges[which], fault, host, seconds)

    def _turn(self, judge: Judge, fault: str, host: str | None, seconds: float) -> None:
        self.now += seconds
        if judge.verdict:
            return
        if judge.answer:
            judge.hear(self.now)
        else:
            judge.ask(fault, host)

    @precondition(lambda self: self.world.late)
    @rule()
    def a_fence_arrives_late(self) -> None:
        self.world.fence(self.world.late.pop(0))

    # --- the job --------------------------------------------------------------------------------

    @precondition(lambda self: self.world.step is Step.QUEUED)
    @rule()
    def the_worker_takes_it_up(self) -> None:
        self.world.take_up()

    @precondition(lambda self: self.world.step is Step.HOLDS)
    @rule(status=st.sampled_from([JobStatus.SUCCEEDED, JobStatus.FAILED]))
    def the_worker_records(self, status: JobStatus) -> None:
        self.world.finish(status)

    @precondition(lambda self: self.world.step is Step.RECORDED)
    @rule()
    def the_worker_releases(self) -> None:
        self.world.release()

    @precondition(lambda self: self.world.step is Step.HOLDS)
    @rule()
    def the_worker_lies(self) -> None:
        self.world.lie()

    @precondition(lambda self: self.world.step is not Step.OVER)
    @rule(tool_lives=st.booleans())
    def the_worker_dies(self, tool_lives: bool) -> None:
        self.world.die()
        self.world.tool = self.world.tool and tool_lives

    @precondition(lambda self: self.world.tool)
    @rule()
    def the_host_is_cut_from_storage_and_its_lease_expires(self) -> None:
        self.world.expired = True
        self.world.answers = False

    @precondition(lambda self: self.world.expired)
    @rule()
    def the_watchdog_resets_the_host(self) -> None:
        self.world.die()
        self.world.tool, self.world.expired, self.world.told = False, False, None

    @precondition(lambda self: self.world.step is Step.OVER)
    @rule()
    def the_orphan_dies(self) -> None:
        self.world.tool = False

    # --- the hosts ------------------------------------------------------------------------------

    @rule()
    def the_agent_notices(self) -> None:
        self.world.agent_notices()

    @precondition(lambda self: self.world.step is Step.OVER and not self.world.tool)
    @rule(told=st.sampled_from(["done", "failed"]))
    def the_agent_tells_what_is_not_so(self, told: str) -> None:
        self.world.told = told

    @precondition(lambda self: self.world.step is not Step.QUEUED)
    @rule()
    def the_agent_forgets(self) -> None:
        self.world.told = None

    @rule(state=st.sampled_from([HostState.UP, HostState.NOT_UP]))
    def the_host_falls_silent(self, state: HostState) -> None:
        if self.world.state is not HostState.REMOVED:
            self.world.answers, self.world.state = False, state

    @precondition(lambda self: not self.world.expired)
    @rule(seen=st.booleans())
    def the_host_returns(self, seen: bool) -> None:
        if self.world.state is not HostState.REMOVED:
            self.world.answers = True
            self.world.state = HostState.UP if seen else HostState.NOT_UP

    @rule()
    def the_host_is_removed(self) -> None:
        self.world.state = HostState.REMOVED

    @precondition(lambda self: self.world.owner is None)
    @rule()
    def somebody_else_acquires_it(self) -> None:
        self.world.fencing = "c"

    @precondition(lambda self: self.world.fencing)
    @rule()
    def somebody_else_releases_it(self) -> None:
        self.world.fencing = None

    @precondition(lambda self: self.world.step is Step.OVER and not self.world.owner)
    @rule()
    def a_lost_race_leaves_a_lease_that_looks_held(self) -> None:
        self.world.ghost = True

    @precondition(lambda self: not (self.harmless or self.world.owner or self.world.ended))
    @rule(harm=st.sampled_from(Harm))
    def somebody_harms_the_lease(self, harm: Harm) -> None:
        self.world.suffer(harm)

    # --- what must always hold ------------------------------------------------------------------

    @invariant()
    def no_verdict_was_wrong(self) -> None:
        ends = {judge.verdict.end for judge in getattr(self, "judges", ()) if judge.verdict}
        if End.DONE in ends:
            assert self.world.succeeded
            assert End.FAILED not in ends
        if End.FAILED in ends:
            assert self.world.lost

    def teardown(self) -> None:
        """Without faults every judge comes to an end soon, and a new one to the true one."""
        if not hasattr(self, "world"):
            return
        self.world.rest()
        for judge in self.judges:
            self._end(judge)
        verdict = self._end(Judge(self.world))
        if self.world.harm is None:
            assert verdict.end is (End.DONE if self.world.succeeded else End.FAILED)
        self.no_verdict_was_wrong()

    def _end(self, judge: Judge) -> Verdict:
        before = judge.rounds
        while not judge.verdict:
            if judge.answer:
                judge.hear(self.now)
            else:
                judge.ask()
            self.now += 10.0
            assert judge.rounds - before < ROUNDS, judge.judgement.story
        return judge.verdict


Judging.TestCase.settings = settings(stateful_step_count=60)
TestJudging = Judging.TestCase
