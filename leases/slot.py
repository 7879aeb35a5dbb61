"""A slot: everything that stands on disk for one lease, one alignment long.

Source: docs/formats.md, "Slot".
"""

import struct
from dataclasses import dataclass, replace

from leases import leader
from leases.geometry import Geometry
from leases.sector import Sectors

_REQUEST_MAGIC = 0x08292011
_REQUEST_VERSION = 0x00010001
LVB_SIZE = 512


@dataclass(frozen=True)
class Slot:
    """A slot to be written: `head` at its start, `lvb` in its place, all the rest zero.

    rest: False leaves the rest as it is, and an empty `lvb` the value block; until the slot is
    written for a new lease nobody reads it.
    """

    head: bytes
    lvb: bytes
    rest: bool = True

    def pack(self, geometry: Geometry) -> bytes:
        """The whole slot: `geometry.alignment` bytes."""
        data = bytearray(geometry.alignment)
        data[: len(self.head)] = self.head
        data[geometry.lvb_offset : geometry.lvb_offset + len(self.lvb)] = self.lvb
        return bytes(data)

    def write(self, sectors: Sectors, geometry: Geometry, offset: int) -> None:
        """Write the whole slot in one piece. The caller holds it."""
        if not self.rest:
            # The value block first: a rebuild would take a job in an unnamed slot for a lost lease.
            if self.lvb:
                sectors.write(offset + geometry.lvb_offset, self.lvb)
            sectors.write(offset, self.head)
            return
        pieces = [(0, self.head), (geometry.lvb_offset, self.lvb)]
        sectors.fill(offset, geometry.alignment, pieces)


def fresh(geometry: Geometry, space: str, resource: str, lvb: bytes = bytes(LVB_SIZE)) -> Slot:
    """The slot of a new lease that nobody owns."""
    first = leader.fresh(space, resource, sector=geometry.sector, alignment=geometry.alignment)
    request = struct.pack("<2I", _REQUEST_MAGIC, _REQUEST_VERSION)
    return Slot(first + request.ljust(geometry.sector, b"\0"), lvb.ljust(geometry.sector, b"\0"))


def cleared(geometry: Geometry, *, lvb: bool = True) -> Slot:
    """A slot that belongs to no lease: its leader has empty names. lvb: False: its value block was
    zeroed already."""
    slot = replace(fresh(geometry, "", ""), rest=False)
    return slot if lvb else replace(slot, lvb=b"")
