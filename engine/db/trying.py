"""Repeating what the database could not do just now."""

import logging
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from engine.db import faults
from protocol.errors import DatabaseGone

log = logging.getLogger(__name__)
T = TypeVar("T")
_PAUSES = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds before the second try ...; then the last


async def tried(
    once: Callable[[], Awaitable[T]],
    until: float,
    *,
    unsure: Callable[[], bool] = lambda: False,
) -> T:
    """until: by trio's clock; not before the outcome of the last try is known (`unsure`).

    Raises DatabaseGone (4407), and all that `once` raises and that is no matter of time.
    """
    tries = 0
    while True:
        try:
            return await once()
        except Exception as e:
            if not faults.may_pass(e):
                if (meant := faults.meant(e)) is not e:
                    raise meant from None
                raise
            if trio.current_time() >= until and not unsure():
                raise DatabaseGone(faults.reason(e)) from None
            if tries == 0 and not faults.is_conflict(e):
                log.warning("the database cannot be used, we try again: %s", faults.reason(e))
        pause = _PAUSES[min(tries, len(_PAUSES) - 1)]
        # Two that met each other are not to meet again.
        await trio.sleep(pause * random.uniform(0.5, 1.0))
        tries += 1
