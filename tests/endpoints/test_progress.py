"""The meter: it never runs backwards, nor ahead of what can be true."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.progress import ALMOST, IN_FLIGHT, WINDOW, Meter
from processes.allocation import Allocation

MIB = 1 << 20
GIB = 1 << 30


@dataclass
class Clock:
    """A clock that goes only when it is told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def allocation(size: int, *extents: tuple[int, int]) -> Allocation:
    result = Allocation(size)
    for start, length in extents:
        result.add(start, length)
    return result


def full(size: int) -> Allocation:
    return allocation(size, (0, size))


def test_nothing_was_seen_nothing_is_known() -> None:
    meter = Meter(full(GIB), of_data=True, clock=Clock())
    progress = meter.progress("copying")
    assert (progress.percent, progress.bytes, progress.total_bytes) == (0, 0, GIB)
    assert (progress.rate, progress.eta) == (None, None)


def test_the_percent_of_qemu_img_counts_data() -> None:
    meter = Meter(allocation(10 * GIB, (0, GIB)), of_data=True, clock=Clock())
    meter.moved(50.0, GIB)
    assert meter.bytes == int(GIB * 0.51)
    assert meter.total == GIB


def test_the_percent_of_nbdcopy_counts_positions() -> None:
    data = allocation(8 * GIB, (4 * GIB, GIB))
    meter = Meter(data, of_data=False, clock=Clock())
    meter.moved(50.0, 0)
    assert meter.bytes == 0  # half of the disk, but holes only
    meter.moved(75.0, 0)
    assert meter.bytes == GIB


def test_between_two_steps_the_counters_tell_but_not_beyond_the_next() -> None:
    meter = Meter(full(10 * GIB), of_data=True, clock=Clock())
    meter.moved(10.0, GIB)
    assert meter.bytes == GIB
    meter.moved(None, GIB + 50 * MIB)
    assert meter.bytes == GIB + 50 * MIB
    meter.moved(None, 5 * GIB)  # it reads ahead, say
    assert meter.bytes == int(10 * GIB * 0.11)


def test_what_qemu_img_has_only_begun_is_not_counted() -> None:
    meter = Meter(full(10 * GIB), of_data=True, clock=Clock())
    meter.moved(10.0, 0)
    assert meter.bytes == GIB - IN_FLIGHT


def test_where_counters_tell_all_the_percent_is_not_asked() -> None:
    meter = Meter(full(GIB), of_data=False, counted=True, clock=Clock())
    meter.moved(12.0, 0)
    assert meter.bytes == 0
    meter.moved(None, GIB // 2)
    assert meter.bytes == GIB // 2
    meter.moved(None, 2 * GIB)  # with the words around the data
    assert meter.bytes == GIB


def test_it_does_not_fall_when_the_tool_has_ended() -> None:
    """Its counters are gone then."""
    meter = Meter(full(GIB), of_data=True, clock=Clock())
    meter.moved(50.0, GIB // 2)
    before = meter.bytes
    meter.moved(None, 0)
    meter.moved(1.0, 0)
    assert meter.bytes == before


def test_100_is_for_a_result_that_is_on_disk() -> None:
    meter = Meter(full(GIB), of_data=True, clock=Clock())
    meter.moved(100.0, GIB)
    assert meter.bytes == GIB
    assert meter.progress("copying").percent == ALMOST
    meter.finish()
    assert meter.progress("flushed").percent == ALMOST


@pytest.mark.parametrize("size", [1, 3 * MIB + 512, GIB])
@pytest.mark.parametrize("of_data", [True, False])
def test_the_end_is_the_total(size: int, of_data: bool) -> None:
    meter = Meter(full(size), of_data=of_data, clock=Clock())
    meter.finish()
    assert meter.bytes == meter.total == size
    progress = meter.progress("flushed")
    assert progress.stage_percent == 100
    assert progress.eta in (None, 0)


def test_an_image_without_data_goes_by_the_percent() -> None:
    meter = Meter(Allocation(GIB), of_data=False, clock=Clock())
    meter.moved(50.0, 0)
    assert meter.progress("copying").percent == 50
    assert meter.progress("copying").bytes == 0


def test_rate_and_time_left_are_those_of_the_last_seconds() -> None:
    clock = Clock()
    meter = Meter(full(1000 * MIB), of_data=True, clock=clock)
    for second in range(1, 21):
        clock.now += 1
        meter.moved(float(second), second * 10 * MIB)  # 10 MiB a second
    progress = meter.progress("copying")
    assert progress.rate == pytest.approx(10 * MIB)
    assert progress.eta == pytest.approx(80)
    for _ in range(int(2 * WINDOW)):
        clock.now += 1
        meter.moved(None, 200 * MIB)  # nothing moves any more
    stalled = meter.progress("copying")
    assert stalled.rate == 0
    assert stalled.eta is None  # not infinite: it cannot be said in JSON


def test_the_rate_is_not_known_before_time_has_passed() -> None:
    meter = Meter(full(GIB), of_data=True, clock=Clock())
    meter.moved(10.0, GIB // 10)
    assert meter.rate is None


def test_a_part_of_a_job_takes_it_from_one_percent_to_another() -> None:
    meter = Meter(full(GIB), of_data=False, clock=Clock())
    meter.moved(50.0, 0)
    progress = meter.progress("verifying", (50.0, 100.0))
    assert progress.percent == 75
    assert progress.stage_percent == 50


def test_memory_is_bounded_by_the_window() -> None:
    clock = Clock()
    meter = Meter(full(GIB), of_data=True, clock=clock)
    for second in range(10_000):
        clock.now += 0.5
        meter.moved(None, second)
    assert len(meter._seen) <= 2 * WINDOW + 2


SEEN = st.lists(
    st.tuples(
        st.none() | st.floats(0, 100) | st.just(1000.0),
        st.integers(0, 4 * GIB),
        st.floats(0, 20),
    ),
    max_size=30,
)


@given(seen=SEEN, of_data=st.booleans(), counted=st.booleans(), holes=st.booleans())
def test_it_never_runs_backwards_nor_beyond_the_total(
    seen: list[tuple[float | None, int, float]], of_data: bool, counted: bool, holes: bool
) -> None:
    clock = Clock()
    data = allocation(2 * GIB, (GIB // 2, GIB)) if holes else full(2 * GIB)
    meter = Meter(data, of_data=of_data, counted=counted, clock=clock)
    before = 0
    for percent, moved, seconds in seen:
        clock.now += seconds
        meter.moved(percent, moved)
        assert before <= meter.bytes <= meter.total
        before = meter.bytes
        progress = meter.progress("copying")
        assert progress.percent is not None
        assert 0 <= progress.percent <= ALMOST
        assert progress.rate is None or progress.rate >= 0
        assert progress.eta is None or progress.eta >= 0


@given(seen=SEEN)
def test_it_never_runs_ahead_of_the_next_step_of_qemu_img(
    seen: list[tuple[float | None, int, float]],
) -> None:
    meter = Meter(full(2 * GIB), of_data=True, clock=Clock())
    highest = 0.0
    for percent, moved, _ in seen:
        highest = max(highest, min(percent or 0.0, 100.0))
        meter.moved(percent, moved)
        assert meter.bytes <= 2 * GIB * min(highest + 1, 100) / 100
        assert meter.bytes >= int(2 * GIB * highest / 100) - IN_FLIGHT
