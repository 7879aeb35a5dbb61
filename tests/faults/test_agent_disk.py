"""A full disk under the jobs: what was taken in runs and ends, nothing is taken in by halves."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from host.agent import Agent, agent
from host.journal import Journal
from jobs.job import Status
from protocol.errors import NoSpaceLeft
from protocol.record import JobStatus
from tests.faults.disks import need_root, small_file_system
from tests.host.jobs import SLOW, Place, code, ended, moving
from tests.servers import tool

pytestmark = pytest.mark.tools("qemu-img", "mkfs.ext4")


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    made = await Place.made(tmp_path)
    yield made
    made.clear()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_file_system(tmp_path, 4 << 20) as mounted:
        yield mounted


@pytest.fixture
def few_files(tmp_path: Path) -> Iterator[Path]:
    """A file system without room for many names."""
    need_root()
    mounted = tmp_path / "few"
    mounted.mkdir()
    tool(["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=40", "tmpfs", str(mounted)])
    yield mounted
    tool(["umount", "--lazy", str(mounted)])


@asynccontextmanager
async def agent_on(disk: Path) -> AsyncIterator[Agent]:
    async with agent(Journal(disk / "jobs"), concurrency=2, autodelete=3600) as made:
        yield made


def fill(disk: Path) -> Path:
    """Leave not one block."""
    path = disk / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return path


def fill_names(disk: Path) -> list[Path]:
    found = []
    try:
        for number in range(100):
            found.append(disk / f"filler{number}")
            found[-1].touch()
    except OSError:
        found.pop()
    return found


async def test_a_job_that_was_taken_in_is_done_and_stays_so(place: Place, small: Path) -> None:
    async with agent_on(small) as made:
        made.queue.paused = True
        job = await made.submit(await place.spec())
        fill(small)
        made.queue.paused = False
        await ended(job, Status.DONE)
    async with agent_on(small) as made:
        assert made.registry.get(job.id).status is Status.DONE
        assert made.registry.get(job.id).result == job.result
    await place.assert_recorded(job.id, JobStatus.SUCCEEDED)


async def test_an_abort_works_and_is_remembered(place: Place, small: Path) -> None:
    async with agent_on(small) as made:
        running = await made.submit(await place.spec(limit=SLOW))
        await moving(running)
        made.queue.paused = True
        waiting = await made.submit(await place.spec())
        fill(small)
        for job in (running, waiting):
            await made.abort(job.id)
            await ended(job, Status.ABORTED)
    async with agent_on(small) as made:
        assert {job.status for job in made.registry.list()} == {Status.ABORTED}


async def test_nothing_is_taken_in_by_halves(place: Place, small: Path) -> None:
    async with agent_on(small) as made:
        filler = fill(small)
        spec = await place.spec()
        with pytest.raises(NoSpaceLeft):
            await made.submit(spec)
        assert made.registry.list() == ()
        assert [path.name for path in (small / "jobs").iterdir()] == [".lock"]
        filler.unlink()
        await ended(await made.submit(spec), Status.DONE)


async def test_a_job_can_be_deleted_from_a_full_disk(place: Place, small: Path) -> None:
    async with agent_on(small) as made:
        job = await made.submit(await place.spec())
        await ended(job, Status.DONE)
        fill(small)
        await made.delete(job.id)
        assert [path.name for path in (small / "jobs").iterdir()] == [".lock"]


async def test_a_worker_that_cannot_be_started_fails_its_job_for_good(
    place: Place, few_files: Path
) -> None:
    async with agent_on(few_files) as made:
        made.queue.paused = True
        job = await made.submit(await place.spec())
        fillers = fill_names(few_files)
        made.queue.paused = False
        await ended(job, Status.FAILED)
        assert code(job) == 4122
        assert "No space left" in str(job.error)
        for filler in fillers:
            filler.unlink()
        await ended(await made.submit(await place.spec()), Status.DONE)
    async with agent_on(few_files) as made:
        assert made.registry.get(job.id).status is Status.FAILED
    await place.assert_recorded(job.id, JobStatus.PENDING)
