"""Allocation: sums of data, exact at the borders of its parts, whatever the extents were."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processes import allocation
from processes.allocation import PARTS, SMALLEST, Allocation, of_file

SIZE = 10 * SMALLEST


def extents(size: int) -> st.SearchStrategy[list[tuple[int, int]]]:
    """Extents side by side, as `qemu-img map` prints them."""
    cuts = st.lists(st.integers(0, size), max_size=20, unique=True).map(sorted)
    return cuts.map(lambda c: [(a, b - a) for a, b in zip(c[::2], c[1::2], strict=False)])


def filled(size: int, data: list[tuple[int, int]]) -> Allocation:
    made = Allocation(size)
    for start, length in data:
        made.add(start, length)
    return made


@given(data=extents(SIZE))
def test_the_total_is_the_sum_of_the_data(data: list[tuple[int, int]]) -> None:
    found = filled(SIZE, data)
    assert found.total == sum(length for _, length in data)
    assert found.upto(SIZE) == found.total
    assert found.upto(0) == 0


@given(data=extents(SIZE), chunk=st.sampled_from([1, 4096, 64 << 10, 3 << 20, 1 << 30]))
def test_every_chunk_with_data_in_it_counts_once(data: list[tuple[int, int]], chunk: int) -> None:
    made = Allocation(SIZE, chunk)
    for start, length in data:
        made.add(start, length)
    touched = {(start // chunk, (start + length - 1) // chunk) for start, length in data if length}
    ends = sorted(touched)
    count = sum(last - max(first, before + 1) + 1 for first, last, before in spans(ends))
    assert made.in_chunks == count * chunk


def spans(ends: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """First and last chunk of each extent, and the last one before it."""
    before = [-1, *(last for _, last in ends)]
    return [(first, last, old) for (first, last), old in zip(ends, before, strict=False)]


def test_of_pieces_out_of_order_never_too_few_chunks_count() -> None:
    made = Allocation(SIZE, 4096)
    for start in (8192, 0, 4096, 4196):
        made.add(start, 10)
    assert made.in_chunks >= 3 * 4096


@given(data=extents(SIZE), part=st.integers(0, 10))
def test_it_is_exact_at_the_borders_of_parts(data: list[tuple[int, int]], part: int) -> None:
    position = part * SMALLEST
    exact = sum(max(0, min(position, start + length) - start) for start, length in data)
    assert filled(SIZE, data).upto(position) == exact


@given(data=extents(SIZE), positions=st.lists(st.floats(-1, SIZE + 1), min_size=2))
def test_it_never_falls_and_stays_between_0_and_the_total(
    data: list[tuple[int, int]], positions: list[float]
) -> None:
    found = filled(SIZE, data)
    sums = [found.upto(position) for position in sorted(positions)]
    assert sums == sorted(sums)
    assert sums[0] >= 0
    assert sums[-1] <= found.total


@pytest.mark.parametrize("size", [0, 1, SMALLEST - 1, SMALLEST + 1, SIZE, (1 << 46) + 1])
def test_it_holds_any_size_in_bounded_memory(size: int) -> None:
    found = filled(size, [(0, size)])
    assert found.total == found.upto(size) == found.upto(size * 2) == size
    assert len(found._data) <= PARTS


def test_what_lies_outside_of_the_image_is_not_counted() -> None:
    found = filled(SIZE, [(SIZE - 10, 1000), (SIZE, 5), (SIZE * 2, 5)])
    assert found.total == 10


def sparse(folder: Path, data: list[tuple[int, int]], size: int = SIZE) -> str:
    path = folder / "image"
    with path.open("wb") as file:
        file.truncate(size)
        for start, length in data:
            os.pwrite(file.fileno(), b"x" * length, start)
    return str(path)


@pytest.mark.parametrize(
    "data",
    [
        [],
        [(0, SIZE)],
        [(SMALLEST, SMALLEST)],
        [(0, 4096), (SMALLEST * 3, 8192), (SIZE - SMALLEST, SMALLEST)],
    ],
)
def test_a_file_holds_data_where_it_was_written(
    data: list[tuple[int, int]], tmp_path: Path
) -> None:
    found, expected = of_file(sparse(tmp_path, data), SIZE), filled(SIZE, data)
    assert found.total == expected.total
    for part in range(11):
        assert found.upto(part * SMALLEST) == expected.upto(part * SMALLEST)


def test_of_a_file_that_is_longer_only_the_asked_part_counts(tmp_path: Path) -> None:
    path = sparse(tmp_path, [(SMALLEST, SMALLEST), (SIZE, SMALLEST)], SIZE + SMALLEST)
    assert of_file(path, SIZE).total == SMALLEST
    assert of_file(path, SMALLEST + 4096).total == 4096
    assert of_file(path, 4096).total == 0


def test_what_lies_behind_very_many_extents_is_taken_for_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allocation, "EXTENTS", 2)
    pieces = [(part * SMALLEST, 4096) for part in range(0, 10, 2)]
    found = of_file(sparse(tmp_path, pieces), SIZE)
    assert found.upto(2 * SMALLEST) == 4096
    assert found.total == 8192 + SIZE - (2 * SMALLEST + 4096)
