"""Whoever listens is told, and who is too slow loses the oldest and hears how many."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from engine.events import LOST, Bus, Event, matches
from tests.servers import WAIT


def bus() -> Bus:
    return Bus(clock=lambda: 7.0)


async def test_all_listeners_hear_what_is_told_in_its_order() -> None:
    made = bus()
    with made.subscribed() as one, made.subscribed() as other:
        made.tell("disk.changed", "d1", {"state": "ok"}, id=3)
        made.tell("job.progress", "c1")
        for heard in (one, other):
            assert await heard.receive() == Event(3, 7.0, "disk.changed", "d1", {"state": "ok"})
            assert await heard.receive() == Event(None, 7.0, "job.progress", "c1", {})


async def test_only_the_wanted_kinds_are_heard() -> None:
    made = bus()
    with made.subscribed("host.changed", room=1) as heard:
        made.tell("host.changed", "h1")
        made.tell("disk.changed", "d1")
        assert (await heard.receive()).object == "h1"
        assert heard.lost == 0


async def test_nobody_is_waited_for_and_nothing_is_heard_after_the_end() -> None:
    made = bus()
    made.tell("disk.changed", "d0")
    with made.subscribed() as heard:
        assert made.listeners == 1
    assert made.listeners == 0
    made.tell("disk.changed", "d1")
    with trio.move_on_after(0) as scope:
        await heard.receive()
    assert scope.cancelled_caught


async def test_who_is_too_slow_loses_the_oldest_and_is_told_how_many() -> None:
    made = bus()
    with made.subscribed(room=2) as heard:
        for number in range(5):
            made.tell("job.progress", str(number))
        first = await heard.receive()
        assert (first.kind, first.data) == (LOST, {"lost": 3})
        assert [(await heard.receive()).object for _ in range(2)] == ["3", "4"]
        made.tell("job.progress", "5")
        assert (await heard.receive()).object == "5"
        assert heard.lost == 3


async def test_a_listener_that_waits_is_woken() -> None:
    made = bus()
    found = []

    async def listen() -> None:
        with made.subscribed() as heard:
            async for event in heard:
                found.append(event.object)
                if len(found) == 2:
                    return

    with trio.fail_after(WAIT):
        await woken(made, listen)
    assert found == ["1", "2"]


async def woken(made: Bus, listen: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen)
        await wait_all_tasks_blocked()
        made.tell("x", "1")
        await wait_all_tasks_blocked()
        made.tell("x", "2")


@pytest.mark.parametrize(
    ("kind", "wanted", "is_wanted"),
    [
        ("job.progress", (), True),
        ("job.progress", ("job.progress",), True),
        ("job.progress", ("job.",), True),
        ("job.progress", ("job",), False),
        ("job.progress", ("disk.", "jobs."), False),
    ],
)
def test_a_kind_with_a_dot_at_its_end_is_all_that_begin_so(
    kind: str, wanted: tuple[str, ...], is_wanted: bool
) -> None:
    assert matches(kind, wanted) is is_wanted
