"""The machine as a table: every (status, event) pair, allowed or not."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from jobs.job import Job, Report
from jobs.status import NEXT, Status
from protocol.errors import BadParameter, JobNotActive

# What happens when the event meets a job in this status: the status after it, or the error.
RUN: dict[Status, Status | type[Exception]] = {
    Status.PENDING: Status.DONE,
    Status.RUNNING: RuntimeError,
    Status.ABORTING: RuntimeError,
    Status.DONE: RuntimeError,
    Status.ABORTED: Status.ABORTED,
    Status.FAILED: RuntimeError,
}
ABORT: dict[Status, Status | type[Exception]] = {
    Status.PENDING: Status.ABORTED,
    Status.RUNNING: Status.ABORTING,
    Status.ABORTING: Status.ABORTING,
    Status.DONE: JobNotActive,
    Status.ABORTED: JobNotActive,
    Status.FAILED: JobNotActive,
}


class Body:
    """Work that can be stopped at a point and told how to end."""

    def __init__(self) -> None:
        self.go = trio.Event()
        self.error: Exception | None = None
        self.calls = 0

    async def __call__(self, report: Report) -> dict[str, Any]:
        self.calls += 1
        with trio.CancelScope(shield=True):  # the test, not the abort, decides when it ends
            await self.go.wait()
        if self.error is not None:
            raise self.error
        return {"calls": self.calls}


async def in_status(status: Status, nursery: trio.Nursery) -> tuple[Job, Body]:
    body = Body()
    job = Job("j", body, description="d")
    if status is Status.ABORTED:
        job.abort()
    elif status is not Status.PENDING:
        nursery.start_soon(job.run)
        await trio.testing.wait_all_tasks_blocked()
    if status is Status.ABORTING:
        job.abort()
    if status in (Status.DONE, Status.FAILED):
        body.error = BadParameter("a", "b") if status is Status.FAILED else None
        body.go.set()
        await job.wait()
    assert job.status is status
    return job, body


@pytest.mark.parametrize("status", Status)
async def test_run(status: Status, nursery: trio.Nursery) -> None:
    job, body = await in_status(status, nursery)
    calls = body.calls
    if status is Status.PENDING:
        body.go.set()
    expected = RUN[status]
    if isinstance(expected, Status):
        await job.run()
        assert job.status is expected
    else:
        with pytest.raises(expected):
            await job.run()
        assert job.status is status
    assert body.calls == calls + (status is Status.PENDING)
    body.go.set()


@pytest.mark.parametrize("status", Status)
async def test_abort(status: Status, nursery: trio.Nursery) -> None:
    job, body = await in_status(status, nursery)
    expected = ABORT[status]
    if isinstance(expected, Status):
        job.abort()
        assert job.status is expected
    else:
        with pytest.raises(expected):
            job.abort()
        assert job.status is status
    body.go.set()


@pytest.mark.parametrize("fails", [False, True])
async def test_an_end_that_does_not_come_from_the_abort_wins(
    fails: bool, nursery: trio.Nursery
) -> None:
    job, body = await in_status(Status.ABORTING, nursery)
    body.error = OSError("the disk died first") if fails else None
    body.go.set()
    await job.wait()
    assert job.status is (Status.FAILED if fails else Status.DONE)
    assert job.result == (None if fails else {"calls": 1})


@pytest.mark.parametrize("old", Status)
@pytest.mark.parametrize("new", Status)
def test_no_move_outside_of_the_table(old: Status, new: Status) -> None:
    job = Job("j", Body(), description="")
    job.status = old
    move: Callable[[Status], None] = job._move
    if new in NEXT[old]:
        move(new)
        assert job.status is new
    else:
        with pytest.raises(RuntimeError, match="cannot go"):
            move(new)
        assert job.status is old


def test_every_status_is_in_the_table_and_only_an_end_leads_nowhere() -> None:
    assert set(NEXT) == set(Status)
    assert {s for s in Status if s.ended} == {Status.DONE, Status.ABORTED, Status.FAILED}
