"""Sector I/O and the locks on ranges of a file."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from leases import file_system, range_lock, slot
from leases.geometry import Geometry
from leases.sector import Sectors
from protocol.errors import InvalidDomain, UnsupportedOperation


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 64)
    return str(path)


def test_sectors_go_past_the_page_cache_and_to_disk(path: str) -> None:
    with Sectors.open(path, write=True) as sectors:
        flags = fcntl.fcntl(sectors.fd, fcntl.F_GETFL)
        if not flags & os.O_DIRECT:
            with pytest.raises(OSError, match="Invalid argument"):  # tmpfs before Linux 6.6
                os.open(path, os.O_RDWR | os.O_DIRECT)
        assert flags & os.O_DSYNC
        sectors.write(4096, b"x" * 512)
        assert sectors.read(4096, 512) == b"x" * 512
        assert sectors.read(0, 8192)[512:1024] == bytes(range(256)) * 2
        assert sectors.size() == 16384


def test_where_there_is_no_direct_io_it_is_done_without(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def old_tmpfs(path: str, flags: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no O_DIRECT")
        return real(path, flags)

    monkeypatch.setattr(os, "open", old_tmpfs)
    with Sectors.open(path, write=True) as sectors:
        sectors.write(512, b"y" * 512)
        assert sectors.read(512, 512) == b"y" * 512


def test_a_read_behind_the_end_is_an_error(path: str) -> None:
    with Sectors.open(path, write=False) as sectors, pytest.raises(OSError, match="0 of 512"):
        sectors.read(16384, 512)


def test_storage_with_larger_sectors_is_named(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, "not aligned")

    monkeypatch.setattr(os, "preadv", refuse)
    with (
        Sectors.open(path, write=False) as sectors,
        pytest.raises(UnsupportedOperation, match="block size 4096"),
    ):
        sectors.read(0, 512)


def test_only_files_and_block_devices_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")  # opening one would wait for its other end
    for name in ("fifo", "missing"):
        with pytest.raises(InvalidDomain, match=name):
            Sectors.open(str(tmp_path / name), write=False)


@pytest.mark.parametrize("geometry", [Geometry.of(512), Geometry.of(4096)], ids=str)
def test_a_slot_is_written_whole(tmp_path: Path, geometry: Geometry) -> None:
    path = tmp_path / "slots"
    path.write_bytes(b"x" * (2 * geometry.alignment + 4096))
    made = slot.fresh(geometry, "space", "name", b"v" * 512)
    with Sectors.open(str(path), write=True) as sectors:
        pieces = [(0, made.head), (geometry.lvb_offset, made.lvb)]
        sectors.fill(geometry.alignment, geometry.alignment, pieces)
    data = path.read_bytes()
    assert data[geometry.alignment : 2 * geometry.alignment] == made.pack(geometry)
    assert set(data[: geometry.alignment]) == set(data[2 * geometry.alignment :]) == {ord("x")}


def test_a_closed_file_is_used_no_more(path: str) -> None:
    sectors = Sectors.open(path, write=False)
    sectors.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sectors.read(0, 512)


# --- locks --------------------------------------------------------------------------------------

GIB = 1 << 30


def test_locks_beyond_4_gib_are_where_they_should_be(path: str) -> None:
    """Offsets are 64 bits: 5 GiB is not 1 GiB."""
    with Sectors.open(path, write=True) as ours, Sectors.open(path, write=True) as other:
        assert range_lock.lock(ours.fd, 5 * GIB, 1024)
        assert range_lock.locked(other.fd, 5 * GIB + 1023, 1)
        assert not range_lock.locked(other.fd, 5 * GIB + 1024, GIB)
        assert not range_lock.locked(other.fd, 0, 5 * GIB)
        assert not range_lock.lock(other.fd, 5 * GIB, 1)
        assert range_lock.lock(other.fd, GIB, 1024)
        # What the kernel itself says: inode, first and last byte.
        inode = os.stat(path).st_ino
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        kernel = {(li[1], int(li[-2]), int(li[-1])) for li in lines if f":{inode}" in li[-3]}
        assert kernel == {("OFDLCK", 5 * GIB, 5 * GIB + 1023), ("OFDLCK", GIB, GIB + 1023)}
        range_lock.unlock(ours.fd, 5 * GIB, 1024)
        assert not range_lock.locked(other.fd, 5 * GIB, 1024)


def test_a_lock_of_the_whole_file_excludes_all_others(path: str) -> None:
    with Sectors.open(path, write=True) as whole, Sectors.open(path, write=True) as other:
        assert range_lock.lock(whole.fd, 0, 0)
        assert not range_lock.lock(other.fd, 7 * GIB, 1)
        assert range_lock.locked(other.fd, 7 * GIB, 1)


def test_looking_at_locks_takes_none(path: str) -> None:
    with Sectors.open(path, write=False) as looker, Sectors.open(path, write=True) as other:
        assert not range_lock.locked(looker.fd, 0, 1024)
        assert range_lock.lock(other.fd, 0, 1024)
        assert range_lock.locked(looker.fd, 0, 1024)
        assert not range_lock.locked(other.fd, 0, 1024)  # its own


# --- file systems -------------------------------------------------------------------------------


def test_file_systems_are_told_apart() -> None:
    for path, name in (("/proc/self/stat", None), ("/dev/shm", "tmpfs")):
        fd = os.open(path, os.O_RDONLY)
        try:
            kind = file_system.kind(fd)
        finally:
            os.close(fd)
        assert file_system.LOCAL.get(kind) == name
    assert file_system.name(0x6969) == "NFS"
    assert file_system.name(0x1234) == "unknown file system 0x1234"


def test_a_failing_statfs_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        file_system.kind(-1)


def test_no_file_system_is_both_local_and_shared() -> None:
    assert not file_system.LOCAL.keys() & file_system.REMOTE.keys()
