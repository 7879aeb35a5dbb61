"""A source that gets shorter while it is read: QEMU reads zeros behind its end and says nothing."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import trio

from protocol.errors import SourceShrank


@asynccontextmanager
async def unshrunk(paths: Sequence[str]) -> AsyncGenerator[None]:
    """Raise SourceShrank after a body in which a file or device got shorter, or another one.

    paths: of everything local that the source is read from.
    """
    before = await trio.to_thread.run_sync(_lengths, paths)
    yield
    after = await trio.to_thread.run_sync(_lengths, paths)
    for path, length in before.items():
        if after[path] < length:
            raise SourceShrank(path, length, after[path])


def _lengths(paths: Sequence[str]) -> dict[str, int]:
    return {path: _length(path) for path in paths}


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
