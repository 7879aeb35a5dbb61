"""The header of a qcow2 image, read without trusting a byte of it.

Pure and bounded: it looks at the first cluster (2 MiB at most) and never further.
Source: QEMU's published specification, docs/interop/qcow2; numbers are big endian. Limits marked
"QEMU" are those of its block driver, so that we refuse what it would refuse.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

MAGIC = b"QFI\xfb"
CLUSTER_BITS = range(9, 22)  # 512 bytes to 2 MiB (QEMU)
NAME_LIMIT = 1023  # bytes of a backing file name
FORMAT_LIMIT = 15  # bytes of a backing format name (QEMU)
L1_LIMIT = 32 << 20  # bytes of the L1 table (QEMU)
REFCOUNT_TABLE_LIMIT = 8 << 20  # bytes (QEMU)
SNAPSHOTS_LIMIT = 65536  # (QEMU)
EXTENSIONS_LIMIT = 1024  # ours: the specification defines six

_V2_LENGTH = 72
_V3_LENGTH = 104
_COMPRESSION_TYPE = 104  # offset of an additional field of version 3
_ZSTD = 1

_DIRTY = 1 << 0
_CORRUPT = 1 << 1
_DATA_FILE = 1 << 2
_COMPRESSION = 1 << 3
_EXTENDED_L2 = 1 << 4
_KNOWN = _DIRTY | _CORRUPT | _DATA_FILE | _COMPRESSION | _EXTENDED_L2

_END = 0
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE_NAME = 0x44415441

_ENCRYPTION: dict[int, Literal["aes", "luks"] | None] = {0: None, 1: "aes", 2: "luks"}


class BadHeader(ValueError):
    """The header is not that of a usable qcow2 image; the text says why."""


@dataclass(frozen=True)
class Header:
    """What the header says; sizes in bytes.

    data_file: name of the external data file, if the header holds one; `external_data` tells
    whether the image needs one. least_size: the file is truncated when it is smaller.
    """

    version: int
    cluster_bits: int
    virtual_size: int
    least_size: int
    backing_file: str | None
    backing_format: str | None
    data_file: str | None
    external_data: bool
    encryption: Literal["aes", "luks"] | None
    dirty: bool
    corrupt: bool


@dataclass(frozen=True)
class _Fixed:
    """The fixed fields, of both versions."""

    version: int
    backing_offset: int
    backing_length: int
    cluster_bits: int
    size: int
    crypt_method: int
    l1_size: int
    l1_offset: int
    refcount_offset: int
    refcount_clusters: int
    snapshots: int
    snapshots_offset: int
    incompatible: int = 0
    compatible: int = 0
    autoclear: int = 0
    refcount_order: int = 4
    length: int = _V2_LENGTH

    @property
    def cluster(self) -> int:
        return 1 << self.cluster_bits


def first_cluster(head: bytes) -> int:
    """How many bytes `parse` needs, from the first 24 bytes of the image.

    Raises BadHeader.
    """
    if len(head) < 24:
        raise BadHeader(f"truncated header: {len(head)} bytes")
    magic, version, _, _, cluster_bits = struct.unpack_from(">4sIQII", head)
    if magic != MAGIC:
        raise BadHeader("no qcow2 magic")
    if version not in (2, 3):
        raise BadHeader(f"version {version}")
    if cluster_bits not in CLUSTER_BITS:
        raise BadHeader(f"cluster_bits is {cluster_bits}")
    return 1 << int(cluster_bits)


def parse(head: bytes) -> Header:
    """Read the header from the first cluster of an image (longer is fine).

    Raises BadHeader, whatever the bytes are.
    """
    cluster = first_cluster(head)
    if len(head) < cluster:
        raise BadHeader(f"truncated: {len(head)} bytes, its first cluster has {cluster}")
    head = head[:cluster]
    fixed = _fixed(head)
    _check_features(fixed, head)
    _check_tables(fixed)
    backing_file = _backing_file(fixed, head)
    names = _names(fixed, head)
    return Header(
        version=fixed.version,
        cluster_bits=fixed.cluster_bits,
        virtual_size=fixed.size,
        least_size=max(cluster, fixed.l1_offset + fixed.l1_size * 8, fixed.refcount_offset + 8),
        backing_file=backing_file,
        backing_format=names.get(_BACKING_FORMAT) if backing_file else None,
        data_file=names.get(_DATA_FILE_NAME) if fixed.incompatible & _DATA_FILE else None,
        external_data=bool(fixed.incompatible & _DATA_FILE),
        encryption=_ENCRYPTION[fixed.crypt_method],
        dirty=bool(fixed.incompatible & _DIRTY),
        corrupt=bool(fixed.incompatible & _CORRUPT),
    )


def _fixed(head: bytes) -> _Fixed:
    fields = struct.unpack_from(">IQIIQIIQQIIQ", head, 4)
    if fields[0] == 2:
        return _Fixed(*fields)
    fixed = _Fixed(*fields, *struct.unpack_from(">QQQII", head, _V2_LENGTH))
    if fixed.length < _V3_LENGTH or fixed.length % 8 or fixed.length > fixed.cluster:
        raise BadHeader(f"header length {fixed.length}")
    return fixed


def _check_features(fixed: _Fixed, head: bytes) -> None:
    if unknown := fixed.incompatible & ~_KNOWN:
        raise BadHeader(f"unknown incompatible features {unknown:#x}")
    if fixed.incompatible & _EXTENDED_L2 and fixed.cluster_bits < 14:
        raise BadHeader(f"extended L2 entries with cluster_bits {fixed.cluster_bits}")
    compression = head[_COMPRESSION_TYPE] if fixed.length > _COMPRESSION_TYPE else 0
    if compression != (_ZSTD if fixed.incompatible & _COMPRESSION else 0):
        raise BadHeader(f"compression type {compression}")
    if fixed.crypt_method not in _ENCRYPTION:
        raise BadHeader(f"encryption method {fixed.crypt_method}")
    if fixed.refcount_order > 6:
        raise BadHeader(f"refcount order {fixed.refcount_order}")


def _check_tables(fixed: _Fixed) -> None:
    for name, offset in (
        ("L1 table", fixed.l1_offset),
        ("refcount table", fixed.refcount_offset),
        ("snapshot table", fixed.snapshots_offset if fixed.snapshots else 0),
    ):
        if offset % fixed.cluster or offset >= 1 << 63:
            raise BadHeader(f"offset {offset} of the {name}")
    if fixed.l1_size * 8 > L1_LIMIT:
        raise BadHeader(f"L1 table of {fixed.l1_size} entries")
    entry = 16 if fixed.incompatible & _EXTENDED_L2 else 8
    reach = fixed.l1_size * fixed.cluster * (fixed.cluster // entry)
    if fixed.size > reach:
        raise BadHeader(f"virtual size {fixed.size}, its L1 table reaches {reach}")
    if fixed.size >= 1 << 63:
        raise BadHeader(f"virtual size {fixed.size}")
    if not 0 < fixed.refcount_clusters * fixed.cluster <= REFCOUNT_TABLE_LIMIT:
        raise BadHeader(f"refcount table of {fixed.refcount_clusters} clusters")
    if fixed.snapshots > SNAPSHOTS_LIMIT:
        raise BadHeader(f"{fixed.snapshots} snapshots")


def _backing_file(fixed: _Fixed, head: bytes) -> str | None:
    offset, length = fixed.backing_offset, fixed.backing_length
    if offset == 0 or length == 0:  # the length is undefined without an offset
        return None
    if length > NAME_LIMIT:
        raise BadHeader(f"backing file name of {length} bytes")
    if offset < fixed.length or offset + length > fixed.cluster:
        raise BadHeader(f"backing file name at {offset}, outside of its place")
    return _text(head[offset : offset + length], "backing file name")


def _names(fixed: _Fixed, head: bytes) -> dict[int, str]:
    """The string extensions that we know, by type."""
    names: dict[int, str] = {}
    for kind, data in _extensions(fixed, head):
        if kind not in (_BACKING_FORMAT, _DATA_FILE_NAME):
            continue
        if kind in names:  # which of the two holds is anybody's guess
            raise BadHeader(f"header extension {kind:#x} twice")
        if len(data) > (FORMAT_LIMIT if kind == _BACKING_FORMAT else NAME_LIMIT):
            raise BadHeader(f"header extension {kind:#x} of {len(data)} bytes")
        names[kind] = _text(data, f"header extension {kind:#x}")
    return names


def _extensions(fixed: _Fixed, head: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and data of each header extension; they end where the backing file name begins."""
    end = fixed.backing_offset or fixed.cluster
    if end > fixed.cluster:
        raise BadHeader(f"backing file name at {end}, outside of its place")
    at = fixed.length
    for _ in range(EXTENSIONS_LIMIT):
        if at >= end:
            return
        if at + 8 > end:
            raise BadHeader(f"truncated header extension at {at}")
        kind, length = struct.unpack_from(">II", head, at)
        if kind == _END:
            return
        if length > end - at - 8:
            raise BadHeader(f"header extension {kind:#x} of {length} bytes at {at}")
        yield kind, head[at + 8 : at + 8 + length]
        at += 8 + (length + 7) // 8 * 8
    raise BadHeader("too many header extensions")


def _text(data: bytes, what: str) -> str:
    """A name, refused when two readers could take it for two different names."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise BadHeader(f"{what} {data!r} is not UTF-8") from None
    if any(ord(c) < 0x20 or ord(c) == 0x7F for c in text):
        raise BadHeader(f"{what} {text!r} has control characters")
    return text
