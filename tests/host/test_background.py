"""Tasks in the background of a body: its own error is the one that comes out."""

import pytest
import trio
import trio.testing

from host.background import background


async def test_an_error_of_the_body_comes_out_in_no_group() -> None:
    async def body() -> None:
        async with background() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await body()


async def test_tasks_end_with_the_body() -> None:
    ended = trio.Event()

    async def task() -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    async with background() as nursery:
        nursery.start_soon(task)
        await trio.testing.wait_all_tasks_blocked()
    assert ended.is_set()


async def test_a_cancellation_of_the_body_passes() -> None:
    with trio.move_on_after(0) as scope:
        async with background():
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_an_error_of_a_task_ends_the_body() -> None:
    async def fails() -> None:
        raise OSError("theirs")

    async def body() -> None:
        async with background() as nursery:
            nursery.start_soon(fails)
            await trio.sleep_forever()

    with pytest.raises(ExceptionGroup) as caught:
        await body()
    assert caught.group_contains(OSError, match="theirs")
