"""What goes on during an abort ends with the agent, and the job is not said to have ended."""

import pytest
import trio

from host.shield import Shield
from jobs.job import Job, Left, Report, Status


async def test_the_body_goes_on_when_what_is_around_it_is_cancelled() -> None:
    shield, went_on = Shield(), False
    with trio.CancelScope() as scope:
        scope.cancel()
        with shield.held():
            await trio.lowlevel.checkpoint()
            went_on = True
    assert went_on


async def test_the_end_of_the_agent_ends_it() -> None:
    shield, begun = Shield(), trio.Event()

    async def work(report: Report) -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            with shield.held():
                begun.set()
                await trio.sleep_forever()

    job = Job("id", work, description="")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shield.watch)
        nursery.start_soon(job.run)
        await trio.testing.wait_all_tasks_blocked()
        job.abort()
        with trio.fail_after(20):
            await begun.wait()
        nursery.cancel_scope.cancel()
    assert job.status is Status.ABORTING


async def test_after_the_end_of_the_agent_nothing_is_begun() -> None:
    shield = Shield()
    with trio.CancelScope() as scope:
        scope.cancel()
        await shield.watch()
    with pytest.raises(Left), shield.held():
        await trio.sleep_forever()
