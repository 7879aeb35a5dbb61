"""The space of managed domains, as their adapters tell it: a process each time, so not often."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import trio

from engine.managed_storage import ManagedStorage, Stats
from protocol.errors import Error

LIFE = 10.0  # seconds that an answer is good for
PATIENCE = 5.0  # seconds that somebody waits for one


@dataclass
class Spaces:
    """However many ask, one adapter of a domain runs at a time."""

    _told: dict[str, tuple[float, Stats | None]] = field(default_factory=dict)
    _turns: dict[str, trio.Lock] = field(default_factory=lambda: defaultdict(trio.Lock))

    async def of(
        self, domain: str, storage: Callable[[str], Awaitable[ManagedStorage]]
    ) -> Stats | None:
        """None: it does not tell, or not in time. domain: the id of one that there is."""
        with trio.move_on_after(PATIENCE):
            async with self._turns[domain]:
                at, stats = self._told.get(domain, (-LIFE, None))
                if trio.current_time() - at >= LIFE:
                    stats = await self._asked(domain, storage)
                return stats
        return None

    async def _asked(
        self, domain: str, storage: Callable[[str], Awaitable[ManagedStorage]]
    ) -> Stats | None:
        stats = None
        try:
            stats = await (await storage(domain)).storage_stats()
        except Error:
            pass  # which command fails by it says why
        finally:  # also when it took too long: nobody waits for that again at once
            self._told[domain] = (trio.current_time(), stats)
        return stats
