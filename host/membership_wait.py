"""A job that begins while its host is not in the lockspace waits for that: the host joins again,
after its start or that of its sanlock daemon (host/memberships.py).
"""

import os
from collections.abc import Callable

import trio

from endpoints.domain import sharing
from leases import writers
from leases.worker import run
from storage.domain import Domain

LOOK = 0.5  # seconds


async def until_joined(domain: Domain, seconds: float, waiting: Callable[[], None]) -> None:
    """Return when leases of the domain can be taken, as far as its lockspace goes.

    seconds: how long at most; what is missing then is told by those who take one. waiting: is
    called when it is waited. Raises as endpoints.domain.sharing.
    """
    with trio.move_on_after(seconds):
        while not await _open(domain):
            waiting()
            await trio.sleep(LOOK)


async def _open(domain: Domain) -> bool:
    found = await sharing(domain)
    if found.store == "embedded":
        return True
    return bool(found.joined) and await run(_not_being_joined, domain.id)


def _not_being_joined(sd_id: str) -> bool:
    """The daemon says that it has joined a moment before the one who joins is done."""
    fd = writers.covered(sd_id)
    if fd is None:
        return False
    os.close(fd)
    return True
