"""Geometry of a lease volume: how large its sectors and slots are.

Source: docs/formats.md, "Lease volume" and "Slot".
"""

from dataclasses import dataclass

from protocol.errors import UnsupportedOperation

MIB = 1 << 20
LVB_SECTOR = 2002  # of a slot; the sectors before it belong to the hosts 1 to 2000
LEASES_AT = 3  # slot of the first lease, behind lockspace, index and index lock
MAX_LEASES = 3960  # records that fit into the index
ALIGNMENTS = {512: 1 * MIB, 4096: 8 * MIB}  # what a new volume gets


@dataclass(frozen=True)
class Geometry:
    """sector: bytes that are written at once, 512 or 4096. alignment: bytes of a slot.

    Raises UnsupportedOperation (2009) for a sector that does not exist, and for a slot that ends
    before its value block: that sector would lie inside the next lease.
    """

    sector: int = 512
    alignment: int = MIB

    def __post_init__(self) -> None:
        if self.sector not in ALIGNMENTS:
            raise UnsupportedOperation(f"sectors of {self.sector} bytes: must be 512 or 4096")
        if self.alignment not in (1 * MIB, 2 * MIB, 4 * MIB, 8 * MIB):
            raise UnsupportedOperation(f"slots of {self.alignment} bytes: must be 1, 2, 4 or 8 MiB")
        if self.lvb_offset + self.sector > self.alignment:
            raise UnsupportedOperation(
                f"slots of {self.alignment} bytes are too small for sectors of {self.sector} bytes:"
                " the value block of a lease would lie inside the next lease"
            )

    @classmethod
    def of(cls, sector: int) -> "Geometry":
        """The geometry of new volumes with such sectors."""
        return cls(sector, ALIGNMENTS.get(sector, MIB))

    @property
    def lvb_offset(self) -> int:
        """Where the value block begins, in bytes from the start of the slot."""
        return LVB_SECTOR * self.sector

    @property
    def index_offset(self) -> int:
        return self.alignment

    @property
    def index_lock_offset(self) -> int:
        return 2 * self.alignment

    def offset(self, number: int) -> int:
        """Where slot of lease `number` (0, 1, ...) begins, in bytes."""
        return (LEASES_AT + number) * self.alignment

    def number(self, offset: int) -> int:
        """The inverse of `offset`."""
        return offset // self.alignment - LEASES_AT

    def leases(self, size: int) -> int:
        """How many leases a volume of `size` bytes has room for; one beyond its end is none."""
        return max(0, min(MAX_LEASES, self.number(size)))

    def size(self, leases: int) -> int:
        """Bytes of a volume with room for `leases` leases."""
        return self.offset(leases)


DEFAULT = Geometry()
