"""Calls of the database in worker threads. One that hangs is cut off; none is left behind."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import trio
from sqlalchemy import Connection, Engine

from engine.db import connecting

T = TypeVar("T")
_LOOK = 0.5  # seconds
_SLACK = 5.0  # seconds more than the server gives a statement, so that it can tell why


@dataclass(eq=False)
class Call:
    """One that runs. connection: of the driver; None while it connects, or has ended."""

    deadline: float
    connection: Any = None

    def uses(self, c: Connection) -> None:
        self.connection = c.connection.dbapi_connection

    def ended(self) -> None:
        """Another call may have the connection from now on."""
        self.connection = None


class Calls:
    """`watch` must run as long as there are calls. limit: seconds until one is cut off."""

    def __init__(self, *, call_time: float = connecting.CALL_TIME) -> None:
        self.limit = call_time + _SLACK
        self._running: set[Call] = set()
        self._threads = trio.CapacityLimiter(math.inf)

    async def run(self, work: Callable[[Call], T], *, seconds: float | None = None) -> T:
        """Do it in a thread, to its end, whatever is cancelled meanwhile.

        work: tells the call which connection it uses. seconds: until it is cut off.
        """
        call = Call(trio.current_time() + (self.limit if seconds is None else seconds))
        self._running.add(call)
        try:
            # The pools limit how many there are at once; the threads of others are not used up.
            return await trio.to_thread.run_sync(work, call, limiter=self._threads)
        finally:
            self._running.discard(call)

    async def watch(self) -> None:
        while True:
            await trio.sleep(_LOOK)
            for call in self._running:
                if call.connection is not None and call.deadline < trio.current_time():
                    connecting.cut(call.connection)


def in_transaction(engine: Engine, call: Call, work: Callable[[Connection], T]) -> T:
    """In the thread of a call. Raises what `work` and the driver do; nothing is done then."""
    try:
        with engine.connect() as c:
            call.uses(c)
            with c.begin():
                return work(c)
    finally:
        call.ended()
