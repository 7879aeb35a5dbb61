"""Where the end of a job is written, and how hosts are asked about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.answers import LeaseView, lease_view
from engine.hosts import Hosts
from engine.judgement import Watch


class Record(Protocol):
    """Of one job. A call raises an exception whose code `protocol.errors.to_rpc` can tell; it may
    be cancelled at any moment, and may have been done nevertheless.
    """

    def candidates(self) -> Sequence[str]:
        """The hosts that can be asked, the best first."""

    async def owner(self, host_id: int) -> str | None:
        """The host that has `host_id` in the lockspace of the lease; None: not known."""

    async def look(self, host: str) -> LeaseView:
        """Who holds the lease, and what the record says."""

    async def fence(self, host: str) -> None:
        """Write FENCED, or what means the same. Raises the codes of engine.heard.FENCES."""


@dataclass(frozen=True)
class LeaseRecord:
    """The value block of an external lease."""

    hosts: Hosts
    watch: Watch

    def candidates(self) -> Sequence[str]:
        return self.hosts.candidates(self.watch.lease)

    async def owner(self, host_id: int) -> str | None:
        return await self.hosts.owner(self.watch.lease, host_id)

    async def look(self, host: str) -> LeaseView:
        return lease_view(await self.hosts.lease_status(host, self.watch.lease))

    async def fence(self, host: str) -> None:
        await self.hosts.fence(host, self.watch.lease, self.watch.expected)
