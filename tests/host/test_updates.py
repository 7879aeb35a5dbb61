"""Jobs of a moment: they run at once, and end with the agent."""

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from host.updates import updates
from jobs.job import Job, Report, Status
from jobs.registry import Registry
from protocol.errors import JobExists, NoSuchJob


async def nothing(report: Report) -> None:
    """It has ended."""


async def for_ever(report: Report) -> None:
    await trio.sleep_forever()


async def test_a_job_is_done_and_known_by_its_kind() -> None:
    registry = Registry()
    registry.add(Job("copy", nothing, description=""))
    async with updates(registry) as small:
        small.start("a", nothing, description="update")
        await registry.get("a").wait()
        assert small.has("a")
        assert not small.has("copy")
        with pytest.raises(JobExists):
            small.start("copy", nothing, description="update")
        with pytest.raises(NoSuchJob):
            small.has("b")


async def test_what_runs_at_the_end_is_cancelled_and_not_said_to_have_ended() -> None:
    registry = Registry()
    async with updates(registry) as small:
        small.start("a", for_ever, description="update")
        await wait_all_tasks_blocked()
    assert registry.get("a").status is Status.RUNNING


async def test_an_error_of_the_body_comes_out_in_no_group() -> None:
    async def body() -> None:
        async with updates(Registry()):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await body()
