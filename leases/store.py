"""A store decides who holds a lease. The verbs work over any store."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import trio

from leases.grant import Grant
from leases.lease import Lease
from leases.slot import Slot
from leases.volume import LeaseVolume
from leases.worker import run
from protocol.errors import AcquireLockFailure, Error

T = TypeVar("T")

INDEX_WAIT = 30.0  # seconds; a change of the index takes some milliseconds
_POLL_FIRST = 0.001
_POLL_LAST = 0.02


class Store(ABC):
    """What every store can do.

    take, give, take_index, take_slot, look and write_slot block and are called in worker threads;
    acquire, release, owners and acquire_index are for everybody else.
    """

    @property
    @abstractmethod
    def volume(self) -> LeaseVolume: ...

    @abstractmethod
    def take(self, lease: Lease) -> Grant:
        """Hold `lease` at once.

        Raises AcquireLockFailure (651): it is held, by this process perhaps; NoSuchLease (936):
        the slot is another's by now; InvalidSlot: it is nobody's; WrongStore.
        """

    @abstractmethod
    def give(self, grant: Grant) -> None:
        """End a hold, for all processes that inherited it: call it when they were reaped.

        Raises ReleaseLockFailure (660).
        """

    @abstractmethod
    def take_index(self) -> Grant | None:
        """Hold the lease around changes of the index; None: it is held."""

    @abstractmethod
    def look(self, lease: Lease) -> list[int]:
        """Host ids of those who hold `lease`, without acquiring. Raises WrongStore."""

    @abstractmethod
    def take_slot(self, offset: int) -> Grant | None:
        """Hold the slot at `offset`, whatever stands in it; None: it is held.

        For those who hold the index lease: nobody else writes slots. Nothing is written.
        """

    def write_slot(self, lock: Grant, offset: int, slot: Slot) -> bool:
        """Write the whole slot at `offset` unless it is held (False).

        lock: the index lease. Raises LeaseLost when that is not ours any more.
        """
        grant = self.take_slot(offset)
        if grant is None:
            return False
        with given_back(self, grant):
            lock.verify()
            slot.write(grant.sectors, self.volume.geometry, offset)
        return True

    async def acquire(self, lease: Lease) -> Grant:
        """`take`. The caller must release the grant; `hold` does that.

        Cancelled while it waits for somebody's answer, it holds nothing.
        """
        return await run(self.take, lease)

    async def release(self, grant: Grant) -> None:
        """`give`. Cancelled, it goes on in its thread: bound it with a time-out and a shield."""
        await run(self.give, grant, abandon=True)

    async def owners(self, lease: Lease) -> list[int]:
        """`look`."""
        return await run(self.look, lease)

    async def acquire_index(self, wait: float = INDEX_WAIT) -> Grant:
        """`take_index`, waiting for it up to `wait` seconds. Raises AcquireLockFailure (651)."""
        return await poll(self.take_index, wait=wait, lock=self.volume.path)

    async def under_index(self, work: Callable[[Grant], T], *, wait: float = INDEX_WAIT) -> T:
        """Call the blocking `work` with the index lease, in the worker thread that took it.

        So no cancellation can tear a change of the index: it comes before, or after it.
        """

        def attempt() -> tuple[T] | None:
            index = self.take_index()
            if index is None:
                return None
            with given_back(self, index):
                return (work(index),)

        return (await poll(attempt, wait=wait, lock=self.volume.path))[0]


async def poll(attempt: Callable[[], T | None], *, wait: float, lock: str) -> T:
    """Call `attempt` in worker threads until it gives something; cancellable in between."""
    deadline = trio.current_time() + wait
    pause = _POLL_FIRST
    while (got := await run(attempt)) is None:
        if trio.current_time() >= deadline:
            raise AcquireLockFailure(lock, f"its index was in use for {wait:g} s")
        # At random, so that two who wait do not meet again and again.
        await trio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, _POLL_LAST)
    return got


@contextmanager
def given_back(store: Store, grant: Grant) -> Iterator[Grant]:
    """Give `grant` back after the body; an error of the body wins over one of the release."""
    try:
        yield grant
    except BaseException as e:
        try:
            store.give(grant)
        except Error as late:
            e.add_note(f"then: {late}")
        raise
    store.give(grant)
