"""A source that gets shorter while it is read: QEMU reads zeros behind its end and says nothing."""

import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager

import trio

from protocol.errors import SourceShrank


@asynccontextmanager
async def unshrunk(before: Mapping[str, int]) -> AsyncGenerator[None]:
    """Raise SourceShrank when a file or device is shorter than it was, before or after the body.

    before: bytes of everything local that the source is read from, when it was inspected.
    """
    await trio.to_thread.run_sync(_check, before)
    yield
    await trio.to_thread.run_sync(_check, before)


def lengths(paths: Sequence[str]) -> dict[str, int]:
    """Bytes of each file or device. Blocks."""
    return {path: _length(path) for path in paths}


def _check(before: Mapping[str, int]) -> None:
    for path, length in before.items():
        if (now := _length(path)) < length:
            raise SourceShrank(path, length, now)


def _length(path: str) -> int:
    """Bytes of a file or device; one that is gone has none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
