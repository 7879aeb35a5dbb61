"""CopyDataExternalEndpoint: a disk outside of storage domains, tracked by an external lease."""

import os
from dataclasses import dataclass, replace

import trio

from endpoints import disk
from endpoints.disk import Disk, Target
from endpoints.locks import Lock, Mode
from endpoints.tracked import JobFacts, TrackedLease
from endpoints.url import NbdUnixUrl, PathUrl, Url, parse
from leases.store import Store
from protocol.errors import BadParameter, ImageRefused
from protocol.messages import ExternalEndpoint, Format
from protocol.record import Expectation
from storage.image import Policy


@dataclass(frozen=True)
class CopyDataExternalEndpoint:
    """One end of a copy, as its message described it.

    format: None on a source means "find out". real: its file was allowed by this name, which had
    no link in it: one that has become a link since then leads elsewhere, and is refused.
    """

    message: ExternalEndpoint
    url: Url
    format: Format | None
    real: bool = False

    @classmethod
    def read(
        cls, message: ExternalEndpoint, *, find_format: bool = False, real: bool = False
    ) -> "CopyDataExternalEndpoint":
        """Raises BadParameter (1000) for a url that cannot be one."""
        return cls(message, parse(message.url), None if find_format else message.format, real)

    def locks(self, mode: Mode) -> list[Lock]:
        """The host-wide locks that keep two copies away from one target."""
        return disk.locks(self.url, mode)

    async def source(self, policy: Policy) -> Disk:
        await self._check_real()
        return await disk.source(self.url, self.format, policy)

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        await self._check_real()
        message = self.message
        allowed = create_under if message.create else ()
        found = await disk.target(self.url, message.format, needed=needed, create_under=allowed)
        is_zero = message.is_zero or found.is_zero
        return replace(found, sparse=message.sparse, is_zero=is_zero)

    async def _check_real(self) -> None:
        """Raises ImageRefused."""
        path = local_name(self.url)
        if self.real and path is not None:
            real = await trio.to_thread.run_sync(os.path.realpath, path, abandon_on_cancel=True)
            if real != path:
                raise ImageRefused(path, f"since it was allowed it has become a link to {real}")

    def tracked(self, store: Store, job: JobFacts) -> TrackedLease:
        """The tracking of a copy to here: the record in the value block of the lease."""
        lease, generation = self.message.lease, self.message.generation
        if lease is None or generation is None:
            raise BadParameter("destination", "a lease and a generation are required")
        return TrackedLease(store, lease.lease_id, Expectation(job.job_id, generation), job)


def local_name(url: Url) -> str | None:
    """The path that a url names on this host: of a file or device, or of a socket."""
    if isinstance(url, NbdUnixUrl):
        return url.socket
    return url.path if isinstance(url, PathUrl) else None
