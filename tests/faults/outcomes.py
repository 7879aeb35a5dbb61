"""How a job whose lease storage failed has to end."""

from collections.abc import Callable

import trio

from jobs.job import Job, Status
from leases import verbs
from protocol.errors import (
    Error,
)
from protocol.record import Expectation, JobStatus
from tests.faults.copies import HARDWARE_ID, Copies, copying


async def assert_unresolved(copies: Copies, job: Job) -> None:
    """The job is not done; its lease is free and PENDING, and a fence ends that for good."""
    assert job.status is Status.FAILED
    await copies.assert_recorded(job, JobStatus.PENDING, generation=0)
    await verbs.fence(copies.store, job.id, Expectation(job.id, 0), now=1, hardware_id=HARDWARE_ID)
    await copies.assert_recorded(job, JobStatus.FENCED, generation=1)


async def broken(job: Job, fault: Callable[[], None], kind: type[Error]) -> Error:
    """Run the job, cause the fault in its middle, see it fail."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await copying(job)
        fault()
    assert job.status is Status.FAILED, repr(job.error)
    assert type(job.error) is kind, repr(job.error)
    return job.error
