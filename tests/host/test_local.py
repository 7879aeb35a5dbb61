"""The agent's own folders are used in threads of their own."""

import threading

import trio
import trio.testing

from host import local
from tests.servers import WAIT


async def test_storage_that_hangs_does_not_keep_the_agent_from_its_own_folders() -> None:
    """Every thread that others may have is taken."""
    others = int(trio.to_thread.current_default_thread_limiter().total_tokens)
    answers = threading.Event()

    async def hang() -> None:
        await trio.to_thread.run_sync(answers.wait, abandon_on_cancel=True)

    try:
        async with trio.open_nursery() as nursery:
            for _ in range(others + 1):
                nursery.start_soon(hang)
            await trio.testing.wait_all_tasks_blocked()
            with trio.fail_after(WAIT):
                assert await local.run(sum, [1, 2]) == 3
            nursery.cancel_scope.cancel()
    finally:
        answers.set()


async def test_what_has_begun_is_done_though_its_caller_is_cancelled() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), False

    def work() -> None:
        nonlocal done
        begun.set()
        go_on.wait()
        done = True

    async with trio.open_nursery() as nursery:
        nursery.start_soon(local.run, work)
        await trio.to_thread.run_sync(begun.wait)
        nursery.cancel_scope.cancel()
        go_on.set()
    assert done
