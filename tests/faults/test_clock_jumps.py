"""A wall clock that jumps back and forth: only the times that leases show are other ones."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from leases import verbs
from leases.sector import Sectors
from protocol.record import Expectation, JobStatus
from tests.faults.copies import HARDWARE_ID, Copies
from tests.servers import MIB, pattern, raw_image

SIZE = MIB
DAY = 86400
JUMPS = [0, 4000 * DAY, -4000 * DAY, 20 * DAY, 10**11, -(10**10), 0.5]  # seconds


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


async def lives(copies: Copies, source: Path, target: Path) -> list[dict[str, Any]]:
    """What the leases of jobs that succeed, fail and are fenced say, but for their ids and times.

    With a rebuild of the index in each life.
    """
    sources = {JobStatus.SUCCEEDED: source, JobStatus.FAILED: source.with_name("missing")}
    said = []
    for wanted in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.FENCED):
        job_id = await copies.lease()
        if wanted in sources:
            await copies.job(sources[wanted], target, job_id).run()
        else:
            expected, now = Expectation(job_id, 0), int(time.time())
            await verbs.fence(copies.store, job_id, expected, now=now, hardware_id=HARDWARE_ID)
        await verbs.rebuild(copies.store, now=int(time.time()))
        found = await copies.status(job_id)
        assert found.owners == []
        assert found.metadata is not None
        assert (found.metadata["job_status"], found.metadata["job_id"]) == (wanted, job_id)
        other = ("job_id", "created", "modified")
        said.append({key: found.metadata[key] for key in found.metadata if key not in other})
        await verbs.delete(copies.store, job_id)
    return said


def index_of(copies: Copies) -> bytes:
    with Sectors.open(copies.store.volume.path, write=False) as sectors:
        return sectors.read(copies.store.volume.geometry.index_offset, 1024)


async def test_a_clock_that_jumps_changes_times_and_nothing_else(
    copies: Copies, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By eleven years, and by millennia; another time whenever anybody looks at it."""
    target = raw_image(tmp_path / "target.raw", SIZE)
    straight = await lives(copies, source, target)
    before = index_of(copies)
    real, jumps = time.time(), itertools.cycle(JUMPS)
    monkeypatch.setattr(time, "time", lambda: real + next(jumps))
    for _ in range(len(JUMPS)):
        assert await lives(copies, source, target) == straight
    after = index_of(copies)
    assert (after[:59], after[69:]) == (before[:59], before[69:])


async def test_the_times_of_a_job_may_run_backwards(
    copies: Copies, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await copies.lease()
    created = (await copies.status(job_id)).metadata
    monkeypatch.setattr(time, "time", lambda: 1000.5)
    job = copies.job(source, tmp_path / "target.raw", job_id)
    await job.run()
    await copies.assert_done(job)
    ended = (await copies.status(job_id)).metadata
    assert created is not None
    assert ended is not None
    assert (ended["created"], ended["modified"]) == (created["created"], 1000)
