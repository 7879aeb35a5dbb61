"""A blocking call in a thread of its own."""

import os
import threading
from collections.abc import Iterator

import pytest
import trio
import trio.testing

from leases.call import Call
from leases.worker import run

LONG = 30.0  # seconds; nothing here takes so long
SOON = 15.0


@pytest.fixture
def answered() -> Iterator[threading.Event]:
    """When it is set, what waits for it goes on."""
    event = threading.Event()
    yield event
    event.set()


def test_its_answer_is_that_of_the_call() -> None:
    call = Call(lambda: 7)
    assert call.ends_in(LONG)
    assert call.answer() == 7


def test_its_error_is_that_of_the_call() -> None:
    call = Call(lambda: 1 // 0)
    assert call.ends_in(LONG)
    with pytest.raises(ZeroDivisionError):
        call.answer()


def test_it_is_not_waited_for_longer_than_was_said(answered: threading.Event) -> None:
    call = Call(lambda: answered.wait(LONG))
    assert not call.ends_in(0.05)
    answered.set()
    assert call.ends_in(LONG)
    assert call.answer()


async def test_who_waits_for_it_in_a_worker_thread_can_be_cancelled(
    answered: threading.Event,
) -> None:
    call = Call(lambda: answered.wait(LONG))
    with trio.fail_after(SOON):
        with trio.move_on_after(0.05) as scope:
            await run(call.ends_in, LONG)
        assert scope.cancelled_caught
    assert call.running


async def test_one_that_ends_soon_after_who_waits_was_cancelled_has_an_answer(
    answered: threading.Event,
) -> None:
    call = Call(lambda: answered.wait(LONG))
    threading.Timer(0.3, answered.set).start()  # when that was seen, and before it is given up
    with trio.move_on_after(0.05):
        assert await run(call.ends_in, LONG)
        assert call.answer()


async def test_one_that_must_come_to_its_end_is_waited_for_all_the_same(
    answered: threading.Event,
) -> None:
    call = Call(lambda: answered.wait(LONG))
    ended: list[bool] = []

    async def wait() -> None:
        ended.append(await run(lambda: call.ends_in(LONG, cancellable=False)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.sleep(0.3)  # it has looked
            assert ended == []
            answered.set()
    assert ended == [True]


def test_a_thread_does_many_calls_one_after_another() -> None:
    def thread() -> int:
        return threading.get_ident()

    first = Call(thread)
    assert first.ends_in(LONG)
    second = Call(thread)
    assert second.ends_in(LONG)
    assert first.answer() == second.answer()


def test_one_that_hangs_keeps_no_other_waiting(answered: threading.Event) -> None:
    hangs = [Call(lambda: answered.wait(LONG)) for _ in range(20)]
    call = Call(lambda: 7)
    assert call.ends_in(LONG)
    assert call.answer() == 7
    assert all(one.running for one in hangs)
    answered.set()
    assert all(one.ends_in(LONG) for one in hangs)
    before = threading.active_count()
    assert Call(lambda: 8).ends_in(LONG)
    assert threading.active_count() <= before  # the threads of a rush are not kept for ever


def test_a_child_of_a_fork_has_threads_of_its_own() -> None:
    assert Call(lambda: 7).ends_in(LONG)
    child = os.fork()
    if child == 0:
        os._exit(0 if Call(lambda: 7).ends_in(LONG) else 1)
    assert os.waitpid(child, 0)[1] == 0
