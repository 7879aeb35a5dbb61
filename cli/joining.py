"""Joining a storage domain, with its progress on stderr."""

from collections import deque
from typing import Any

import trio

from cli import known
from cli.output import Output
from cli.progress import follow
from endpoints.domain import lockspace_of
from leases import lockspace
from leases.lockspace import Member


class Joining:
    """How far it is, as a job tells it. The time that it takes is known well beforehand."""

    def __init__(self, host_id: int) -> None:
        self.description = f"join as host {host_id}"
        self._elapsed = 0.0
        self._usual = 0.0

    def report(self, elapsed: float, usual: float) -> None:
        self._elapsed, self._usual = elapsed, usual

    def info(self) -> dict[str, Any]:
        facts: dict[str, Any] = {"status": "waiting", "stage": "joining"}
        if self._usual:
            facts["progress"] = min(99, int(100 * self._elapsed / self._usual))
            facts["eta"] = max(0.0, self._usual - self._elapsed)
        return facts


async def joined(sd_id: str, host_id: int, out: Output, *, without_watchdog: bool) -> Member:
    """Join the known domain. Raises as leases.lockspace.join, and as cli.known.opened."""
    space = lockspace_of(await known.opened(sd_id))
    joining = Joining(host_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, joining, deque[str](), out)
        made = await lockspace.join(
            space,
            host_id,
            without_watchdog=without_watchdog,
            report=joining.report,
            warn=out.warn,
        )
        nursery.cancel_scope.cancel()
    return made
