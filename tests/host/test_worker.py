"""What a worker does before it begins, and what it makes of those who stop it."""

import signal
from pathlib import Path

import pytest
import structlog
import trio
from trio.testing import wait_all_tasks_blocked

from host import worker
from jobs.job import Job, Report
from jobs.status import Status
from protocol.errors import LeaseLost, ReleaseLockFailure, SanlockLVBError
from tests.host.test_folder import spec


@pytest.mark.parametrize(
    ("before", "after"), [("-900\n", "0"), ("-1\n", "0"), ("0\n", "0\n"), ("300\n", "300\n")]
)
def test_a_worker_is_not_protected_as_the_agent_is(tmp_path: Path, before: str, after: str) -> None:
    score = tmp_path / "oom_score_adj"
    score.write_text(before)
    worker._unprotect(score)
    assert score.read_text() == after


def test_every_line_of_a_worker_names_its_job_lease_and_flow() -> None:
    lease = {"sd_id": "1", "lease_id": "the lease"}
    wanted = spec(flow_id="50%s\nof it", destination={"endpoint_type": "external", "lease": lease})
    structlog.contextvars.clear_contextvars()
    try:
        worker._log_for(wanted)
        assert structlog.contextvars.get_contextvars() == {
            "job": str(wanted.job_id),
            "lease": "the lease",
            "flow_id": "50%s\nof it",
        }
    finally:
        structlog.contextvars.clear_contextvars()


AGENT = 0
LOST = LeaseLost("a", "this host has not renewed its membership for 8 s")


@pytest.mark.parametrize(
    ("asked", "error", "status"),
    [
        ([signal.SIGTERM], LOST, Status.FAILED),
        ([signal.SIGTERM], SanlockLVBError("no answer"), Status.FAILED),
        ([signal.SIGTERM, signal.SIGTERM, AGENT], LOST, Status.FAILED),  # the agent has seen it
        ([signal.SIGTERM], None, Status.ABORTED),  # the host goes down
        ([signal.SIGTERM], ReleaseLockFailure("a", "no answer"), Status.ABORTED),
        ([AGENT], LOST, Status.ABORTED),
        ([AGENT, signal.SIGTERM], LOST, Status.ABORTED),
        ([signal.SIGINT], LOST, Status.ABORTED),
    ],
)
async def test_a_job_that_sanlock_stops_for_its_lost_storage_has_failed(
    asked: list[int], error: Exception | None, status: Status
) -> None:
    """Nobody has aborted it."""

    async def work(report: Report) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled as e:
            if error is None:
                raise
            raise error from e

    job = Job("a", work, description="")
    stop = worker._Stop(job)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await wait_all_tasks_blocked()
        for number in asked:
            stop.ask(number)
    ending = worker._ending(job, stop)
    assert ending.status is status
    assert (ending.error is None) == (error is None)


async def test_a_stop_after_the_end_changes_nothing() -> None:
    async def work(report: Report) -> None:
        raise LOST

    job = Job("a", work, description="")
    stop = worker._Stop(job)
    await job.run()
    stop.ask(signal.SIGTERM)
    assert worker._ending(job, stop).status is Status.FAILED
