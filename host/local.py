"""Blocking calls on the agent's own folders, in worker threads that nothing else uses.

Storage that hangs keeps the threads of those who look at it. The agent must still take in jobs,
abort them and see them end: so it never waits for a thread behind them.
"""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")

_LIMITER = trio.CapacityLimiter(16)


async def run(call: Callable[[*Args], T], *args: *Args) -> T:
    """Run `call` in a worker thread, to its end even when the caller is cancelled."""
    return await trio.to_thread.run_sync(call, *args, limiter=_LIMITER)
