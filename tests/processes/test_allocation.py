"""Allocation: sums of data, exact at the borders of its parts, whatever the extents were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes.allocation import PARTS, SMALLEST, Allocation

SIZE = 10 * SMALLEST


def extents(size: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Extents side by side, as `qemu-img map` prints them."""
    cuts = st.lists(st.integers(0, size), max_size=20, unique=True).map(sorted)
    return cuts.map(lambda c: [(a, b - a) for a, b in zip(c[::2], c[1::2], strict=False)])


def filled(size: int, data: list[tuple[int, int]]) -> Allocation:
    allocation = Allocation(size)
    for start, length in data:
        allocation.add(start, length)
    return allocation


@given(data=extents(SIZE))
def test_the_total_is_the_sum_of_the_data(data: list[tuple[int, int]]) -> None:
    allocation = filled(SIZE, data)
    assert allocation.total == sum(length for _, length in data)
    assert allocation.upto(SIZE) == allocation.total
    assert allocation.upto(0) == 0


@given(data=extents(SIZE), part=st.integers(0, 10))
def test_it_is_exact_at_the_borders_of_parts(data: list[tuple[int, int]], part: int) -> None:
    position = part * SMALLEST
    exact = sum(max(0, min(position, start + length) - start) for start, length in data)
    assert filled(SIZE, data).upto(position) == exact


@given(data=extents(SIZE), positions=st.lists(st.floats(-1, SIZE + 1), min_size=2))
def test_it_never_falls_and_stays_between_0_and_the_total(
    data: list[tuple[int, int]], positions: list[float]
) -> None:
    allocation = filled(SIZE, data)
    found = [allocation.upto(position) for position in sorted(positions)]
    assert found == sorted(found)
    assert found[0] >= 0
    assert found[-1] <= allocation.total


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1, SMALLEST + 1, SIZE, (1 << 46) + 1])
def test_it_holds_any_size_in_bounded_memory(size: int) -> None:
    allocation = filled(size, [(0, size)])
    assert allocation.total == allocation.upto(size) == allocation.upto(size * 2) == size
    assert len(allocation._data) <= PARTS


def test_what_lies_outside_of_the_image_is_not_counted() -> None:
    allocation = filled(SIZE, [(SIZE - 10, 1000), (SIZE, 5), (SIZE * 2, 5)])
    assert allocation.total == 10
