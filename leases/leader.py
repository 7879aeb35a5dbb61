"""The leader: sector 0 of a slot, which says whose the slot is.

Source: docs/formats.md, "Leader".
"""

import struct
from dataclasses import dataclass

from leases import header

MAGIC = 0x06152010
VERSION = 0x00060004
_LVER = struct.Struct("<Q")
_LVER_AT = 48
_WRITER = struct.Struct("<Q")
_WRITER_AT = 176


class InvalidLeader(ValueError):
    """The sector is no leader: the text says why."""


@dataclass(frozen=True)
class Leader:
    """The fields of a leader that we use.

    version: counts the acquires since the slot was written (sanlock's lver).
    timestamp: not 0 while a host of sanlock owns the lease, in seconds of that host's uptime.
    writer_id: the host that wrote the leader, which in a race is not always its owner.
    """

    space: str
    resource: str
    version: int = 0
    owner_id: int = 0
    owner_generation: int = 0
    timestamp: int = 0
    writer_id: int = 0

    @classmethod
    def unpack(cls, sector: bytes) -> "Leader":
        """Read a leader from the first sector of a slot. Raises InvalidLeader."""
        try:
            found = header.unpack(sector, MAGIC, VERSION)
        except ValueError as e:
            raise InvalidLeader(str(e)) from None
        return cls(
            found.space,
            found.resource,
            found.lver,
            found.owner_id,
            found.owner_generation,
            found.timestamp,
            _WRITER.unpack_from(sector, _WRITER_AT)[0],
        )


def fresh(space: str, resource: str, *, sector: int, alignment: int) -> bytes:
    """The leader of a lease that nobody has owned yet: `sector` bytes.

    Empty names make it the leader of a cleared slot.
    """
    hosts = min(2000 * alignment // (2048 * sector), 2000)
    return bytes(
        header.fresh(
            MAGIC, VERSION, (hosts, hosts), space, resource, sector=sector, alignment=alignment
        )
    )


def acquired(sector: bytes) -> bytes:
    """The leader with its version grown by one; all else is kept."""
    data = bytearray(sector)
    _LVER.pack_into(data, _LVER_AT, (_LVER.unpack_from(data, _LVER_AT)[0] + 1) % (1 << 64))
    header.seal(data)
    return bytes(data)


def owned_alike(one: bytes, other: bytes) -> bool:
    """Are these two sectors of one leader under one owner?

    Behind the checksum stands who wrote last: another host that lost a race for the lease may
    write its winner's leader once more.
    """
    return one[: header.END] == other[: header.END]
