"""CopyDataExternalEndpoint: a disk outside of storage domains, tracked by an external lease."""

from dataclasses import dataclass

from endpoints import disk
from endpoints.disk import Disk, Target
from endpoints.locks import Lock, Mode
from endpoints.url import Url, parse
from protocol.errors import BadParameter
from protocol.messages import ExternalEndpoint, Format
from protocol.record import Expectation
from storage.image import Policy

NAMESPACE = "target"


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
        return [Lock(NAMESPACE, name, mode) for name in disk.lock_names(self.url)]

    def lease_id(self) -> str:
        if self.message.lease is None:
            raise BadParameter("destination", "a lease is required")
        return self.message.lease.lease_id

    def expectation(self, job_id: str) -> Expectation:
        """What the record of the lease must say before the job may take it up."""
        if self.message.generation is None:
            raise BadParameter("destination", "a generation is required")
        return Expectation(job_id, self.message.generation)

    async def source(self, policy: Policy) -> Disk:
        return await disk.source(self.url, self.format, policy)

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        allowed = create_under if self.message.create else ()
        return await disk.target(self.url, self.message.format, needed=needed, create_under=allowed)
