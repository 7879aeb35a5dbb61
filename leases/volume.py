"""The lease volume (xleases): index and slots in one file.

Everything here blocks and takes no lock: use it in worker threads, and change the index only
while holding the index lease. Source: docs/formats.md, "Lease volume".
"""

import os
from dataclasses import dataclass

from leases import index as codec
from leases import range_lock
from leases.geometry import MAX_LEASES, Geometry
from leases.index import EMPTY, INDEX_SIZE, METADATA_SIZE, RECORD_SIZE, Index, Listed
from leases.lease import Lease
from leases.sector import Sectors
from leases.slot import fresh
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    InvalidMetadata,
    LeaseLost,
    NoSuchLease,
    TruncatedIndex,
)

# Bytes of the index in which a lookup searches first: free records are re-used from the start, so
# few leases ever stand behind the first 120.
_FIRST_LOOK = 8192


@dataclass(frozen=True)
class LeaseVolume:
    """The lease volume at `path` of the lockspace (domain) `sd_id`."""

    path: str
    sd_id: str
    geometry: Geometry

    def open(self, *, write: bool = False) -> Sectors:
        return Sectors.open(self.path, write=write)

    def index(self, sectors: Sectors, *, limit: int = INDEX_SIZE) -> Index:
        """Read the index, or only its first `limit` bytes (a multiple of the sector size).

        Raises TruncatedIndex, InvalidMetadata (also: of another lockspace).
        """
        used = min(limit, METADATA_SIZE + self.slots(sectors) * RECORD_SIZE)
        return self._parsed(self._read(sectors, used))

    def damaged_index(self, sectors: Sectors) -> tuple[Index, bytes]:
        """The whole index, with the records behind the end of the volume, and its metadata block.

        That an update of it was interrupted is no error here: it is to be rebuilt.
        Raises TruncatedIndex, InvalidMetadata.
        """
        self.slots(sectors)
        data = self._read(sectors, INDEX_SIZE)
        return self._parsed(data, interrupted=True), data[:METADATA_SIZE]

    def slots(self, sectors: Sectors) -> int:
        """How many leases there is room for. Raises TruncatedIndex."""
        size = sectors.size()
        start = self.geometry.index_offset
        if size < start + INDEX_SIZE:
            raise TruncatedIndex(self.path, INDEX_SIZE, max(0, size - start))
        return self.geometry.leases(size)

    def lease(self, lease_id: str, number: int) -> Lease:
        return Lease(self.sd_id, lease_id, self.path, self.geometry.offset(number))

    def lookup(self, sectors: Sectors, lease_id: str) -> Lease:
        """Raises NoSuchLease (936), InvalidRecord, and what `index` and `check_end` raise."""
        place = self.index(sectors, limit=_FIRST_LOOK).find(lease_id)
        if place is None:
            place = self.index(sectors).find(lease_id)
        if place is None:
            self.check_end(sectors, lease_id)
            raise NoSuchLease(lease_id)
        place.check()
        if place.updating:
            raise NoSuchLease(lease_id)
        return self.lease(lease_id, place.number)

    def check_end(self, sectors: Sectors, lease_id: str) -> None:
        """Raise InvalidMetadata if the slot of a lease lies behind the end of the volume: it is not
        gone, the volume was cut off."""
        slots = self.slots(sectors)
        place = self._parsed(self._read(sectors, INDEX_SIZE)).find(lease_id)
        if place is not None and place.number >= slots and not place.updating:
            reason = (
                f"it was cut off before the slot of lease {lease_id}: restore it, and do not"
                " rebuild it before, which would forget the lease"
            )
            raise InvalidMetadata(self.path, reason)

    def confirm(self, sectors: Sectors, lease: Lease) -> None:
        """Look a lease up again where it was found; raises NoSuchLease (936): gone or moved."""
        number = self.geometry.number(lease.offset)
        start, place = self._block(number)
        data = sectors.read(start, self.geometry.sector)[place : place + RECORD_SIZE]
        wanted = codec.record(lease.lease_id, lease.offset)
        # The offset in the record is only informative, so it is not compared.
        if data[:49] != wanted[:49] or codec.Place(number, data).updating:
            raise NoSuchLease(lease.lease_id)

    def list(self, sectors: Sectors) -> list[Listed]:
        """All leases, those that are not to be used as well, in the order of their slots."""
        return self.index(sectors).leases(self.geometry)

    def write_records(self, sectors: Sectors, number: int, records: bytes, *, over: bytes) -> None:
        """Replace the records `over`, from `number` on, and read them back.

        The caller holds the index lease. Raises LeaseLost: other records stand there, or afterwards
        not ours, so somebody else changes the index as well.
        """
        self._replace(sectors, METADATA_SIZE + number * RECORD_SIZE, records, over)

    def write_metadata(self, sectors: Sectors, block: bytes, *, over: bytes) -> None:
        """Replace the metadata block, as `write_records` does it."""
        self._replace(sectors, 0, block, over)

    def _replace(self, sectors: Sectors, at: int, data: bytes, over: bytes) -> None:
        """Rewrite the sectors of the index with the bytes from `at` on. No record crosses one."""
        before = at % self.geometry.sector
        start = self.geometry.index_offset + at - before
        size = -(-(before + len(data)) // self.geometry.sector) * self.geometry.sector
        block = sectors.read(start, size)
        if block[before : before + len(over)] != over:
            raise LeaseLost(INDEX_LEASE, f"byte {at} of the index was changed by somebody else")
        block = block[:before] + data + block[before + len(data) :]
        sectors.write(start, block)
        if sectors.read(start, size) != block:
            raise LeaseLost(INDEX_LEASE, f"byte {at} of the index reads back changed")

    def _read(self, sectors: Sectors, count: int) -> bytes:
        """The first `count` bytes of the index."""
        blocks = -(-count // self.geometry.sector)
        return sectors.read(self.geometry.index_offset, blocks * self.geometry.sector)[:count]

    def _parsed(self, data: bytes, *, interrupted: bool = False) -> Index:
        index = Index.parse(data, path=self.path, interrupted=interrupted)
        if index.lockspace != self.sd_id:
            reason = (
                f"it belongs to another domain, {index.lockspace!r}, and not to {self.sd_id};"
                " nothing was written: put the right one in its place"
            )
            raise InvalidMetadata(self.path, reason)
        return index

    def _block(self, number: int) -> tuple[int, int]:
        """Offset of the sector with record `number`, and the record's place in it."""
        at = METADATA_SIZE + number * RECORD_SIZE
        place = at % self.geometry.sector
        return self.geometry.index_offset + at - place, place

    def index_lease(self) -> Lease:
        """The lease around changes of the index: the reserved slot."""
        return Lease(self.sd_id, INDEX_LEASE, self.path, self.geometry.index_lock_offset)


INDEX_LEASE = "leasehold-index"


def format_volume(volume: LeaseVolume, *, now: int, leases: int | None = None) -> None:
    """Write an empty index; whatever leases there were are gone. Blocks.

    now: seconds since the epoch, kept as mtime. leases: allocate the file in full with room for
    so many; None keeps the size that it has. The file is made if there is none.
    Raises AcquireLockFailure (651) while a process of this host holds a lease in it, and OSError.
    """
    if leases is not None and not 1 <= leases <= MAX_LEASES:
        raise BadParameter("leases", f"must be 1 to {MAX_LEASES}")
    os.close(os.open(volume.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664))
    with volume.open(write=True) as sectors:
        if not range_lock.lock(sectors.fd, 0, 0):
            raise AcquireLockFailure(volume.path, "leases in it are held")
        if leases is not None:
            os.posix_fallocate(sectors.fd, 0, volume.geometry.size(leases))
        sectors.write(volume.geometry.index_offset, _empty_index(volume.sd_id, now))
        if sectors.size() >= volume.geometry.offset(0):  # else it is made when it is needed
            write_index_lease(volume, sectors)
        os.fsync(sectors.fd)  # the size of the file too, which O_DSYNC need not write


def write_index_lease(volume: LeaseVolume, sectors: Sectors) -> None:
    """Write the slot of the lease around changes of the index, owned by nobody."""
    lease = volume.index_lease()
    fresh(volume.geometry, lease.sd_id, lease.lease_id).write(
        sectors, volume.geometry, lease.offset
    )


def _empty_index(lockspace: str, now: int) -> bytes:
    return codec.metadata(lockspace, now) + EMPTY * MAX_LEASES
