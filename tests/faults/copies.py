"""Tracked copies with their leases in one small domain, run as jobs in this process."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from endpoints.copy_data import CopyRequest, copy
from endpoints.external import CopyDataExternalEndpoint
from endpoints.watchdog import STALL_TIME
from jobs.job import Job, Report, Status
from jobs.progress import Progress
from leases import verbs
from leases.store import Store
from leases.verbs import LeaseStatus
from protocol.errors import Error
from protocol.messages import ExternalEndpoint, Format, JobMetadata, LeaseRef
from protocol.record import JobStatus
from storage.domain import Domain
from tests.servers import LOOK, WAIT

HARDWARE_ID = "00000000-0000-4000-8000-000000000001"
LVB_SIZE = 512
Seen = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """For copies whose progress nobody looks at."""


@dataclass(frozen=True)
class Copies:
    """`domain` has room for a few leases; the lease of a job has the job's id."""

    domain: Domain
    store: Store

    async def lease(self, generation: int = 0) -> str:
        """A new lease, PENDING, for a new job; returns the id of both."""
        job_id = str(uuid.uuid4())
        metadata = JobMetadata(UUID(job_id), generation, JobStatus.PENDING)
        await verbs.create(
            self.store, job_id, metadata, now=int(time.time()), hardware_id=HARDWARE_ID
        )
        return job_id

    def job(
        self,
        source: Path | str,
        target: Path | str,
        job_id: str,
        *,
        format: Format = "raw",
        source_format: Format | None = None,
        generation: int = 0,
        limit: int | None = None,
        stall_time: float = STALL_TIME,
        verify: bool = False,
        is_zero: bool = False,
        sparse: bool = False,
        seen: Seen = ignore,
    ) -> Job:
        """A job that copies; a missing file is created where `target` says.

        limit: bytes per second. is_zero, sparse: what is said of the target. seen: gets every
        progress as the copy reports it.
        """
        lease = LeaseRef(UUID(self.domain.id), job_id)
        read = CopyDataExternalEndpoint.read
        request = CopyRequest(
            job_id=job_id,
            source=read(
                ExternalEndpoint(url=str(source), format=source_format or "raw"),
                find_format=source_format is None,
            ),
            destination=read(
                ExternalEndpoint(
                    url=str(target),
                    format=format,
                    lease=lease,
                    generation=generation,
                    sparse=sparse,
                    create=True,
                    is_zero=is_zero,
                )
            ),
            create_under=(str(Path(target).parent),) if str(target).startswith("/") else (),
            limit=limit,
            stall_time=stall_time,
            verify=verify,
        )

        async def work(report: Report) -> dict[str, Any]:
            def both(progress: Progress) -> None:
                report(progress)
                seen(progress)

            return await copy(request, self.store, both, now=time.time, hardware_id=HARDWARE_ID)

        return Job(job_id, work, description=f"copy {source} to {target}")

    async def copied(self, source: Path | str, target: Path | str, **options: Any) -> Job:
        """Run a copy with a new lease to its end."""
        job = self.job(source, target, await self.lease(), **options)
        await job.run()
        return job

    async def status(self, job_id: str) -> LeaseStatus:
        return await verbs.status(self.store, job_id)

    async def assert_done(self, job: Job) -> None:
        """The job is done, its lease is free and says so, with the next generation."""
        assert job.status is Status.DONE, repr(job.error)
        await self.assert_recorded(job, JobStatus.SUCCEEDED, generation=1)

    async def assert_failed(self, job: Job, kind: type[Error]) -> None:
        """The job failed for that reason, and so says its lease, which is free."""
        assert (job.status, type(job.error)) == (Status.FAILED, kind), repr(job.error)
        await self.assert_recorded(job, JobStatus.FAILED, generation=0)

    async def assert_recorded(self, job: Job, status: JobStatus, *, generation: int) -> None:
        found = await self.status(job.id)
        assert found.owners == []
        assert found.metadata is not None
        assert found.metadata["job_id"] == job.id
        assert (found.metadata["job_status"], found.metadata["generation"]) == (status, generation)

    async def block(self, job_id: str) -> "Block":
        """The value block of a lease on the disk."""
        lease = await verbs.info(self.store, job_id)
        return Block(Path(lease.path), lease.offset + self.store.volume.geometry.lvb_offset)


@dataclass(frozen=True)
class Block:
    """512 bytes of the lease volume, read and written around the lease."""

    path: Path
    offset: int

    def read(self) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(LVB_SIZE)

    def write(self, data: bytes) -> None:
        assert len(data) == LVB_SIZE
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            file.write(data)


async def copying(job: Job, *, bytes: int = 1) -> None:
    """Wait until so many bytes of the copy are known to have moved."""
    with trio.fail_after(WAIT):
        while (job.progress.bytes or 0) < bytes:
            assert not job.status.ended, f"{job.status}: {job.error!r}"
            await trio.sleep(LOOK)
