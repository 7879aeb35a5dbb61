"""Looks at storage that may hang, in worker threads of which each place has a few of its own.

A look that hangs is left behind by its caller, but keeps its thread until its storage answers; and
clients ask again and again. Were the threads for all, one place would keep every other from being
looked at in the end.
"""

from collections.abc import Callable, Iterable
from typing import TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

import trio

T = TypeVar("T")
Args = TypeVarTuple("Args")

HANGING = 8  # looks at one place at a time, all of which may hang

# Kept by those who look, threads that were left behind among them.
_LIMITERS: WeakValueDictionary[str, trio.CapacityLimiter] = WeakValueDictionary()


def place_of(path: str, folders: Iterable[str]) -> str:
    """What hangs with a path that a client names, whether it is there or not: the folder among
    these in which it is; "": in none."""
    within = (one for one in folders if path == one or path.startswith(one.rstrip("/") + "/"))
    return max(within, key=len, default="")


async def look(place: str, call: Callable[[*Args], T], *args: *Args, at_once: int = HANGING) -> T:
    """Run `call`, which only reads, in a worker thread; one that is cancelled leaves it behind.

    place: a name for what hangs as one, the folder of a domain say. at_once: how many look at it;
    the next ones wait for them, without a thread.
    """
    limiter = _LIMITERS.setdefault(place, trio.CapacityLimiter(at_once))
    return await trio.to_thread.run_sync(call, *args, limiter=limiter, abandon_on_cancel=True)
