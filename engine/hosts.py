"""What a poller needs of the hosts; the caller says how they are reached."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from engine.answers import HostState
from protocol.messages import LeaseRef
from protocol.record import Expectation


class Hosts(Protocol):
    """Hosts by name. A call raises an exception whose code `protocol.errors.to_rpc` can tell.

    Every call may be cancelled at any moment, and may have been done nevertheless.
    """

    def state(self, host: str) -> HostState:
        """As far as it is known, without asking."""

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        """The hosts that are up and see the domain of the lease, the best first."""

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        """The host that has `host_id` in the lockspace of the lease; None: not known."""

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        """Host.getJobs: {job id: info}; those that the host does not know are absent."""

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        """Lease.status: {owners, version, metadata?}."""

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        """Lease.fence."""
