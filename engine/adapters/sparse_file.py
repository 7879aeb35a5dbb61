"""A raw image as a sparse file, and copies of it that stay sparse.

Source: ioctl_ficlone(2), lseek(2) (SEEK_DATA), copy_file_range(2).
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FICLONE = 0x40049409
CHUNK = 64 << 20  # bytes of one call
_NO_REFLINK = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY)


def create(path: Path, size: int) -> None:
    """A new file of `size` bytes that reads as zeros. Raises FileExistsError and OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def grow(path: Path, size: int) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.ftruncate(fd, size)
        os.fsync(fd)
    finally:
        os.close(fd)


def copy(source: Path, target: Path, *, at_once: bool) -> None:
    """A new file with the content of `source`, on disk when this returns.

    at_once: the content of one moment, whoever writes meanwhile: the file system must be able to
    share blocks (xfs, btrfs), else BlockingIOError. Raises OSError.
    """
    src = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    try:
        dst = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not _shared(src, dst):
                if at_once:
                    raise BlockingIOError(errno.EBUSY, "the file system cannot share blocks")
                _copy(src, dst)
            os.fsync(dst)
        except BaseException:
            with suppress(OSError):
                os.unlink(target)
            raise
        finally:
            os.close(dst)
    finally:
        os.close(src)


def is_empty(path: Path) -> bool:
    """Nothing was ever written: it reads as zeros."""
    return path.stat().st_blocks == 0


def takes_direct(path: Path) -> bool:
    """Whether the file system lets the page cache be left out."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
        return False
    return True


def sync(path: Path) -> None:
    """Bring to disk what was written to it, by whomever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _shared(src: int, dst: int) -> bool:
    try:
        fcntl.ioctl(dst, FICLONE, src)
    except OSError as e:
        if e.errno not in _NO_REFLINK:
            raise
        return False
    return True


def _copy(src: int, dst: int) -> None:
    size = os.fstat(src).st_size
    os.ftruncate(dst, size)
    for start, end in _extents(src, size):
        position = start
        while position < end:
            count = os.copy_file_range(src, dst, min(CHUNK, end - position), position, position)
            if count == 0:
                raise OSError(errno.EIO, "the source got shorter")
            position += count


def _extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data: start and end."""
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as e:
            if e.errno == errno.ENXIO:  # nothing but a hole to the end
                return
            raise
        end = os.lseek(fd, start, os.SEEK_HOLE)
        yield start, end
