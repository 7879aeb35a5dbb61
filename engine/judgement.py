"""The judgement about one job: what was heard, and what to do next. It asks nobody itself."""

from dataclasses import dataclass
from enum import StrEnum

from engine.answers import (
    CallFailed,
    FenceAnswer,
    Free,
    HostState,
    LeaseView,
    LookFailed,
    Nobody,
    Owned,
    Report,
)
from engine.decide import Decision, Do, decide
from engine.heard import DAMAGE, Bounds, Facts, Fence, Lease, Word, fence, lease, understood, word
from engine.story import Finding, Story
from engine.unresolved import Unresolved
from protocol.messages import LeaseRef
from protocol.record import Expectation


@dataclass(frozen=True)
class Watch:
    """A job to judge. host: that was asked to run it; None: nobody knows any more.

    generation: 0 to 999, that the job began with.
    """

    job_id: str
    host: str | None
    lease: LeaseRef
    generation: int

    @property
    def expected(self) -> Expectation:
        return Expectation(self.job_id, self.generation)


class End(StrEnum):
    DONE = "done"
    FAILED = "failed"
    UNRESOLVED = "unresolved"


_ENDS = {Do.DONE: End.DONE, Do.FAILED: End.FAILED, Do.UNRESOLVED: End.UNRESOLVED}


@dataclass(frozen=True)
class Verdict:
    """What became of a job. DONE and FAILED are final: the lease cannot say anything else any more.

    row, reason: of the table. fenced, cut_off, disagree: as in Decision.
    cause, action: of UNRESOLVED; action is what an operator does, "" otherwise.
    error: what the host told of the job's error ({code, message, ...}), None if nothing.
    """

    end: End
    row: str
    reason: str
    fenced: bool
    cut_off: bool
    disagree: bool
    cause: Unresolved | None
    action: str
    error: object
    story: tuple[Finding, ...]


class Judgement:
    """Feed it every answer, and do what the Decision says that each answer leads to.

    A round begins with `told`. `now`: seconds of a clock that never jumps.
    """

    def __init__(self, watch: Watch, bounds: Bounds, now: float) -> None:
        self.watch = watch
        self.owners: tuple[int, ...] = ()  # of the last look that found some
        self._bounds = bounds
        self._story = Story()
        self._began = now
        self._active = now  # when the host last said so
        self._alarmed = now
        self._held: float | None = None  # since when, while the host answers
        self._nobody: float | None = None
        self._host = HostState.NOT_UP
        self._report: Report = CallFailed()
        self._lease: LeaseView | None = None
        self._fence: FenceAnswer | None = None
        self._calls = self._looks = self._damaged = self._fences = 0
        self._error: object = None

    def told(
        self, host: HostState, report: Report, now: float, *, error: object = None
    ) -> Decision:
        """Begin a round with what the job's host answered. error: of the job, where it told one."""
        self._host, self._report = host, report
        self._lease, self._fence = None, None
        self._error = error or self._error
        self._calls = 0 if understood(report) else self._calls + 1
        said = word(self._facts(now), self._bounds)
        if said is Word.ACTIVE:
            self._active = self._alarmed = now
            self._looks = self._damaged = self._fences = 0
            self._nobody = None
        if said in (Word.ACTIVE, Word.SILENT):
            self._held = None
        text = str(report) if host is HostState.UP else f"the host is {host}"
        return self._decide(self.watch.host, text, now)

    def looked(self, host: str | None, view: LeaseView, now: float) -> Decision:
        """Take a look at the lease. host: that looked; None: there is none (Nobody)."""
        self._lease = view
        failed = isinstance(view, LookFailed)
        self._looks = self._looks + 1 if failed else 0
        damaged = isinstance(view, LookFailed) and view.code in DAMAGE
        self._damaged = self._damaged + 1 if damaged else 0
        if not isinstance(view, Nobody):
            self._nobody = None
        elif self._nobody is None:
            self._nobody = now
        if isinstance(view, Free):
            self._held = None
        elif isinstance(view, Owned):
            self._take_owners(view, now)
        return self._decide(host, str(view), now)

    def fenced(self, host: str | None, answer: FenceAnswer, now: float) -> Decision:
        """Take the answer to a fence. host: that was asked; None: there is none to ask."""
        self._fence, self._lease = answer, None
        came = fence(self._facts(now), self._bounds)
        if came is not Fence.NO_OWNER:  # then another host is asked, and that counts
            self._fences += 1
        if came is Fence.HELD_HERE and self._said(now) is not Word.DONE:
            # A process of the job lives and may go on for hours: that is no failure to fence it.
            self._fences, self._held = 0, now
        return self._decide(host, str(answer), now)

    def verdict(self, decision: Decision) -> Verdict | None:
        """The verdict that a decision is; None: it is none."""
        end = _ENDS.get(decision.do)
        if end is None:
            return None
        cause, ref = decision.cause, self.watch.lease
        return Verdict(
            end,
            decision.row,
            cause.value.reason if cause else decision.why,
            fenced=decision.fenced,
            cut_off=decision.cut_off,
            disagree=decision.disagree,
            cause=cause,
            action=cause.action(sd=str(ref.sd_id), lease=ref.lease_id) if cause else "",
            error=self._error,
            story=self.story,
        )

    @property
    def story(self) -> tuple[Finding, ...]:
        return tuple(self._story)

    def unheard_for(self, now: float) -> float:
        """Seconds since the host last said that the job is active, or since the beginning."""
        return now - self._active

    def _take_owners(self, view: Owned, now: float) -> None:
        self.owners = view.owners
        if self._held is None and self._said(now) is not Word.SILENT:
            self._held = now
        # Whoever holds it now came after the fences that gave no end.
        if lease(self._facts(now), self.watch.expected, self._bounds) is Lease.HELD:
            self._fences = 0

    def _said(self, now: float) -> Word:
        return word(self._facts(now), self._bounds)

    def _facts(self, now: float) -> Facts:
        return Facts(
            self._host,
            self._report,
            self._lease,
            self._fence,
            calls_failed=self._calls,
            looks_failed=self._looks,
            damaged_looks=self._damaged,
            fences=self._fences,
            held_for=0.0 if self._held is None else now - self._held,
            unheard_for=now - self._alarmed,
            nobody_for=0.0 if self._nobody is None else now - self._nobody,
        )

    def _decide(self, host: str | None, answer: str, now: float) -> Decision:
        decision = decide(self._facts(now), self.watch.expected, self._bounds)
        self._story.add(host, answer, decision.row, now - self._began)
        if decision.alarm:
            self._alarmed = now  # and again when as much time has passed
        return decision
