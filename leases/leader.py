"""The leader: sector 0 of a slot, which says whose the slot is.

Source: docs/formats.md, "Leader".
"""

import struct
from dataclasses import dataclass

from leases.crc32c import checksum
from leases.geometry import MIB
from leases.lease import NAME_SIZE

MAGIC = 0x06152010
VERSION = 0x00060004
_FORMAT = struct.Struct("<4I5Q48s48sQ")
_LVER = struct.Struct("<Q")
_LVER_AT = 48
_CHECKSUM = struct.Struct("<I")
_CHECKSUM_AT = 168
_ALIGNMENT_FLAGS = 4  # the alignment in MiB stands in the flags from this bit on


class InvalidLeader(ValueError):
    """The sector is no leader: the text says why."""


@dataclass(frozen=True)
class Leader:
    """The fields of a leader that we use.

    version: counts the acquires since the slot was written (sanlock's lver).
    timestamp: not 0 while a host of sanlock owns the lease, in seconds of that host's uptime.
    """

    space: str
    resource: str
    version: int = 0
    owner_id: int = 0
    owner_generation: int = 0
    timestamp: int = 0

    @classmethod
    def unpack(cls, sector: bytes) -> "Leader":
        """Read a leader from the first sector of a slot. Raises InvalidLeader."""
        fields = _FORMAT.unpack_from(sector)
        magic, version = fields[:2]
        if magic != MAGIC:
            raise InvalidLeader(f"magic is {magic:#010x}")
        if version >> 16 != VERSION >> 16:
            raise InvalidLeader(f"version is {version:#010x}")
        if _CHECKSUM.unpack_from(sector, _CHECKSUM_AT)[0] != checksum(sector[:_CHECKSUM_AT]):
            raise InvalidLeader("wrong checksum")
        owner_id, owner_generation, lver, space, resource, timestamp = fields[6:]
        return cls(_name(space), _name(resource), lver, owner_id, owner_generation, timestamp)


def fresh(space: str, resource: str, *, sector: int, alignment: int) -> bytes:
    """The leader of a lease that nobody has owned yet: `sector` bytes.

    Empty names make it the leader of a cleared slot.
    """
    hosts = 2000 * alignment // (2048 * sector)
    packed = _FORMAT.pack(
        MAGIC,
        VERSION,
        alignment // MIB << _ALIGNMENT_FLAGS,
        sector,
        min(hosts, 2000),
        min(hosts, 2000),
        0,
        0,
        0,
        _name_bytes(space),
        _name_bytes(resource),
        0,
    )
    return _sealed(bytearray(packed.ljust(sector, b"\0")))


def acquired(sector: bytes) -> bytes:
    """The leader with its version grown by one; all else is kept."""
    data = bytearray(sector)
    _LVER.pack_into(data, _LVER_AT, (_LVER.unpack_from(data, _LVER_AT)[0] + 1) % (1 << 64))
    return _sealed(data)


def owned_alike(one: bytes, other: bytes) -> bool:
    """Are these two sectors of one leader under one owner?

    Behind the checksum stands who wrote last: another host that lost a race for the lease may
    write its winner's leader once more.
    """
    return one[: _CHECKSUM_AT + _CHECKSUM.size] == other[: _CHECKSUM_AT + _CHECKSUM.size]


def _sealed(data: bytearray) -> bytes:
    _CHECKSUM.pack_into(data, _CHECKSUM_AT, checksum(bytes(data[:_CHECKSUM_AT])))
    return bytes(data)


def _name(field: bytes) -> str:
    try:
        return field.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise InvalidLeader(f"name is {field!r}") from None


def _name_bytes(name: str) -> bytes:
    return name.encode("ascii").ljust(NAME_SIZE, b"\0")
