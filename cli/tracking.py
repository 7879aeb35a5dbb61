"""The lease of a copy: made or taken up before it, removed or left to tell what happened."""

import time
from dataclasses import dataclass
from uuid import UUID

import trio

from cli.lease_text import hosts
from leases import verbs
from leases.store import Store
from leases.verbs import LeaseStatus
from protocol.errors import AcquireLockFailure, Error, NoSuchLease
from protocol.messages import JobMetadata
from protocol.record import GENERATIONS, Expectation, JobRecord, JobStatus

FIRST_GENERATION = 0
STATUS_TIME = 5.0  # seconds for the lease to say what is recorded


@dataclass(frozen=True)
class Tracking:
    """The lease of one job; its id is the job's."""

    store: Store
    sd_id: str
    job_id: str
    hardware_id: str

    async def take_up(self) -> int:
        """Make the lease, or find the one that a process which died left; returns its generation.

        Raises AcquireLockFailure (651): the job is running. JobStatusMismatch (912): it has ended
        or was fenced. UnsupportedOperation (2009): the lease is not of this job. NoSpace ...
        """
        try:
            status = await verbs.status(self.store, self.job_id)
        except NoSuchLease:
            await self._create()
            return FIRST_GENERATION
        if status.owners:
            reason = f"job {self.job_id} is running, the lease is held by host {hosts(status)}"
            raise AcquireLockFailure(f"lease {self.job_id}", reason)
        return taken_up(self.job_id, JobRecord(status.metadata or {}))

    async def remove(self) -> None:
        await verbs.delete(self.store, self.job_id)

    async def status(self) -> LeaseStatus | None:
        """The status of the lease after the job; None when it cannot be told in a few seconds."""
        with trio.move_on_after(STATUS_TIME):
            try:
                return await verbs.status(self.store, self.job_id)
            except (Error, OSError):
                return None
        return None

    async def _create(self) -> None:
        metadata = JobMetadata(
            job_id=UUID(self.job_id), generation=FIRST_GENERATION, job_status=JobStatus.PENDING
        )
        await verbs.create(
            self.store,
            self.job_id,
            metadata,
            now=int(time.time()),
            hardware_id=self.hardware_id,
        )


def taken_up(job_id: str, record: JobRecord) -> int:
    """The generation with which `job_id` goes on from `record`, found in its free lease. Pure."""
    found = record.keys.get("generation")
    generation = FIRST_GENERATION
    if isinstance(found, int) and found in range(GENERATIONS):
        generation = found
    record.check(Expectation(job_id, generation))  # refuses a bool, too
    return generation
