"""What leaders and delta leases have in common: the layout of their first 172 bytes.

Source: docs/formats.md, "Leader" and "Checksum".
"""

import struct
from typing import NamedTuple

from leases.crc32c import checksum
from leases.geometry import MIB
from leases.lease import NAME_SIZE

_FORMAT = struct.Struct("<4I5Q48s48sQ")
_CHECKSUM = struct.Struct("<I")
_CHECKSUM_AT = 168
END = _CHECKSUM_AT + _CHECKSUM.size
_ALIGNMENT_FLAGS = 4  # the alignment in MiB stands in the flags from this bit on


class Header(NamedTuple):
    """The fields that we use. lver: what a leader counts; 0 in a delta lease."""

    owner_id: int
    owner_generation: int
    lver: int
    space: str
    resource: str
    timestamp: int


def unpack(sector: bytes, magic: int, version: int) -> Header:
    """Raises ValueError, whose text says why this is not such a header."""
    found = _FORMAT.unpack_from(sector)
    if found[0] != magic:
        raise ValueError(f"magic is {found[0]:#010x}")
    if found[1] >> 16 != version >> 16:
        raise ValueError(f"version is {found[1]:#010x}")
    if _CHECKSUM.unpack_from(sector, _CHECKSUM_AT)[0] != checksum(sector[:_CHECKSUM_AT]):
        raise ValueError("wrong checksum")
    owner_id, owner_generation, lver, space, resource, timestamp = found[6:]
    return Header(owner_id, owner_generation, lver, _text(space), _text(resource), timestamp)


def fresh(
    magic: int,
    version: int,
    hosts: tuple[int, int],
    space: str,
    resource: str,
    *,
    sector: int,
    alignment: int,
) -> bytearray:
    """The header of what nobody owns, NUL padded to `sector` bytes. hosts: their two numbers."""
    names = (_bytes(space), _bytes(resource))
    flags = alignment // MIB << _ALIGNMENT_FLAGS
    packed = _FORMAT.pack(magic, version, flags, sector, *hosts, 0, 0, 0, *names, 0)
    data = bytearray(packed.ljust(sector, b"\0"))
    seal(data)
    return data


def seal(data: bytearray) -> None:
    """Put the checksum in its place."""
    _CHECKSUM.pack_into(data, _CHECKSUM_AT, checksum(bytes(data[:_CHECKSUM_AT])))


def _text(field: bytes) -> str:
    try:
        return field.rstrip(b"\0").decode("ascii")
    except UnicodeDecodeError:
        raise ValueError(f"name is {field!r}") from None


def _bytes(name: str) -> bytes:
    return name.encode("ascii").ljust(NAME_SIZE, b"\0")
