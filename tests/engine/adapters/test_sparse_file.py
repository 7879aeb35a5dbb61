"""Copies of sparse files: the same content, and no more blocks."""

import errno
import os
from pathlib import Path

import pytest

from engine.adapters import sparse_file
from tests.servers import MIB, pattern

SIZE = 64 * MIB


def file(path: Path, size: int, extents: dict[int, bytes]) -> Path:
    sparse_file.create(path, size)
    with path.open("r+b") as opened:
        for offset, data in extents.items():
            opened.seek(offset)
            opened.write(data)
    return path


@pytest.mark.parametrize(
    "extents",
    [
        {},
        {0: pattern(MIB)},
        {SIZE - 4096: pattern(4096)},
        {0: pattern(4096), 7 * MIB: pattern(3 * MIB), 40 * MIB: pattern(5000)},
        {0: pattern(SIZE)},
    ],
    ids=["empty", "begin", "end", "pieces", "full"],
)
def test_a_copy_has_the_same_content_and_stays_sparse(
    tmp_path: Path, extents: dict[int, bytes]
) -> None:
    source = file(tmp_path / "source", SIZE, extents)
    copy = tmp_path / "copy"
    sparse_file.copy(source, copy, at_once=False)
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_size == SIZE
    assert copy.stat().st_blocks <= source.stat().st_blocks + 16
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_copy_longer_than_one_call_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_file, "CHUNK", 5000)
    source = file(tmp_path / "source", MIB, {3: pattern(100_000)})
    sparse_file.copy(source, tmp_path / "copy", at_once=False)
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = file(tmp_path / "source", MIB, {0: b"x"})
    monkeypatch.setattr(sparse_file, "_shared", lambda src, dst: False)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space"):
        sparse_file.copy(source, tmp_path / "copy", at_once=False)
    assert os.listdir(tmp_path) == ["source"]


def test_without_shared_blocks_there_is_no_copy_of_one_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = file(tmp_path / "source", MIB, {0: b"x"})
    monkeypatch.setattr(sparse_file, "_shared", lambda src, dst: False)
    with pytest.raises(BlockingIOError):
        sparse_file.copy(source, tmp_path / "copy", at_once=True)
    assert os.listdir(tmp_path) == ["source"]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    source = file(tmp_path / "source", MIB, {0: b"x"})
    other = file(tmp_path / "other", MIB, {0: b"y"})
    with pytest.raises(FileExistsError):
        sparse_file.copy(source, other, at_once=False)
    with pytest.raises(FileExistsError):
        sparse_file.create(other, MIB)
    assert other.read_bytes()[:1] == b"y"
