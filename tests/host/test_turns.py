"""Clients change a membership one after the other, and the agent as long as none minds."""

import trio
from trio.testing import wait_all_tasks_blocked

from host.turns import Turns


async def test_a_client_ends_what_the_agent_does() -> None:
    turns, over = Turns(), trio.Event()

    async def agent() -> None:
        async with turns.of_agent("a"):
            try:
                await trio.Event().wait()
            finally:
                with trio.CancelScope(shield=True):
                    await trio.sleep(0.01)
        over.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            async with turns.of_client("a") as alone:
                assert not over.is_set()  # it may go on beside the client
                await alone()
                await wait_all_tasks_blocked()
                assert over.is_set()
                await alone()


async def test_the_agent_begins_nothing_while_a_client_is_at_it() -> None:
    turns, begun = Turns(), trio.Event()

    async def agent() -> None:
        async with turns.of_agent("a"):
            begun.set()

    async with trio.open_nursery() as nursery:
        async with turns.of_client("a") as alone:
            nursery.start_soon(agent)
            await wait_all_tasks_blocked()
            await alone()  # which does not wait for one that has not begun
            assert not begun.is_set()
        with trio.fail_after(5):
            await begun.wait()


async def test_clients_go_one_after_the_other_and_domains_beside_each_other() -> None:
    turns, most, now = Turns(), 0, 0

    async def client() -> None:
        nonlocal most, now
        async with turns.of_client("a"):
            now += 1
            most = max(most, now)
            await trio.lowlevel.checkpoint()
            now -= 1

    async with turns.of_agent("b"), turns.of_client("c"), trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client)
    assert (most, now) == (1, 0)


async def test_nothing_is_kept_of_ids_that_nobody_uses() -> None:
    turns = Turns()
    for number in range(100):
        async with turns.of_client(str(number)) as alone:
            await alone()
        async with turns.of_agent(str(number)):
            pass
    assert not turns._locks
    assert not turns._own
