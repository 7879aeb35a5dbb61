"""The tail of a target reads as zeros, and nothing before or behind it is touched."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from endpoints import tail

SIZE = 64 << 10


@pytest.fixture
def old() -> bytes:
    return os.urandom(SIZE)


@pytest.fixture
def fd(tmp_path: Path, old: bytes) -> Iterator[int]:
    path = tmp_path / "target"
    path.write_bytes(old)
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("start", "end"),
    [(0, SIZE), (512, SIZE), (4096, SIZE), (5, 7), (4095, 4097), (4095, 20001), (SIZE, SIZE)],
)
async def test_it_is_cleared_from_byte_to_byte(
    fd: int, old: bytes, start: int, end: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PIECE", 8192)
    monkeypatch.setattr(tail, "WRITE", 1000)
    await tail.clear(fd, start, end)
    assert os.pread(fd, 2 * SIZE, 0) == old[:start] + bytes(end - start) + old[end:]


async def test_the_kernel_is_asked_for_whole_blocks_alone(
    fd: int, old: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = list[tuple[int, int]]()

    def zeroed(fd: int, start: int, length: int) -> bool:
        asked.append((start, length))
        return os.pwrite(fd, bytes(length), start) == length

    monkeypatch.setattr(tail, "_zeroed_by_kernel", zeroed)
    await tail.clear(fd, 512, SIZE - 512)
    assert asked == [(4096, SIZE - 8192)]
    assert os.pread(fd, SIZE, 0) == old[:512] + bytes(SIZE - 1024) + old[-512:]


async def test_an_abort_waits_for_one_piece_alone(
    fd: int, old: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PIECE", 8192)
    with trio.CancelScope() as scope:
        write = tail._write

        def aborted(fd: int, start: int, length: int) -> None:
            trio.from_thread.run_sync(scope.cancel)
            write(fd, start, length)

        monkeypatch.setattr(tail, "_write", aborted)
        await tail.clear(fd, 0, SIZE)
    assert scope.cancelled_caught
    assert os.pread(fd, SIZE, 0) == bytes(8192) + old[8192:]


async def test_what_cannot_be_written_is_told(fd: int, tmp_path: Path) -> None:
    readable = os.open(tmp_path / "target", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await tail.clear(readable, 0, SIZE)
    finally:
        os.close(readable)
