"""What a host tells of itself (Host.getCapabilities), read with care: it may be of any version."""

from typing import Annotated, Any

import msgspec

from protocol.errors import BadOutput
from protocol.managed import Connector

# One limit for a name that is shown and kept; the whole answer is bounded by the connection.
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
HardwareId = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]


class Membership(msgspec.Struct, frozen=True):
    """Of the host in the lockspace of a domain. host_id: None: it has not joined.

    alone: there is none, as the embedded store keeps its leases, for one host.
    """

    host_id: Annotated[int, msgspec.Meta(ge=1, le=2000)] | None = None
    state: str = "not joined"

    @property
    def joined(self) -> bool:
        return self.host_id is not None and self.state == "joined"

    @property
    def alone(self) -> bool:
        return self.state == "alone"


class Endpoints(msgspec.Struct, frozen=True):
    """Which disks outside of storage domains the host lets clients name."""

    schemes: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True):
    """concurrency: jobs at once; those above it wait in the queue of the host."""

    concurrency: Count = 1


class LocalDisks(msgspec.Struct, frozen=True):
    """backends: of local disks of VMs that the host can make. None: it could not tell just then;
    without any it has no local disks."""

    backends: tuple[str, ...] | None = ()


class Capabilities(msgspec.Struct, frozen=True):
    """uuid: the hardware id. domains: that the host knows, by id. connector_info: {}: it could not
    be told. drivers: whose volumes the host attaches without an adapter. drained: it starts no job.
    """

    uuid: HardwareId
    name: Name = "unknown"
    version: str = "unknown"
    stores: tuple[str, ...] = ("embedded",)
    domains: dict[str, Membership] = {}
    connector_info: dict[str, Any] = {}
    drivers: tuple[str, ...] = ()
    endpoints: Endpoints = Endpoints()
    limits: Limits = Limits()
    local_disk: LocalDisks = LocalDisks()
    drained: bool = False

    def sees(self, sd_id: str) -> bool:
        """Can this host use the leases of a domain?"""
        membership = self.domains.get(sd_id)
        return membership is not None and (membership.joined or membership.alone)


def read_capabilities(answer: object, host: str) -> Capabilities:
    """Raises BadOutput (4118): nonsense. host: for the message."""
    try:
        return msgspec.convert(answer, Capabilities)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        raise BadOutput(host, str(e)) from None


def read_connector(told: Capabilities, host: str) -> Connector:
    """Raises BadOutput (4118): the host could not tell it."""
    try:
        return msgspec.convert(told.connector_info, Connector)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        reason = f"no connector, which a volume is connected for ({e}): see its log"
        raise BadOutput(host, reason) from None
