"""Reading and writing the value block on disk.

Source: docs/formats.md, "Value block".
"""

from leases import lvb
from leases.geometry import Geometry
from leases.sector import Sectors
from leases.slot import LVB_SIZE
from protocol.errors import SanlockLVBError
from protocol.record import JobRecord


def read(sectors: Sectors, geometry: Geometry, offset: int) -> bytes:
    """The value block (512 bytes) of the slot at `offset`. Raises SanlockLVBError (703)."""
    try:
        return sectors.read(offset + geometry.lvb_offset, geometry.sector)[:LVB_SIZE]
    except OSError as e:
        raise SanlockLVBError(f"cannot be read: {e}") from e


def write(sectors: Sectors, geometry: Geometry, offset: int, record: JobRecord | None) -> None:
    """Write the value block and read it back. Raises SanlockLVBError (703).

    The caller holds the lease.
    """
    block = lvb.encode(record)
    try:
        sectors.write(offset + geometry.lvb_offset, block.ljust(geometry.sector, b"\0"))
    except OSError as e:
        raise SanlockLVBError(f"cannot be written: {e}") from e
    if read(sectors, geometry, offset) != block:
        raise SanlockLVBError("reads back changed")
