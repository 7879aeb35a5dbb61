"""The index of a lease volume: a metadata block, then one record for each lease.

Readers look at few of the separators, because the volumes of other programs must stay readable;
what is written here is exact. Source: docs/formats.md, "Index".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from leases.geometry import MAX_LEASES, Geometry
from leases.lease import NAME, NAME_SIZE
from protocol.errors import InvalidMetadata, InvalidRecord

METADATA_SIZE = 512
RECORD_SIZE = 64
INDEX_SIZE = METADATA_SIZE + MAX_LEASES * RECORD_SIZE  # 253,952
_MAGIC = bytes.fromhex("12152016")
_VERSION = 1
_UPDATING = ord("u")
_STATE_AT = 70  # of the metadata block
_LATEST = 10**10 - 1  # what ten digits hold


def metadata(lockspace: str, mtime: int) -> bytes:
    """The metadata block (512 bytes) of a volume formatted at `mtime` (seconds since the epoch).

    A clock that is wrong by centuries gives the nearest time that can be written.
    """
    data = bytearray(METADATA_SIZE)
    data[0:4] = _MAGIC
    data[5:9] = b"%04d" % _VERSION
    data[10:58] = lockspace.encode("ascii").ljust(NAME_SIZE, b"\0")
    data[59:69] = b"%010d" % min(max(mtime, 0), _LATEST)
    data[70:71] = b"-"
    data[511:512] = b"\n"
    return bytes(data)


def record(lease_id: str, offset: int, *, updating: bool = False) -> bytes:
    """The record (64 bytes) of a lease whose slot begins at `offset`.

    updating: the slot is not to be used: a lookup does not find it.
    """
    name = lease_id.encode("ascii").ljust(NAME_SIZE, b"\0")
    return b"%s\0%011d\0%s-\n" % (name, offset, b"u" if updating else b"-")


EMPTY = record("", 0)


class Place(NamedTuple):
    """Where a lease id stands: the record's number and its bytes."""

    number: int
    record: bytes

    @property
    def updating(self) -> bool:
        return self.record[61] == _UPDATING

    def check(self) -> None:
        """Raises InvalidRecord if the offset, though only informative, is not a number."""
        try:
            int(self.record[49:60])
        except ValueError:
            raise InvalidRecord(f"offset is {self.record[49:60]!r}") from None


class Listed(NamedTuple):
    """A lease as the index lists it. updating: it was deleted while held, or half made."""

    lease_id: str
    offset: int
    updating: bool


@dataclass(frozen=True)
class Index:
    """A snapshot of the index: only the records of slots that exist."""

    lockspace: str
    mtime: int
    records: bytes

    @classmethod
    def parse(cls, data: bytes, *, path: str, interrupted: bool = False) -> "Index":
        """Read metadata block and records.

        interrupted: accept an index of which an update was interrupted.
        Raises InvalidMetadata.
        """
        try:
            lockspace, mtime = _parse_metadata(data[:METADATA_SIZE])
        except ValueError as e:
            reason = f"its index is damaged ({e}) and cannot be mended: use another domain"
            raise InvalidMetadata(path, reason) from None
        if data[_STATE_AT] == _UPDATING and not interrupted:
            reason = (
                "an update of its index was interrupted: rebuild it (`leasehold lease rebuild`)"
            )
            raise InvalidMetadata(path, reason)
        return cls(lockspace, mtime, data[METADATA_SIZE:])

    @property
    def slots(self) -> int:
        return len(self.records) // RECORD_SIZE

    def find(self, lease_id: str) -> Place | None:
        """The first record with this id, in whatever state it is."""
        if not NAME.fullmatch(lease_id):  # "" would find the free records
            return None
        wanted = lease_id.encode("ascii").ljust(NAME_SIZE, b"\0") + b"\0"
        at = self.records.find(wanted)
        while at >= 0:
            if at % RECORD_SIZE == 0:
                return self.place(at // RECORD_SIZE)
            at = self.records.find(wanted, at + 1)
        return None

    def place(self, number: int) -> Place:
        start = number * RECORD_SIZE
        return Place(number, self.records[start : start + RECORD_SIZE])

    def free(self) -> Iterator[int]:
        """Numbers of the free records, in order. Free means byte-equal to the empty record."""
        return (n for n in range(self.slots) if self.place(n).record == EMPTY)

    def updating(self) -> Iterator[Place]:
        """The records of leases that are not to be used."""
        flags = self.records[61::RECORD_SIZE]
        return (self.place(n) for n, flag in enumerate(flags) if flag == _UPDATING)

    def leases(self, geometry: Geometry) -> list[Listed]:
        """All leases in the order of their slots; a record that makes no sense is passed over."""
        listed = []
        for number in range(self.slots):
            place = self.place(number)
            name = place.record[:NAME_SIZE].rstrip(b"\0")
            try:
                place.check()
                lease_id = name.decode("ascii")
            except (InvalidRecord, UnicodeDecodeError):
                continue
            if lease_id:
                listed.append(Listed(lease_id, geometry.offset(number), place.updating))
        return listed


def _parse_metadata(data: bytes) -> tuple[str, int]:
    if data[:4] != _MAGIC:
        raise ValueError(f"magic is {data[:4].hex()}")
    if int(data[5:9]) != _VERSION:
        raise ValueError(f"unsupported version {int(data[5:9])}")
    return data[10:58].rstrip(b"\0").decode("ascii"), int(data[59:69])
