"""What happens in the engine is told to whoever listens: pages, webhooks, the poller.

Telling neither waits nor fails. Each listener has room for so many events; one that is too slow
loses the oldest, and is told how many. What must not be lost stands in the database: an event is a
hint, and the id of one is that of its row in the audit log.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

ROOM = 1024  # events that wait for one listener
LOST = "events.lost"


@dataclass(frozen=True)
class Event:
    """kind: such as "job.progress", "command.changed", "disk.changed", "host.changed",
    "quarantine.added". object: the id of what it is about. at: seconds since the epoch.

    id: of the row in the audit log; None: there is none. data: facts, as JSON has them.
    """

    id: int | None
    at: float
    kind: str
    object: str
    data: Mapping[str, Any] = field(default_factory=dict)


def matches(kind: str, wanted: Collection[str]) -> bool:
    """wanted: kinds, or "job." for all that begin so; none: all."""
    return not wanted or any(
        kind == one or (one.endswith(".") and kind.startswith(one)) for one in wanted
    )


class Subscription:
    """The events of one listener, from its subscription on. One task may read it.

    lost: how many were lost, in all.
    """

    def __init__(self, kinds: frozenset[str], room: int, clock: Callable[[], float]) -> None:
        self.lost = 0
        self._kinds = kinds
        self._waiting: deque[Event] = deque()
        self._room = room
        self._untold = 0
        self._clock = clock
        self._arrived = trio.Event()

    def put(self, event: Event) -> None:
        if self._kinds and event.kind not in self._kinds:
            return
        if len(self._waiting) >= self._room:
            self._waiting.popleft()
            self.lost += 1
            self._untold += 1
        self._waiting.append(event)
        self._arrived.set()

    async def receive(self) -> Event:
        """The next one; LOST first, with their number as `lost`, where some were lost before it."""
        while not self._waiting:
            self._arrived = trio.Event()
            await self._arrived.wait()
        if self._untold:
            lost, self._untold = self._untold, 0
            return Event(None, self._clock(), LOST, "", {"lost": lost})
        return self._waiting.popleft()

    def __aiter__(self) -> "Subscription":
        return self

    async def __anext__(self) -> Event:
        return await self.receive()


class Bus:
    """Where events are told. It belongs to the trio thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._listeners: dict[Subscription, None] = {}

    @property
    def listeners(self) -> int:
        return len(self._listeners)

    def tell(
        self,
        kind: str,
        object: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: int | None = None,
    ) -> Event:
        """Tell all who listen. id: of the row in the audit log, once that is committed."""
        event = Event(id, self._clock(), kind, object, data or {})
        for one in self._listeners:
            one.put(event)
        return event

    @contextmanager
    def subscribed(self, *kinds: str, room: int = ROOM) -> Iterator[Subscription]:
        """Listen for the body. kinds: only these; none: all."""
        one = Subscription(frozenset(kinds), room, self._clock)
        self._listeners[one] = None
        try:
            yield one
        finally:
            del self._listeners[one]
