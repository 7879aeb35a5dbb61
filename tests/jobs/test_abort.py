"""An abort is never lost: wherever it meets the work, the job ends aborted."""

from typing import Any

import pytest
import trio
from trio.abc import Instrument
from trio.lowlevel import Task
from trio.testing import MockClock

from jobs.job import Job, Progress, Report, Status
from protocol.errors import ActionStopped, InputOutputError, ReleaseLockFailure, ToolFailed

BROKEN = InputOutputError("qemu-img", 1, "EIO")


async def body(report: Report) -> dict[str, Any]:
    """Work that waits in each of the ways in which a copy waits."""
    await trio.lowlevel.checkpoint()
    await trio.sleep(1)
    async with trio.Lock(), trio.CapacityLimiter(1):
        report(Progress(percent=1.0))
        await trio.to_thread.run_sync(lambda: None)
    with trio.move_on_after(1):
        await trio.sleep_forever()
    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 1)
        await receive.receive()
        nursery.start_soon(trio.sleep, 5)
    try:
        await trio.sleep(1)
    finally:
        with trio.CancelScope(shield=True):
            await trio.sleep(1)
    async with send, receive:
        await trio.sleep(1)
    return {"end": True}


class AbortAfter(Instrument):
    """Aborts `job` when the task that runs it waits for the `count`-th time."""

    def __init__(self, job: Job, count: int) -> None:
        self.job = job
        self.left = count
        self.fired = False

    def after_task_step(self, task: Task) -> None:
        if task.name == "the job" and not self.job.status.ended:
            self.left -= 1
            if self.left == 0:
                self.fired = True
                self.job.abort()


async def aborted_at(count: int) -> tuple[Job, bool]:
    job = Job("id", body, description="")
    instrument = AbortAfter(job, count)
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run, name="the job")
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return job, instrument.fired


STEPS = 24  # more than the body has; how many it has depends on trio


@pytest.mark.parametrize("count", range(1, STEPS))
async def test_abort_at_every_await(count: int, autojump_clock: MockClock) -> None:
    job, fired = await aborted_at(count)
    assert job.status is (Status.ABORTED if fired else Status.DONE)
    assert job.error is None


async def test_the_body_above_has_many_awaits_and_fewer_than_are_tried(
    autojump_clock: MockClock,
) -> None:
    fired = [(await aborted_at(count))[1] for count in range(1, STEPS)]
    assert fired.count(True) > 8
    assert not fired[-1]


async def test_abort_before_the_first_await_of_the_work(nursery: trio.Nursery) -> None:
    async def work(report: Report) -> None:
        job.abort()
        await trio.sleep_forever()

    job = Job("id", work, description="")
    await job.run()
    assert job.status is Status.ABORTED


async def test_a_cancellation_that_the_work_turned_into_an_error_is_still_the_abort() -> None:
    async def work(report: Report) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            raise ActionStopped from None

    job = await aborted(work)
    assert (job.status, job.error) == (Status.ABORTED, None)


async def test_a_cleanup_that_fails_during_the_abort_is_shown_and_the_job_is_aborted() -> None:
    async def work(report: Report) -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ReleaseLockFailure("lease", "no answer")

    job = await aborted(work)
    assert job.status is Status.ABORTED
    assert job.info()["error"]["code"] == 660


async def test_a_group_of_the_abort_and_cleanup_errors_is_the_abort() -> None:
    async def failing_cleanup() -> None:
        with trio.CancelScope(shield=True):
            await stopped.wait()
        raise ToolFailed("qemu-img", -15, "terminated")

    async def work(report: Report) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(failing_cleanup)
            try:
                await trio.sleep_forever()
            finally:
                stopped.set()

    stopped = trio.Event()
    job = await aborted(work)
    assert job.status is Status.ABORTED
    assert isinstance(job.error, ToolFailed)


async def test_a_failure_before_the_abort_stays_a_failure() -> None:
    """The failure cancels its sibling, whose cleanup is still running when the abort comes."""

    async def failing() -> None:
        raise BROKEN

    async def sibling() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await cleaned.wait()

    async def work(report: Report) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sibling)
            nursery.start_soon(failing)

    cleaned = trio.Event()
    job = Job("id", work, description="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await trio.testing.wait_all_tasks_blocked()
        job.abort()
        cleaned.set()
    assert (job.status, job.error) == (Status.FAILED, BROKEN)


async def test_a_failure_whose_shielded_cleanup_meets_the_abort_stays_a_failure() -> None:
    async def work(report: Report) -> None:
        try:
            raise BROKEN
        finally:
            with trio.CancelScope(shield=True):
                await cleaned.wait()

    cleaned = trio.Event()
    job = Job("id", work, description="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await trio.testing.wait_all_tasks_blocked()
        job.abort()
        cleaned.set()
    assert (job.status, job.error) == (Status.FAILED, BROKEN)


async def test_an_action_that_stops_itself_without_an_abort_failed() -> None:
    async def work(report: Report) -> None:
        raise ActionStopped

    job = Job("id", work, description="")
    await job.run()
    assert job.status is Status.FAILED
    assert job.info()["error"]["code"] == 443


async def aborted(work: Any) -> Job:
    """The job of `work` after an abort that came when all of it was waiting."""
    job = Job("id", work, description="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await trio.testing.wait_all_tasks_blocked()
        job.abort()
        job.abort()
    return job
