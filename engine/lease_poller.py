"""Polling of external leases: drives the table of engine/decide.py until there is a verdict."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import trio

from engine.answers import (
    FenceAnswer,
    Fenced,
    FenceFailed,
    LeaseView,
    LookFailed,
    Nobody,
    code_and_text,
)
from engine.decide import Decision, Do, Where
from engine.heard import FENCES, Bounds
from engine.host_rounds import PAUSES, Heard, HostRounds
from engine.hosts import Hosts
from engine.judgement import Judgement, Verdict, Watch
from engine.record import LeaseRecord, Record
from engine.story import Finding
from protocol.errors import Error

__all__ = ["AT_ONCE", "ExternalLeasePoller", "Hosts", "Judged", "Looked", "Standing", "resolve"]

log = logging.getLogger(__name__)

CALL_TIME = 30.0  # seconds for one call of a host
QUESTIONS = 16  # about leases, at once

# For somebody who asks once: what may be asked, is asked now.
AT_ONCE = Bounds(held=0.0, nobody=0.0)


@dataclass(frozen=True)
class Looked:
    """A round ended without a verdict. do: FOLLOW, RUNNING, ASK_HOST or BACK_OFF.

    changed: the last round ended in another row. info: the host's, of the job ({}: it told none).
    alarm: nobody has told for unheard_for seconds that the job is active; somebody should look.
    """

    watch: Watch
    row: str
    do: Do
    why: str
    changed: bool
    info: Mapping[str, Any]
    alarm: bool
    unheard_for: float
    story: tuple[Finding, ...]


@dataclass(frozen=True)
class Judged:
    watch: Watch
    verdict: Verdict


T = TypeVar("T")
Event = Looked | Judged
Tell = Callable[[Event], None]


def _nobody(event: Event) -> None:
    pass


class ExternalLeasePoller:
    """Judges jobs whose destination has an external lease.

    Each host is asked about all of its jobs with one call a round; questions about leases go to any
    host that sees the domain. `tell` gets an Event after each round of each job; it must neither
    block nor raise. pauses: seconds between the rounds, short again whenever something changes.
    call_time: seconds for one call. The clock is trio's.

    The rounds run in `nursery`; when that is cancelled, judge() raises trio.ClosedResourceError.
    """

    def __init__(
        self,
        hosts: Hosts,
        nursery: trio.Nursery,
        *,
        bounds: Bounds | None = None,
        tell: Tell = _nobody,
        pauses: Sequence[float] = PAUSES,
        call_time: float = CALL_TIME,
        questions: int = QUESTIONS,
    ) -> None:
        self._hosts = hosts
        self._nursery = nursery
        self._bounds = bounds or Bounds()
        self._tell = tell
        self._pauses = pauses
        self._call_time = call_time
        self._questions = trio.Semaphore(questions)
        self._rounds: dict[str | None, HostRounds] = {}

    async def judge(self, watch: Watch, *, record: Record | None = None) -> Verdict:
        """Ask until there is a verdict.

        record: where the end of the job is written, when that is not the value block of a lease.
        It may be cancelled anywhere, and asked again: all that is known is on storage. A fence that
        was under way then may be done nevertheless.
        """
        judgement = Judgement(watch, self._bounds, trio.current_time())
        record = record or LeaseRecord(self._hosts, watch)
        questions = _Questions(judgement, record, self._questions, self._call_time)
        rounds = self._of(watch.host)
        with rounds.place(watch.job_id) as place:
            row = ""
            while True:
                heard = await place.next()
                decision = await questions.answered(heard)
                if verdict := judgement.verdict(decision):
                    log.info("job %s is %s: %s", watch.job_id, verdict.end, verdict.reason)
                    self._tell(Judged(watch, verdict))
                    return verdict
                if decision.row != row:
                    rounds.hurry()
                self._tell(_looked(judgement, decision, heard, changed=decision.row != row))
                row = decision.row

    def hurry(self, host: str) -> None:
        """Ask a host soon: it has told that something changed."""
        if rounds := self._rounds.get(host):
            rounds.hurry()

    def job_ended(self, host: str) -> None:
        """Ask a host at once: it has told that a job has ended. That is a hint, not a verdict."""
        if rounds := self._rounds.get(host):
            rounds.job_ended()

    def _of(self, host: str | None) -> HostRounds:
        """The rounds of `host`, begun when there are none."""
        if host not in self._rounds:
            rounds = HostRounds(host, self._hosts, pauses=self._pauses, call_time=self._call_time)
            self._nursery.start_soon(self._run, host, rounds, name=f"rounds of host {host}")
            self._rounds[host] = rounds
        return self._rounds[host]

    async def _run(self, host: str | None, rounds: HostRounds) -> None:
        try:
            await rounds.run()
        finally:
            del self._rounds[host]  # no await since it was found empty


def _looked(judgement: Judgement, decision: Decision, heard: Heard, *, changed: bool) -> Looked:
    watch, unheard_for = judgement.watch, judgement.unheard_for(trio.current_time())
    if decision.alarm:
        log.warning("job %s: %s, for %.0f s", watch.job_id, decision.why, unheard_for)
    return Looked(
        watch,
        decision.row,
        decision.do,
        decision.why,
        changed=changed,
        info=heard.info,
        alarm=decision.alarm,
        unheard_for=unheard_for,
        story=judgement.story,
    )


class _Questions:
    """What is asked of hosts for one judgement."""

    def __init__(
        self, judgement: Judgement, record: Record, at_once: trio.Semaphore, call_time: float
    ) -> None:
        self._judgement = judgement
        self._watch = judgement.watch
        self._record = record
        self._at_once = at_once
        self._call_time = call_time
        self._failed: list[str] = []  # hosts that could not tell, the last one last

    async def answered(self, heard: Heard) -> Decision:
        """Ask what the table wants to know, until it wants a pause or has an end.

        That is soon: no sequence of answers leads to more than four questions.
        """
        now = trio.current_time()
        told = self._judgement.told
        decision = told(heard.host, heard.report, now, error=heard.info.get("error"))
        while True:
            if decision.do is Do.ASK_LEASE:
                decision = await self._look()
            elif decision.do is Do.FENCE:
                decision = await self._fence(decision.where)
            else:
                return decision

    async def _look(self) -> Decision:
        host = self._candidate()
        view: LeaseView = Nobody()
        if host is not None:
            view = await self._asked(host, self._record.look, LookFailed)
            self._note(host, failed=isinstance(view, LookFailed))
        return self._judgement.looked(host, view, trio.current_time())

    async def _fence(self, where: Where | None) -> Decision:
        host = await self._owner() if where is Where.OWNER else self._candidate()
        answer: FenceAnswer = FenceFailed(Error.code, "there is no host to ask")
        if host is not None:
            answer = await self._asked(host, self._fenced, FenceFailed)
            failed = isinstance(answer, FenceFailed) and answer.code not in FENCES
            self._note(host, failed=failed)
        if where is Where.OWNER and isinstance(answer, FenceFailed):
            answer = FenceFailed(answer.code, answer.text, by_owner=True)
        return self._judgement.fenced(host, answer, trio.current_time())

    async def _fenced(self, host: str) -> FenceAnswer:
        await self._record.fence(host)
        return Fenced()

    async def _owner(self) -> str | None:
        for host_id in self._judgement.owners:
            try:
                with trio.fail_after(self._call_time):
                    host = await self._record.owner(host_id)
            except Exception as e:
                log.info("whose host id %s is, is not known: %s", host_id, code_and_text(e)[1])
                continue
            if host is not None:
                return host
        return None

    def _candidate(self) -> str | None:
        """Of those that can be asked: one that did not fail; else the one that failed first."""
        hosts = list(self._record.candidates())
        # The job's own host last: it was asked already, and has its reasons if it did not tell.
        hosts.sort(key=lambda host: (self._rank(host), host == self._watch.host))
        return hosts[0] if hosts else None

    def _rank(self, host: str) -> int:
        return self._failed.index(host) + 1 if host in self._failed else 0

    def _note(self, host: str, *, failed: bool) -> None:
        if host in self._failed:
            self._failed.remove(host)
        if failed:
            self._failed.append(host)

    async def _asked(
        self, host: str, ask: Callable[[str], Awaitable[T]], failure: Callable[[int, str], T]
    ) -> T:
        """What `ask` makes of the host; its errors become a `failure`."""
        try:
            async with self._at_once:
                with trio.fail_after(self._call_time):
                    return await ask(host)
        except Exception as e:
            return failure(*code_and_text(e))


@dataclass(frozen=True)
class Standing:
    """There is no verdict, because the job is active, or its lease is held. As in Looked."""

    row: str
    do: Do
    why: str
    info: Mapping[str, Any]
    story: tuple[Finding, ...]


async def resolve(
    hosts: Hosts, watch: Watch, *, bounds: Bounds = AT_ONCE, tell: Tell = _nobody
) -> Verdict | Standing:
    """Judge one job for somebody who asks now: a verdict, or that there is none yet.

    tell: as for ExternalLeasePoller.
    """
    found: Verdict | Standing | None = None
    async with trio.open_nursery() as nursery:

        def heard(event: Event) -> None:
            nonlocal found
            tell(event)
            if isinstance(event, Looked) and event.do in (Do.FOLLOW, Do.RUNNING):
                found = Standing(event.row, event.do, event.why, event.info, event.story)
                nursery.cancel_scope.cancel()

        found = await ExternalLeasePoller(hosts, nursery, bounds=bounds, tell=heard).judge(watch)
        nursery.cancel_scope.cancel()
    assert found is not None
    return found
