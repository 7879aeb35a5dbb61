"""Blocking calls on lease storage, in worker threads."""

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")

# Storage that hangs keeps its threads; this many may hang before other calls wait for them.
_LIMITER = trio.CapacityLimiter(64)


async def run(call: Callable[[*Args], T], *args: *Args, abandon: bool = False) -> T:
    """Run `call` in a worker thread.

    A call that has begun is finished and its result returned even when the caller is cancelled:
    nothing that it opened or locked is lost, and what it writes is not torn. With `abandon` the
    caller is cancelled at once, and the call goes on without it.
    """
    return await trio.to_thread.run_sync(call, *args, limiter=_LIMITER, abandon_on_cancel=abandon)
