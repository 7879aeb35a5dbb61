"""Who may change the membership of this host in a domain: clients, one after the other, and the
agent by itself as long as no client minds.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import trio


@dataclass(frozen=True)
class _Own:
    """What the agent does in a domain by itself."""

    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)


class Turns:
    """By the id of a domain. Not thread safe: it belongs to the trio thread."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()
        self._own: dict[str, _Own] = {}

    @asynccontextmanager
    async def of_client(self, sd_id: str) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
        """For a body that a client has asked for. The agent begins nothing meanwhile; the body gets
        a function that ends what it has begun before."""

        async def alone() -> None:
            if own := self._own.get(sd_id):
                own.scope.cancel()
                await own.over.wait()

        async with self._lock(sd_id):
            yield alone

    @asynccontextmanager
    async def of_agent(self, sd_id: str) -> AsyncGenerator[None]:
        """For a body of the agent's own, one at a time; cancelled when a client wants that."""
        own = _Own()
        async with self._lock(sd_id):
            self._own[sd_id] = own
        try:
            with own.scope:
                yield
        finally:
            del self._own[sd_id]
            own.over.set()

    def _lock(self, sd_id: str) -> trio.Lock:
        # Kept by those who use it: a client may name any id, and those are not collected here.
        return self._locks.setdefault(sd_id, trio.Lock())
