"""Job.*: one job, pages of them, abort and delete."""

import uuid
from typing import Any

import pytest

from protocol.errors import BadParameter, JobNotActive, JobNotDone, NoSuchJob
from tests.host.verbs.a_host import IMG, MIB, SD, VOL, AHost, external

METHODS = ("Job.info", "Job.abort", "Job.delete")
UPDATE: dict[str, Any] = {
    "vol_info": {"sd_id": SD, "img_id": IMG, "vol_id": VOL},
    "vol_attr": {"description": "new"},
}


@pytest.fixture
async def paused(host: AHost) -> AHost:
    await host.domain()
    (host.disks / "source").write_bytes(b"x" * MIB)
    host.host.agent.queue.paused = True
    return host


async def waiting(host: AHost) -> str:
    """A new job that waits in the queue."""
    job_id = await host.lease()
    ends = {
        "source": external(host.disks / "source"),
        "destination": external(host.disks / job_id, job_id, create=True),
    }
    await host.call("SDM.copy_data", job_id=job_id, **ends)
    return job_id


async def test_a_job_that_waits_is_aborted_and_forgotten(paused: AHost) -> None:
    job_id = await waiting(paused)
    assert (await paused.call("Job.info", job_id=job_id))["status"] == "pending"
    with pytest.raises(JobNotDone):
        await paused.call("Job.delete", job_id=job_id)
    assert await paused.call("Job.abort", job_id=job_id) is True
    assert (await paused.call("Job.info", job_id=job_id))["status"] == "aborted"
    with pytest.raises(JobNotActive):
        await paused.call("Job.abort", job_id=job_id)
    assert await paused.call("Job.delete", job_id=job_id) is True
    with pytest.raises(NoSuchJob):
        await paused.call("Job.info", job_id=job_id)


async def test_a_job_without_a_worker_is_aborted_and_forgotten(paused: AHost) -> None:
    await paused.volume()
    job_id = str(uuid.uuid4())
    await paused.call("SDM.update_volume", job_id=job_id, **UPDATE)
    assert (await paused.ended(job_id))["status"] == "done"
    with pytest.raises(JobNotActive):
        await paused.call("Job.abort", job_id=job_id)
    await paused.call("Job.delete", job_id=job_id)
    with pytest.raises(NoSuchJob):
        await paused.call("Job.info", job_id=job_id)


async def test_an_update_that_has_not_begun_is_aborted(paused: AHost) -> None:
    await paused.volume()
    job_id = str(uuid.uuid4())
    await paused.call("SDM.update_volume", job_id=job_id, **UPDATE)
    await paused.call("Job.abort", job_id=job_id)
    assert (await paused.ended(job_id))["status"] == "aborted"


@pytest.mark.parametrize("method", METHODS)
async def test_an_unknown_job_is_told(host: AHost, method: str) -> None:
    with pytest.raises(NoSuchJob) as caught:
        await host.call(method, job_id=str(uuid.uuid4()))
    assert caught.value.code == 66
    with pytest.raises(BadParameter) as bad:
        await host.call(method, job_id="../x")
    assert bad.value.name == "job_id"


async def test_jobs_come_in_pages(paused: AHost) -> None:
    ids = [await waiting(paused) for _ in range(3)]

    async def page(**params: Any) -> tuple[list[str], int | None]:
        found = await paused.call("Job.list", **params)
        return [one["id"] for one in found["jobs"]], found["next"]

    assert await page() == (ids, None)
    assert await page(limit=2) == (ids[:2], 2)
    assert await page(limit=2, offset=2) == (ids[2:], None)
    assert await page(offset=9) == ([], None)
    await paused.call("Job.abort", job_id=ids[1])
    assert await page(statuses=["aborted"]) == (ids[1:2], None)
    assert await page(statuses=["pending"], limit=1) == (ids[:1], 1)
    assert await page(job_ids=[ids[2].upper(), "unknown", ids[1]]) == ([ids[2], ids[1]], None)
    assert await page(job_ids=ids, statuses=["aborted"]) == (ids[1:2], None)
    assert await page(job_type="v2v") == ([], None)
    for bad in ({"limit": 0}, {"limit": 1001}, {"offset": -1}, {"statuses": ["x"]}):
        with pytest.raises(BadParameter):
            await paused.call("Job.list", **bad)
