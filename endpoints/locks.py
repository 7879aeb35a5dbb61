"""Host-wide locks: kernel locks that other processes see, and that a tool can inherit.

Every lock is one byte of one file, at an offset hashed from its name, locked through an open file
description: the kernel drops it when the last process that holds the description is gone, so a
tool that inherited it keeps its target locked even when its worker was killed.
Source: fcntl(2), "Open file description locks".
"""

import hashlib
import os
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import trio

from leases import range_lock
from processes import host_file
from protocol.errors import AcquireLockFailure, ReleaseLockFailure

NAME = "leasehold.targets"
FIRST_WAIT = 0.01  # seconds; doubled up to LONGEST_WAIT
LONGEST_WAIT = 0.25


class Mode(IntEnum):
    SHARED = 0
    EXCLUSIVE = 1


@dataclass(frozen=True, order=True)
class Lock:
    """A name in a namespace, such as ("target", "file:2049:131")."""

    namespace: str
    name: str
    mode: Mode

    @property
    def offset(self) -> int:
        """Its byte of the file: 62 bits of a hash, so that two names practically never meet."""
        digest = hashlib.sha256(f"{self.namespace}\0{self.name}".encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 2

    def __str__(self) -> str:
        return f"{self.namespace} {self.name}"


class Deadlock(RuntimeError):
    """One lock was asked for in two modes: a programming error."""


def ordered(locks: Iterable[Lock]) -> list[Lock]:
    """The locks in the one order in which everybody takes them, each once."""
    result = sorted(set(locks))
    for one, next_ in pairwise(result):
        if (one.namespace, one.name) == (next_.namespace, next_.name):
            raise Deadlock(f"{one} is asked for in two modes")
    return result


@asynccontextmanager
async def held(
    locks: Iterable[Lock], waiting: Callable[[Lock], None] = lambda lock: None
) -> AsyncGenerator[int]:
    """Hold the locks for the body; yields the descriptor that keeps them.

    Waits for each in turn, for as long as it takes: cancel it to give up. `waiting` is called
    when a lock is not free. A child that inherits the descriptor shares the locks.
    Raises ReleaseLockFailure (660) when a release fails after the body succeeded; the body's own
    error wins.
    """
    wanted = ordered(locks)
    fd = await _all(wanted, waiting)
    try:
        yield fd
        for lock in reversed(wanted):
            release(fd, lock)
    finally:
        os.close(fd)


async def _all(wanted: list[Lock], waiting: Callable[[Lock], None]) -> int:
    """The descriptor that holds them all, of the file that is in its place when they are held."""
    while True:
        fd = host_file.opened(NAME)
        try:
            for lock in wanted:
                await _acquire(fd, lock, waiting)
            if host_file.in_place(fd, NAME):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # it was replaced: those who come after us would lock another file


def release(fd: int, lock: Lock) -> None:
    try:
        range_lock.unlock(fd, lock.offset, 1)
    except OSError as e:
        raise ReleaseLockFailure(str(lock), e.strerror or str(e)) from e


def try_acquire(fd: int, lock: Lock) -> bool:
    """Take the lock if it is free."""
    try:
        return range_lock.lock(fd, lock.offset, 1, shared=lock.mode is Mode.SHARED)
    except OSError as e:
        raise AcquireLockFailure(str(lock), e.strerror or str(e)) from e


def any_taken(locks: Iterable[Lock]) -> bool:
    """Does somebody hold one of them, in whichever mode? Takes nothing, so that it disturbs nobody.

    Blocks for a moment. Raises AcquireLockFailure (651).
    """
    fd = host_file.opened(NAME)
    try:
        return any(range_lock.locked(fd, lock.offset, 1) for lock in locks)
    finally:
        os.close(fd)


async def _acquire(fd: int, lock: Lock, waiting: Callable[[Lock], None]) -> None:
    # By asking again and not by F_OFD_SETLKW: a thread that waits there cannot be cancelled.
    wait = FIRST_WAIT
    while not try_acquire(fd, lock):
        waiting(lock)
        await trio.sleep(wait)
        wait = min(wait * 2, LONGEST_WAIT)
