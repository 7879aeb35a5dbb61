"""The lockspace file of a domain, `ids`: one delta lease for each host. Everything here blocks.

Unformatted it is empty or begins with zeros; then the domain is one of the embedded store.
Source: docs/formats.md, "Delta lease".
"""

import os
from dataclasses import dataclass

from leases import delta
from leases.delta import LAST_HOST, Delta, InvalidDelta
from leases.geometry import Geometry
from leases.sector import Sectors
from protocol.errors import BadParameter, InvalidDomain

DEFAULT_IO_TIMEOUT = 10  # seconds; sanlock's own
LONGEST_IO_TIMEOUT = 120  # seconds; a host would be given up after 17 minutes


@dataclass(frozen=True)
class Lockspace:
    """A domain as its hosts share it.

    ids, xleases: its lockspace file and its lease volume. others: a pattern (glob) of the files
    that are one slot each, the leases of its volumes. shared: all files that the daemon writes to
    beside these.
    """

    sd_id: str
    ids: str
    xleases: str
    geometry: Geometry
    others: str = ""
    shared: tuple[str, ...] = ()


def check_io_timeout(seconds: int) -> None:
    """Raises BadParameter (1000)."""
    if not 1 <= seconds <= LONGEST_IO_TIMEOUT:
        raise BadParameter("io_timeout", f"must be 1 to {LONGEST_IO_TIMEOUT} seconds")


def format_ids(path: str, sd_id: str, io_timeout: int, geometry: Geometry) -> None:
    """Write a lockspace that no host has joined, as the daemon would write it.

    io_timeout: seconds, 1 to 120: how long its hosts wait for storage.
    The first sector last: while that is missing, a format that was interrupted shows.
    """
    check_io_timeout(io_timeout)
    one = delta.fresh(sd_id, io_timeout, geometry)
    with Sectors.open(path, write=True) as sectors:
        os.posix_fallocate(sectors.fd, 0, geometry.alignment)
        behind = geometry.alignment - geometry.sector
        sectors.fill(geometry.sector, behind, [(0, one * (LAST_HOST - 1))])
        os.fsync(sectors.fd)  # the size of the file too, which O_DSYNC need not write
        sectors.write(0, one)


def lockspace(path: str, geometry: Geometry) -> Delta | None:
    """Name and io_timeout of the lockspace, in the delta lease of host 1; None: unformatted.

    Raises InvalidDelta (neither the one nor the other), InvalidDomain, OSError.
    """
    with Sectors.open(path, write=False) as sectors:
        if sectors.size() < geometry.sector:
            return None
        first = sectors.read(0, geometry.sector)
    return delta.unpack(first) if any(first) else None


def formatted(space: Lockspace) -> bool:
    """Is there anything in the lockspace file? Errors are left to those who use it."""
    try:
        return lockspace(space.ids, space.geometry) is not None
    except InvalidDelta:
        return True
    except (InvalidDomain, OSError):
        return False


def members(path: str, geometry: Geometry) -> dict[int, Delta]:
    """The delta lease of every host that has ever joined, by host id. A damaged one is left out.

    Raises InvalidDomain, OSError.
    """
    size = geometry.sector
    with Sectors.open(path, write=False) as sectors:
        data = sectors.read(0, LAST_HOST * size)
    found = {}
    for host_id in range(1, LAST_HOST + 1):
        sector = data[(host_id - 1) * size : host_id * size]
        try:
            one = delta.unpack(sector)
        except InvalidDelta:
            continue
        if one.owner_generation:
            found[host_id] = one
    return found
