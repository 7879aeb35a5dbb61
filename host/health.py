"""Is the agent well? For load balancers, monitoring and people; it names no job and no path."""

import logging
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import structlog
import trio

from host import domains
from host.folder import ROOM
from host.this_host import ThisHost
from protocol.errors import Error

log = structlog.get_logger()

Word: TypeAlias = Literal["ok", "draining", "degraded", "failing"]

FRESH = 2.0  # seconds for which a look is told again
ANSWER_TIME = 3.0  # seconds for a disk to answer
SILENT = "it does not answer"


@dataclass(frozen=True)
class Report:
    """facts: as JSON has them."""

    status: Word
    facts: dict[str, Any]

    @property
    def well(self) -> bool:
        """Can the agent take jobs in? One that is drained can: they wait."""
        return self.status != "failing"


class Health:
    """failing: the journal cannot be written, so no job can be taken in. degraded: a storage domain
    cannot be read. draining: no job is started. Not thread safe: it belongs to the trio thread.
    """

    def __init__(
        self, host: ThisHost, *, fresh: float = FRESH, answer_time: float = ANSWER_TIME
    ) -> None:
        self._host = host
        self._look = partial(Look, fresh=fresh, answer_time=answer_time)
        self._journal = self._look("journal", partial(written, host.journal.path))
        self._domains: dict[tuple[str, str], Look] = {}  # by id and folder

    async def report(self) -> Report:
        """Look at the disks, no longer than they are given to answer."""
        looks = [self._journal, *self._of_domains()]
        async with trio.open_nursery() as nursery:
            for look in looks:
                nursery.start_soon(look.again)
        reason = self._journal.reason
        unreadable = sum(bool(look.reason) for look in looks[1:])
        facts = {
            "version": self._host.version,
            **self._jobs(),
            "journal": {"writable": not reason, **({"reason": reason} if reason else {})},
            "storage": {"domains": len(looks) - 1, "unreadable": unreadable},
        }
        return Report(self._word(reason, unreadable), facts)

    def _word(self, reason: str, unreadable: int) -> Word:
        if reason:
            return "failing"
        if unreadable:
            return "degraded"
        return "draining" if self._host.agent.queue.paused else "ok"

    def _jobs(self) -> dict[str, Any]:
        agent = self._host.agent
        queue = agent.queue
        return {
            "jobs": Counter(job.status.value for job in agent.registry.list()),
            "queue": {
                "waiting": len(queue.waiting),
                "running": queue.running,
                "concurrency": queue.concurrency,
                "draining": queue.paused,
            },
        }

    def _of_domains(self) -> list["Look"]:
        folders = self._host.domains.folders
        self._domains = {
            (sd_id, folder): self._domains.get((sd_id, folder))
            or self._look(f"storage domain {sd_id}", partial(read, sd_id, folder))
            for sd_id, folder in folders.items()
        }
        return list(self._domains.values())


@dataclass
class Look:
    """A look at a disk, by a thread of its own: one that hangs keeps no other, and no second one.

    reason: why it is not well, as of the last look; empty: it is.
    """

    name: str
    look: Callable[[], None]
    fresh: float
    answer_time: float
    reason: str = ""
    _at: float = float("-inf")
    _lock: trio.Lock = field(default_factory=trio.Lock)
    _thread: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))

    async def again(self) -> None:
        """Look, unless somebody just has. It takes no longer than `answer_time`, and the same
        again where somebody else looks already."""
        async with self._lock:
            if trio.current_time() - self._at < self.fresh:
                return
            reason = SILENT
            with trio.move_on_after(self.answer_time):
                reason = await self._looked()
            self._at = trio.current_time()
            if reason != self.reason:
                level = logging.WARNING if reason else logging.INFO
                log.log(level, "health", of=self.name, reason=reason or "well again")
            self.reason = reason

    async def _looked(self) -> str:
        try:
            await trio.to_thread.run_sync(self.look, limiter=self._thread, abandon_on_cancel=True)
        except OSError as e:
            return e.strerror or str(e)
        except Error as e:
            return type(e).__name__
        return ""


def written(journal: Path) -> None:
    """Write what a job needs, and take it away again. Raises OSError. Blocks."""
    fd, name = tempfile.mkstemp(dir=journal, prefix=".health-")
    try:
        os.posix_fallocate(fd, 0, ROOM)
        os.fsync(fd)
    finally:
        os.close(fd)
        os.unlink(name)


def read(sd_id: str, folder: str) -> None:
    """Read a storage domain. Raises as host.domains.read. Blocks."""
    domains.read(sd_id, folder)
