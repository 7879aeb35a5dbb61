"""The delta lease of a host: its sector of `ids`, in which its membership of the lockspace stands.

The daemon of the host renews it all the time. We read it, and write it only where nobody has
joined yet. Source: docs/formats.md, "Delta lease".
"""

import struct
from dataclasses import dataclass

from leases import header
from leases.geometry import Geometry
from leases.sector import Sectors

MAGIC = 0x12212010
VERSION = 0x00030004
LAST_HOST = 2000
_IO_TIMEOUT = struct.Struct("<H")
_IO_TIMEOUT_AT = 174


class InvalidDelta(ValueError):
    """The sector is no delta lease: the text says why."""


@dataclass(frozen=True)
class Delta:
    """The fields of a delta lease that we use.

    space: the lockspace, which is the domain. name: the host's; "" when none has had this id.
    owner_id, owner_generation: of the host that has the id, or has had it.
    timestamp: of the last renewal, in seconds of that host's uptime; 0 = left, or never joined.
    io_timeout: seconds.
    """

    space: str
    name: str = ""
    owner_id: int = 0
    owner_generation: int = 0
    timestamp: int = 0
    io_timeout: int = 0


def unpack(sector: bytes) -> Delta:
    """Read a delta lease from its sector. Raises InvalidDelta."""
    try:
        found = header.unpack(sector, MAGIC, VERSION)
    except ValueError as e:
        raise InvalidDelta(str(e)) from None
    return Delta(
        found.space,
        found.resource,
        found.owner_id,
        found.owner_generation,
        found.timestamp,
        _IO_TIMEOUT.unpack_from(sector, _IO_TIMEOUT_AT)[0],
    )


def fresh(sd_id: str, io_timeout: int, geometry: Geometry) -> bytes:
    """The delta lease of an id that no host has had: one sector, the same for all ids."""
    data = header.fresh(
        MAGIC, VERSION, (0, 1), sd_id, "", sector=geometry.sector, alignment=geometry.alignment
    )
    _IO_TIMEOUT.pack_into(data, _IO_TIMEOUT_AT, io_timeout)  # behind what the checksum covers
    return bytes(data)


def read(path: str, host_id: int, geometry: Geometry) -> Delta:
    """The delta lease of the host `host_id` (1 to 2000) in `ids`, past the page cache. Blocks.

    Raises InvalidDelta, InvalidDomain (there is no such file), OSError, and ValueError (host_id).
    """
    at = offset(host_id, geometry)
    with Sectors.open(path, write=False) as sectors:
        return unpack(sectors.read(at, geometry.sector))


def offset(host_id: int, geometry: Geometry) -> int:
    """Where in `ids` the delta lease of a host begins, in bytes."""
    if not 1 <= host_id <= LAST_HOST:
        raise ValueError(f"no host has the id {host_id}")
    return (host_id - 1) * geometry.sector
