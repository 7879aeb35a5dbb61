"""What the tests of the agent and its workers share: a domain, copies as specifications."""

import os
import signal
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import trio

from endpoints.domain import create_domain, open_store
from host.agent import Agent, agent
from host.folder import Spec
from host.journal import Journal
from jobs.job import Job, Status
from protocol.errors import Error
from protocol.record import JobStatus
from tests.faults import agents
from tests.faults.copies import Copies
from tests.servers import LOOK, WAIT, pattern, users

SIZE = 8 << 20
SLOW = 1 << 20  # bytes per second: a copy of SIZE takes longer than any test needs


@dataclass(frozen=True)
class Place:
    """A folder with a domain for leases and a source; each job has a target of its own."""

    folder: Path
    copies: Copies

    @classmethod
    async def made(cls, folder: Path, leases: int = 24) -> "Place":
        (folder / "source").write_bytes(pattern(SIZE))
        domain = await create_domain(str(folder / "mount"), leases=leases)
        return cls(folder, Copies(domain, await open_store(domain)))

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def journal(self) -> Journal:
        return Journal(self.folder / "jobs")

    def target(self, job_id: str) -> Path:
        return self.folder / f"{job_id}.target"

    async def wanted(self, **options: Any) -> dict[str, Any]:
        """What to submit for a copy with a new lease, as JSON has it."""
        job_id = await self.copies.lease()
        self.target(job_id).write_bytes(b"\xee" * SIZE)
        domain = self.copies.domain
        return agents.spec(
            domain.id, domain.path, self.source, self.target(job_id), job_id, **options
        )

    async def spec(self, **options: Any) -> Spec:
        return msgspec.convert(await self.wanted(**options), Spec)

    def copied(self, job_id: str) -> bool:
        return self.target(job_id).read_bytes() == self.source.read_bytes()

    async def assert_recorded(self, job_id: str, status: JobStatus) -> None:
        """The lease is free and says so."""
        found = await self.copies.status(job_id)
        assert found.owners == []
        assert found.metadata is not None
        assert (found.metadata["job_id"], found.metadata["job_status"]) == (job_id, status)

    def clear(self) -> None:
        """Kill the workers that a test has left, with their tools."""
        while left := users(self.folder):
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK)

    @asynccontextmanager
    async def agent(self, concurrency: int = 4, **options: Any) -> AsyncGenerator[Agent]:
        options = {"autodelete": 3600, **options}
        async with agent(self.journal, concurrency=concurrency, **options) as made:
            yield made


async def ended(job: Job, status: Status) -> None:
    with trio.fail_after(WAIT):
        await job.wait()
    assert job.status is status, f"{job.status}: {job.error!r}"


async def moving(job: Job, bytes: int = 1) -> None:
    """Wait until the copy moves."""
    with trio.fail_after(WAIT):
        while (job.progress.bytes or 0) < bytes:
            assert not job.status.ended, f"{job.status}: {job.error!r}"
            await trio.sleep(LOOK)


async def until_status(job: Job, status: Status) -> None:
    with trio.fail_after(WAIT):
        while job.status is not status:
            assert not job.status.ended, f"{job.status}: {job.error!r}"
            await trio.sleep(LOOK)


def code(job: Job) -> int:
    """Of the error with which the job ended."""
    assert isinstance(job.error, Error), repr(job.error)
    number = job.info()["error"]["code"]
    assert isinstance(number, int)
    return number
