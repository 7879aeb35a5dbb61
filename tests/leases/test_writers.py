"""Writers of a former life are seen whatever has become of the file that they have locked."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from leases import range_lock, writers
from processes import host_file

SD_ID = "77777777-2222-4333-8444-555555555555"
OTHER = "66666666-2222-4333-8444-555555555555"


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the file of this host is; as long as nobody has opened it, there is none."""
    monkeypatch.setattr(host_file, "FOLDER", str(tmp_path))
    return tmp_path / writers.NAME


@contextmanager
def writer(sd_id: str = SD_ID) -> Iterator[None]:
    """Of this process; the kernel knows it by its descriptor."""
    fd = writers.covered(sd_id)
    assert fd is not None
    try:
        yield
    finally:
        os.close(fd)


def none_left(sd_id: str = SD_ID) -> bool:
    with writers.none_left(sd_id) as none:
        return none


def test_there_are_none_when_the_last_is_gone() -> None:
    assert none_left()
    with writer():
        with writer():
            assert not none_left()
        assert not none_left()
        assert none_left(OTHER)
    assert none_left()


def test_none_begins_to_be_one_while_they_are_counted() -> None:
    with writers.none_left(SD_ID) as none:
        assert none
        assert writers.covered(SD_ID) is None
        with writer(OTHER):
            pass
    with writer():
        pass


@pytest.mark.parametrize("fate", ["removed", "renamed", "replaced"])
def test_one_whose_file_is_not_there_any_more_is_seen(file: Path, fate: str) -> None:
    with writer():
        match fate:
            case "removed":
                file.unlink()
            case "renamed":
                file.rename(file.with_suffix(".old"))
            case "replaced":
                file.with_suffix(".new").touch()
                file.with_suffix(".new").replace(file)
        assert not none_left()
        assert none_left(OTHER)
    assert none_left()


def test_the_processes_of_a_removed_file_are_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 0)  # we are not left out
    pid = int(os.readlink("/proc/self"))
    with writer():
        assert writers.process_ids(SD_ID) == [pid]
        assert writers.process_ids(OTHER) == []
        file.unlink()
        assert writers.process_ids(SD_ID) == [pid]


def test_who_counts_has_locked_the_file_that_others_open(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one that was replaced after it was opened: others would lock the new one."""
    lock = range_lock.lock
    replaced: list[Path] = []

    def locking(fd: int, start: int, length: int, *, shared: bool = False) -> bool:
        if not replaced:
            file.unlink()
            replaced.append(file)
        return lock(fd, start, length, shared=shared)

    monkeypatch.setattr(range_lock, "lock", locking)
    with writers.none_left(SD_ID) as none:
        assert none
        assert replaced
        assert writers.covered(SD_ID) is None
