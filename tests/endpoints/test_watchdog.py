"""The stall watchdog, with a clock that the test moves."""

import pytest

from endpoints.watchdog import Watchdog
from protocol.errors import ToolStalled


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_tool_that_moves_nothing_for_its_time_has_stalled(clock: Clock) -> None:
    watchdog = Watchdog("qemu-img", 60, clock=clock)
    watchdog.saw(1.0, 100)
    clock.now = 60
    watchdog.saw(None, 100)
    clock.now = 61
    with pytest.raises(ToolStalled, match="qemu-img stood still: nothing came for 60 s"):
        watchdog.saw(None, 100)


@pytest.mark.parametrize("seen", [(2.0, 100), (None, 101)], ids=["percent", "counters"])
def test_either_movement_is_life(clock: Clock, seen: tuple[float | None, int]) -> None:
    watchdog = Watchdog("qemu-img", 60, clock=clock)
    watchdog.saw(1.0, 100)
    clock.now = 59
    watchdog.saw(*seen)
    clock.now = 118
    watchdog.saw(None, 100)


def test_counters_that_fell_are_no_movement(clock: Clock) -> None:
    watchdog = Watchdog("qemu-img", 60, clock=clock)
    watchdog.saw(1.0, 100)
    clock.now = 50
    watchdog.saw(0.5, 0)
    clock.now = 61
    with pytest.raises(ToolStalled):
        watchdog.saw(None, 100)
