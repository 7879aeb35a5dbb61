"""The tail of a target: what lies behind the end of the copy, and holds what was there before."""

import fcntl
import os
import stat
import struct

import trio

PIECE = 64 << 20  # bytes that are cleared at once: an abort waits for them, extents can be GiB
WRITE = 1 << 20
SECTOR = 4096  # bytes; the kernel clears whole blocks of a device, which are not larger than that
BLKZEROOUT = 0x127F  # takes the start and the length. Source: linux/fs.h


async def clear(fd: int, start: int, end: int) -> None:
    """Let a file or device read as zeros from byte `start` to `end`; it is not flushed.

    Piece by piece. A cancellation waits for the piece: the lease must be held until it is written.
    Raises OSError.
    """
    while start < end:
        length = min(PIECE - start % PIECE, end - start)
        await trio.to_thread.run_sync(_clear, fd, start, length)
        start += length


def _clear(fd: int, start: int, length: int) -> None:
    head = min(-start % SECTOR, length)
    whole = (length - head) // SECTOR * SECTOR
    _write(fd, start, head)
    if not _zeroed_by_kernel(fd, start + head, whole):
        _write(fd, start + head, whole)
    _write(fd, start + head + whole, length - head - whole)


def _zeroed_by_kernel(fd: int, start: int, length: int) -> bool:
    """A device clears itself, or the kernel writes zeros past the page cache, which it drops there.

    False: nothing was done.
    """
    if not stat.S_ISBLK(os.fstat(fd).st_mode):
        return False
    try:
        fcntl.ioctl(fd, BLKZEROOUT, struct.pack("QQ", start, length))
    except OSError:
        return False  # the writes tell what is wrong
    return True


def _write(fd: int, start: int, length: int) -> None:
    zeros = memoryview(bytes(min(length, WRITE)))
    while length:
        written = os.pwrite(fd, zeros[:length], start)
        start, length = start + written, length - written
