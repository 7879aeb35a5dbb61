"""Sectors of a file or device, read and written past the page cache.

Other hosts read the same storage, so nothing may be answered from our cache, and nothing counts
as written before it is on disk. Source: open(2), O_DIRECT and O_DSYNC.
"""

import errno
import mmap
import os
import stat
import threading
from collections.abc import Callable, Sequence
from typing import Self

from protocol.errors import InvalidDomain, UnsupportedOperation

_PAGE = 4096
# Buffers of O_DIRECT must be aligned, which anonymous maps are. They are shared maps (Python's
# default) because open(2) forbids private ones while another thread may fork, and ours start tools.
_ZEROS = mmap.mmap(-1, 16 * _PAGE)
_local = threading.local()
_Call = Callable[[int, list[memoryview], int], int]  # os.preadv, os.pwritev


class Sectors:
    """One open file description for sector I/O. Its calls block: use it in worker threads.

    Offsets and lengths are multiples of the sector size. Errors of the system are OSError.
    """

    def __init__(self, path: str, fd: int) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def open(cls, path: str, *, write: bool) -> Self:
        """Open an existing file or block device. Raises InvalidDomain when there is none."""
        flags = os.O_CLOEXEC | os.O_NONBLOCK | (os.O_RDWR | os.O_DSYNC if write else os.O_RDONLY)
        try:
            fd = _open_direct(path, flags)
        except FileNotFoundError:
            raise InvalidDomain(path, "there is no such file") from None
        mode = os.fstat(fd).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            os.close(fd)
            raise InvalidDomain(path, "it is neither a file nor a block device")
        return cls(path, fd)

    def close(self) -> None:
        fd, self.fd = self.fd, -1  # a later use must fail, not reach whoever got the number next
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def in_place(self) -> bool:
        """Is it still the file that others open at its path? OSError: it cannot be looked at."""
        try:
            return os.path.samestat(os.fstat(self.fd), os.stat(self.path))
        except FileNotFoundError:
            return False

    def size(self) -> int:
        """Bytes of the file or device."""
        return os.lseek(self.fd, 0, os.SEEK_END)

    def read(self, offset: int, count: int) -> bytes:
        with memoryview(_buffer(count))[:count] as buffer:
            done = self._checked(os.preadv, [buffer], offset)
            if done != count:
                raise OSError(errno.EIO, f"read {done} of {count} bytes at {offset}", self.path)
            return buffer.tobytes()

    def write(self, offset: int, data: bytes) -> None:
        with memoryview(_buffer(len(data)))[: len(data)] as buffer:
            buffer[:] = data
            self._write([buffer], offset)

    def fill(self, offset: int, size: int, pieces: Sequence[tuple[int, bytes]]) -> None:
        """Write `size` bytes at once: zeros, but for `pieces`, each with its place in them.

        The zeros all come from one small buffer: four times faster for a slot than one of its own.
        """
        parts: list[memoryview] = []
        at = 0
        for start, data in pieces:
            parts += _zeros(start - at)
            buffer = mmap.mmap(-1, len(data))
            buffer[:] = data
            parts.append(memoryview(buffer))
            at = start + len(data)
        self._write([*parts, *_zeros(size - at)], offset)

    def _write(self, parts: list[memoryview], offset: int) -> None:
        done = self._checked(os.pwritev, parts, offset)
        if done != (count := sum(len(p) for p in parts)):
            raise OSError(errno.EIO, f"wrote {done} of {count} bytes at {offset}", self.path)

    def _checked(self, call: _Call, parts: list[memoryview], offset: int) -> int:
        try:
            return call(self.fd, parts, offset)
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            smallest = min(len(p) for p in parts)
            raise UnsupportedOperation(
                f"the storage of {self.path} cannot transfer {smallest} bytes:"
                " its domain needs larger sectors (block size 4096)"
            ) from None


def _open_direct(path: str, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_DIRECT)
    except OSError as e:
        if e.errno != errno.EINVAL:
            raise
    # open(2): this file system has no O_DIRECT (tmpfs before Linux 6.6). Only one host can use
    # such a file, and its page cache is coherent.
    return os.open(path, flags)


def _buffer(size: int) -> mmap.mmap:
    """An aligned buffer of at least `size` bytes. Each thread keeps its own: new pages cost more
    than the read of an index."""
    buffer: mmap.mmap | None = getattr(_local, "buffer", None)
    if buffer is None or len(buffer) < size:
        buffer = _local.buffer = mmap.mmap(-1, max(size, _PAGE))
    return buffer


def _zeros(count: int) -> list[memoryview]:
    whole, rest = divmod(count, len(_ZEROS))
    view = memoryview(_ZEROS)
    return [view] * whole + ([view[:rest]] if rest else [])
