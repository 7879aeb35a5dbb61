"""The tracking of one job: its record in the value block of its lease, from take-up to end."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from leases import verbs
from leases.grant import Grant
from leases.hold import hold
from leases.store import Store
from protocol.errors import Error, SanlockLVBError
from protocol.groups import leaves
from protocol.record import Expectation, JobRecord, JobStatus

log = logging.getLogger(__name__)

FAIL_TIME = 5.0  # seconds for a failure to be recorded; after that the record stays PENDING
_SILENT = (
    f"the failure was not written within {FAIL_TIME:g} s, the storage of the lease does not answer;"
    " a sanlock daemon that loses it ends the jobs of its host"
)
SUCCEED_TIME = 60.0  # seconds for a success to be recorded; after that its outcome is unknown


@dataclass(frozen=True)
class JobFacts:
    """What is recorded of a job.

    now: wall clock, seconds since the epoch. hardware_id: of this host.
    """

    job_id: str
    now: Callable[[], float]
    hardware_id: str


class Tracked(Protocol):
    """How a destination keeps the truth about the copy to it."""

    def taken_up(self) -> AbstractAsyncContextManager[Grant]:
        """Hold the lease for the body, whose failure is recorded."""
        ...

    async def succeed(self, grant: Grant) -> None:
        """Record the success and read it back; the caller shields this from an abort."""
        ...

    async def fail_early(self, error: BaseException) -> None:
        """Record the failure of a job that ended before it took its lease up, if it can be."""
        ...


class TrackedLease:
    """The record of an external endpoint, in the value block of its lease."""

    def __init__(self, store: Store, lease_id: str, expected: Expectation, job: JobFacts) -> None:
        self._store = store
        self._lease_id = lease_id
        self._expected = expected
        self._job = job
        self._decided = False  # the lease was taken up, or it is not ours to write to
        self._foreign = False  # somebody else wrote to the record that we hold

    @asynccontextmanager
    async def taken_up(self) -> AsyncGenerator[Grant]:
        """Hold the lease for the body, whose failure is recorded as FAILED.

        Nothing is written when the lease is held by another or gone (651, 936), or when its
        record is not the expected one (2009, 912, 911, 703): then it belongs to somebody else.
        """
        try:
            async with self._held() as (grant, record):
                self._decided = True
                try:
                    yield grant
                except BaseException as e:
                    if not self._foreign:
                        await self._record_failure(grant, record, e)
                    raise
        except Error:
            self._decided = True
            raise

    async def succeed(self, grant: Grant) -> None:
        """Record SUCCEEDED and read it back; the caller shields this from an abort."""
        with trio.move_on_after(SUCCEED_TIME), grant.recording():
            try:
                record = await self._expected_record(grant)
            except Error:
                self._foreign = True  # FENCED, say: a failure of ours must not be written over that
                raise
            await grant.write(self._ended(record, JobStatus.SUCCEEDED))
            return
        reason = f"not written within {SUCCEED_TIME:.0f} s, the outcome is unknown"
        raise SanlockLVBError(reason)

    async def fail_early(self, error: BaseException) -> None:
        """Record FAILED for a job that ended before it took its lease up, while it waited for
        another lock say; only if the lease can be had in a few seconds."""
        if self._decided:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAIL_TIME):
            try:
                async with self._held() as (grant, record):
                    await self._record_failure(grant, record, error)
                return
            except (Error, OSError) as e:
                log.warning("lease %s: %s", self._lease_id, e)
        error.add_note(f"lease {self._lease_id} stays PENDING: fence it")

    @asynccontextmanager
    async def _held(self) -> AsyncGenerator[tuple[Grant, JobRecord]]:
        lease = await verbs.info(self._store, self._lease_id)
        async with hold(self._store, lease) as grant:  # looks it up again, once it is ours
            yield grant, await self._expected_record(grant)

    async def _expected_record(self, grant: Grant) -> JobRecord:
        record: JobRecord = await grant.read() or JobRecord({})
        record.check(self._expected)
        return record

    async def _record_failure(self, grant: Grant, record: JobRecord, error: BaseException) -> None:
        """Raises why it was not recorded when `error` is only an abort, which does not tell."""
        failure: Error | OSError | None = None
        # Shielded and bounded: an abort must still tell the truth on storage, and dead storage
        # must not keep us here.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + FAIL_TIME):
            try:
                if not grant.in_doubt:
                    await grant.write(self._ended(record, JobStatus.FAILED))
                    return
            except (Error, OSError) as e:
                log.warning("lease %s: %s", self._lease_id, e)
                failure = e
        error.add_note(f"lease {self._lease_id} may stay PENDING: look at its status, fence it")
        if all(isinstance(leaf, trio.Cancelled) for leaf in leaves(error)):
            raise failure or SanlockLVBError(_SILENT) from error

    def _ended(self, record: JobRecord, status: JobStatus) -> JobRecord:
        return record.ended(status, now=int(self._job.now()), hardware_id=self._job.hardware_id)
