"""A small world in which a job runs: worker, tool, lease, three hosts, and what goes wrong.

One step of it is atomic. The rules are those of the road of a copy (docs/architecture.md): the
lease is held as long as a process of the job lives, a result is written under it, and who writes
looks whether the lease is still his.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from uuid import UUID

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
)
from engine.judgement import Watch
from protocol.errors import Error
from protocol.messages import LeaseRef
from protocol.record import Expectation, JobRecord, JobStatus, next_generation

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
GENERATION = 999
WATCH = Watch(JOB, "a", LeaseRef(UUID("1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"), JOB), GENERATION)
HOSTS = ("a", "b", "c")  # a runs the job; their host ids are 1, 2, 3


class Step(Enum):
    """Of the worker."""

    QUEUED = auto()
    HOLDS = auto()  # the lease, and the record was as expected; a tool may write
    RECORDED = auto()  # the result is in the record; the lease is still held
    OVER = auto()  # ended, or died


class Harm(Enum):
    """What nobody who keeps the rules does to a lease: then a job may stay unresolved for ever."""

    OTHER_JOB = auto()
    GONE = auto()
    DAMAGED = auto()


@dataclass
class World:
    record: dict[str, Any] = field(
        default_factory=lambda: dict(
            JobRecord.pending(JOB, GENERATION, now=0, hardware_id="a").keys
        )
    )
    step: Step = Step.QUEUED
    told: str | None = "pending"  # what the agent of host a says of the job; None: nothing
    tool: bool = False  # lives, and can write
    ghost: bool = False  # the lease looks held by host a, and is not
    expired: bool = False  # host a lost its leases and does not know it yet: its tool may write
    fencing: str | None = None  # a host that holds the lease for a fence
    state: HostState = HostState.UP  # of host a
    answers: bool = True  # host a, when it is asked
    harm: Harm | None = None
    late: list[str | None] = field(default_factory=list)  # fences that are still on their way

    # --- the worker -----------------------------------------------------------------------------

    @property
    def owner(self) -> str | None:
        """The host of which a process holds the lease."""
        if self.fencing:
            return self.fencing
        alive = self.tool or self.step in (Step.HOLDS, Step.RECORDED)
        return "a" if alive and not self.expired else None

    @property
    def writable(self) -> bool:
        """Can somebody still write to the target?"""
        return self.tool

    def take_up(self) -> None:
        """The queued worker acquires its lease and checks the record."""
        self.told = "running"
        if self.owner or self.ghost or self.harm or not self._says(JobStatus.PENDING, GENERATION):
            self.step, self.told = Step.OVER, "failed"
        else:
            self.step, self.tool = Step.HOLDS, True

    def finish(self, status: JobStatus) -> None:
        """The tool has ended, and the worker writes the result, if the lease is its own."""
        self.tool = False
        if self.expired:
            self.step, self.told = Step.OVER, "failed"
            return
        self.step = Step.RECORDED
        self._write(status)

    def release(self) -> None:
        succeeded = self._says(JobStatus.SUCCEEDED, next_generation(GENERATION))
        self.step, self.told = Step.OVER, "done" if succeeded else "failed"

    def lie(self) -> None:
        """A worker that does not look whether its record was written."""
        self.step, self.tool, self.told = Step.OVER, False, "done"

    def die(self) -> None:
        """The worker is killed; its tool may outlive it for a moment."""
        self.step = Step.OVER

    def agent_notices(self) -> None:
        """That a worker which it knows is dead."""
        if self.step is Step.OVER and not self.tool and self.told in ("pending", "running"):
            self.told = "failed"

    def suffer(self, harm: Harm) -> None:
        self.harm = harm
        if harm is Harm.OTHER_JOB:
            self.record["job_id"] = "00000000-0000-0000-0000-000000000000"

    # --- the hosts ------------------------------------------------------------------------------

    def report(self) -> tuple[HostState, Report]:
        if self.state is HostState.REMOVED or not self.answers:
            return self.state, CallFailed()
        return HostState.UP, NotReported() if self.told is None else Told(self.told)

    def candidates(self) -> list[str]:
        return [host for host in HOSTS if host != "a" or self.state is HostState.UP]

    def reachable(self, host: str) -> bool:
        return host != "a" or (self.answers and self.state is not HostState.REMOVED)

    def look(self, host: str | None) -> LeaseView:
        if host is None:
            return Nobody()
        if not self.reachable(host):
            return LookFailed(100)
        if self.harm is Harm.GONE:
            return LookFailed(936)
        if self.harm is Harm.DAMAGED:
            return LookFailed(703)
        if self.owner or self.ghost:
            return Owned((HOSTS.index(self.owner or "a") + 1,))
        return Free(dict(self.record))

    def fence(self, host: str | None, *, by_owner: bool = False) -> FenceAnswer:
        """All of a fence in one step."""
        if host is None or not self.reachable(host):
            return FenceFailed(100, by_owner=by_owner)
        if self.harm is Harm.GONE:
            return FenceFailed(936, by_owner=by_owner)
        if self.owner or (self.ghost and host != "a"):
            return FenceFailed(651, by_owner=by_owner)
        self.ghost = False  # who acquires it, releases it as it should be
        if self.harm is Harm.DAMAGED:
            return FenceFailed(703, by_owner=by_owner)
        if self.record:
            try:
                JobRecord(self.record).check(WATCH.expected)
            except Error as e:
                return FenceFailed(e.code, by_owner=by_owner)
        else:
            self._refill()
        self._write(JobStatus.FENCED)
        return Fenced()

    # --- what is true ---------------------------------------------------------------------------

    @property
    def succeeded(self) -> bool:
        return not self.harm and self._says(JobStatus.SUCCEEDED, next_generation(GENERATION))

    @property
    def lost(self) -> bool:
        """It can never succeed any more."""
        return self._says(JobStatus.FENCED, next_generation(GENERATION)) or self._says(
            JobStatus.FAILED, GENERATION
        )

    @property
    def ended(self) -> bool:
        return self.succeeded or self.lost

    def rest(self) -> None:
        """No fault from now on: what lives comes to its end, and everybody tells what he knows."""
        if self.step is Step.QUEUED and self.told == "pending":
            self.take_up()
        if self.step is Step.HOLDS:
            self.finish(JobStatus.SUCCEEDED)
        if self.step is Step.RECORDED:
            self.release()
        self.step, self.tool, self.fencing, self.expired = Step.OVER, False, None, False
        self.agent_notices()
        self.answers = self.state is HostState.UP
        if not self.answers:
            self.ghost = False  # sanlock says that the host is dead

    def _says(self, status: JobStatus, generation: int) -> bool:
        try:
            JobRecord(self.record).check(Expectation(JOB, generation, status))
        except Error:
            return False
        return True

    def _write(self, status: JobStatus) -> None:
        self.record = dict(JobRecord(self.record).ended(status, now=1, hardware_id="b").keys)

    def _refill(self) -> None:
        self.record = dict(JobRecord.pending(JOB, GENERATION, now=0, hardware_id="a").keys)
