"""What a job says, and how it ends."""

from collections.abc import Callable
from typing import Any

import pytest
import trio

from jobs.job import Job, Left, Progress, Report, Status
from protocol.errors import (
    ActionStopped,
    Error,
    GenerationMismatch,
    JobNotActive,
    LeaseLost,
    ReleaseLockFailure,
)


async def nothing(report: Report) -> None:
    await trio.lowlevel.checkpoint()


async def waiting(report: Report) -> None:
    await trio.sleep_forever()


def raising(error: BaseException) -> Callable[[Report], Any]:
    async def work(report: Report) -> None:
        await trio.lowlevel.checkpoint()
        raise error

    return work


async def test_info_before_anything_is_known() -> None:
    job = Job("id", nothing, description="copy a to b", now=lambda: 12.5)
    assert job.info() == {
        "id": "id",
        "status": "pending",
        "description": "copy a to b",
        "job_type": "storage",
        "created": 12.5,
    }


async def test_info_tells_progress_and_times() -> None:
    clock = iter([1.0, 2.0, 3.0])
    seen: list[dict[str, Any]] = []

    async def work(report: Report) -> dict[str, Any]:
        report(Progress(percent=0.0, stage="copying"))
        seen.append(job.info())
        report(Progress(percent=100.0, bytes=9, total_bytes=10, rate=3.0, eta=0.5))
        seen.append(job.info())
        report(Progress(percent=50.0, bytes=4))
        seen.append(job.info())
        return {"bytes": 10}

    job = Job("id", work, description="", now=lambda: next(clock))
    await job.run()
    assert seen[0]["progress"] == 0
    assert seen[0]["stage"] == "copying"
    assert "bytes" not in seen[0]
    assert (seen[1]["progress"], seen[1]["rate"], seen[1]["eta"]) == (99, 3.0, 0.5)
    assert (seen[2]["progress"], seen[2]["bytes"]) == (99, 9)
    assert job.info() == {
        "id": "id",
        "status": "done",
        "description": "",
        "job_type": "storage",
        "progress": 100,
        "bytes": 9,
        "total_bytes": 10,
        "created": 1.0,
        "started": 2.0,
        "ended": 3.0,
    }
    assert job.result == {"bytes": 10}


async def test_an_error_of_ours_keeps_its_code_and_any_other_is_100() -> None:
    job = Job("id", raising(GenerationMismatch(1, 2)), description="")
    await job.run()
    assert job.info()["error"]["code"] == 911
    job = Job("id", raising(OSError("the text")), description="")
    await job.run()
    error = job.info()["error"]
    assert (job.status, error["code"], error["message"]) == (Status.FAILED, 100, "the text")


def test_abort_while_pending_is_an_end_at_once_and_run_does_nothing() -> None:
    job = Job("id", raising(AssertionError("ran")), description="")
    job.abort()
    assert job.status is Status.ABORTED
    trio.run(job.run)
    assert job.info()["status"] == "aborted"
    assert "error" not in job.info()


LOST = LeaseLost("l", "gone")
UNRELEASED = ReleaseLockFailure("l", "hung")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (ExceptionGroup("", [LOST]), LOST),
        (ExceptionGroup("", [ExceptionGroup("", [LOST])]), LOST),
        (ExceptionGroup("", [OSError("x"), LOST]), LOST),
        (ExceptionGroup("", [Error(), OSError("x"), ExceptionGroup("", [LOST])]), LOST),
        (ExceptionGroup("", [ActionStopped(), UNRELEASED]), UNRELEASED),
    ],
)
async def test_a_group_shows_its_most_telling_error(error: Exception, shown: Error) -> None:
    job = Job("id", raising(error), description="")
    await job.run()
    assert job.status is Status.FAILED
    assert job.error is shown


async def test_cancellation_from_outside_passes_through_and_is_no_end() -> None:
    job = Job("id", waiting, description="")
    with trio.CancelScope() as outside:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run)
            await trio.testing.wait_all_tasks_blocked()
            outside.cancel()
    assert outside.cancelled_caught
    assert job.status is Status.RUNNING


async def test_cancellation_from_outside_passes_even_beside_a_failure() -> None:
    async def work(report: Report) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise UNRELEASED

    job = Job("id", work, description="")
    with trio.CancelScope() as outside:
        outside.cancel()
        await job.run()
        raise AssertionError("the cancellation was swallowed")
    assert outside.cancelled_caught
    assert (job.status, job.error) == (Status.FAILED, UNRELEASED)


async def test_shutdown_during_an_abort_passes_and_the_job_is_aborted() -> None:
    job = Job("id", waiting, description="")
    with trio.CancelScope() as outside:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run)
            await trio.testing.wait_all_tasks_blocked()
            job.abort()
            outside.cancel()
    assert outside.cancelled_caught
    assert job.status is Status.ABORTED


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
async def test_an_end_of_the_whole_process_passes_through(error: BaseException) -> None:
    job = Job("id", raising(error), description="")
    with pytest.raises(type(error)):
        await job.run()
    assert job.status is Status.RUNNING


async def test_a_job_of_a_former_life_is_shown_as_it_ended() -> None:
    job = Job.restored(
        "id",
        description="copy",
        status=Status.FAILED,
        result=None,
        error=LeaseLost("lease", "gone"),
        progress=Progress(percent=50.0, bytes=5, total_bytes=10),
        times={"created": 1.0, "started": 2.0, "ended": 3.0},
    )
    info = job.info()
    assert (info["created"], info["started"], info["ended"]) == (1.0, 2.0, 3.0)
    assert (info["status"], info["progress"], info["bytes"]) == ("failed", 50, 5)
    assert info["error"]["kind"] == "LeaseLost"
    with trio.fail_after(20):
        await job.wait()
    with pytest.raises(JobNotActive):
        job.abort()
    with pytest.raises(RuntimeError):
        await job.run()


@pytest.mark.parametrize("status", [Status.PENDING, Status.RUNNING, Status.ABORTING])
def test_only_a_job_that_ended_is_restored(status: Status) -> None:
    with pytest.raises(ValueError, match="has not ended"):
        Job.restored(
            "id",
            description="",
            status=status,
            result=None,
            error=None,
            progress=Progress(),
            times={},
        )


async def test_a_job_that_began_in_a_former_life_keeps_its_times() -> None:
    times = {"created": 1.0, "started": 2.0}
    job = Job("id", nothing, description="", now=lambda: 9.0, times=times)
    await job.run()
    info = job.info()
    assert (info["created"], info["started"], info["ended"]) == (1.0, 2.0, 9.0)


async def test_work_that_goes_on_elsewhere_has_not_ended() -> None:
    job = Job("id", raising(Left()), description="")
    await job.run()
    assert job.status is Status.RUNNING
    assert job.error is None
