"""CopyDataExternalEndpoint: a disk outside of storage domains, tracked by an external lease."""

from dataclasses import dataclass, replace

from endpoints import disk
from endpoints.disk import Disk, Target
from endpoints.locks import Lock, Mode
from endpoints.tracked import JobFacts, TrackedLease
from endpoints.url import Url, parse
from leases.store import Store
from protocol.errors import BadParameter
from protocol.messages import ExternalEndpoint, Format
from protocol.record import Expectation
from storage.image import Policy


@dataclass(frozen=True)
class CopyDataExternalEndpoint:
    """One end of a copy, as its message described it.

    format: None on a source means "find out".
    """

    message: ExternalEndpoint
    url: Url
    format: Format | None

    @classmethod
    def read(
        cls, message: ExternalEndpoint, *, find_format: bool = False
    ) -> "CopyDataExternalEndpoint":
        """Raises BadParameter (1000) for a url that cannot be one."""
        return cls(message, parse(message.url), None if find_format else message.format)

    def locks(self, mode: Mode) -> list[Lock]:
        """The host-wide locks that keep two copies away from one target."""
        return disk.locks(self.url, mode)

    async def source(self, policy: Policy) -> Disk:
        return await disk.source(self.url, self.format, policy)

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        message = self.message
        allowed = create_under if message.create else ()
        found = await disk.target(self.url, message.format, needed=needed, create_under=allowed)
        is_zero = message.is_zero or found.is_zero
        return replace(found, sparse=message.sparse, is_zero=is_zero)

    def tracked(self, store: Store, job: JobFacts) -> TrackedLease:
        """The tracking of a copy to here: the record in the value block of the lease."""
        lease, generation = self.message.lease, self.message.generation
        if lease is None or generation is None:
            raise BadParameter("destination", "a lease and a generation are required")
        return TrackedLease(store, lease.lease_id, Expectation(job.job_id, generation), job)
