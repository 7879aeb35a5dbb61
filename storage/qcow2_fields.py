"""The fields of a qcow2 header that have a fixed place, and what they must not say.

Pure. Source: QEMU's published specification, docs/interop/qcow2; numbers are big endian. Limits
marked "QEMU" are those of its block driver, so that we refuse what it would refuse.
"""

import struct
from dataclasses import dataclass

MAGIC = b"QFI\xfb"
START = 24  # bytes that tell the size of a cluster
CLUSTER_BITS = range(9, 22)  # 512 bytes to 2 MiB (QEMU)
L1_LIMIT = 32 << 20  # bytes of the L1 table (QEMU)
REFCOUNT_TABLE_LIMIT = 8 << 20  # bytes (QEMU)
SNAPSHOTS_LIMIT = 65536  # (QEMU)

# Incompatible features.
DIRTY = 1 << 0
CORRUPT = 1 << 1
DATA_FILE = 1 << 2
COMPRESSION = 1 << 3
EXTENDED_L2 = 1 << 4
_KNOWN = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2

_V2_LENGTH = 72
_V3_LENGTH = 104
_COMPRESSION_TYPE = 104  # offset of an additional field of version 3
_ZSTD = 1
_ENCRYPTION_METHODS = (0, 1, 2)  # none, AES, LUKS


class BadHeader(ValueError):
    """The header is not that of a usable qcow2 image; the text says why."""


@dataclass(frozen=True)
class Fields:
    """As they stand in the header; those that version 2 lacks have its defaults."""

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
    """Bytes of the first cluster, which holds the header, from the first START bytes.

    Raises BadHeader.
    """
    if len(head) < START:
        raise BadHeader(f"truncated header: {len(head)} bytes")
    magic, version, _, _, cluster_bits = struct.unpack_from(">4sIQII", head)
    if magic != MAGIC:
        raise BadHeader("no qcow2 magic")
    if version not in (2, 3):
        raise BadHeader(f"version {version}")
    if cluster_bits not in CLUSTER_BITS:
        raise BadHeader(f"cluster_bits is {cluster_bits}")
    return 1 << int(cluster_bits)


def read(head: bytes) -> Fields:
    """The fields of an image, from its first cluster, checked. Raises BadHeader."""
    fixed = _unpack(head)
    _check_features(fixed, head)
    _check_tables(fixed)
    return fixed


def _unpack(head: bytes) -> Fields:
    fields = struct.unpack_from(">IQIIQIIQQIIQ", head, 4)
    if fields[0] == 2:
        return Fields(*fields)
    fixed = Fields(*fields, *struct.unpack_from(">QQQII", head, _V2_LENGTH))
    if fixed.length < _V3_LENGTH or fixed.length % 8 or fixed.length > fixed.cluster:
        raise BadHeader(f"header length {fixed.length}")
    return fixed


def _check_features(fixed: Fields, head: bytes) -> None:
    if unknown := fixed.incompatible & ~_KNOWN:
        raise BadHeader(f"unknown incompatible features {unknown:#x}")
    if fixed.incompatible & EXTENDED_L2 and fixed.cluster_bits < 14:
        raise BadHeader(f"extended L2 entries with cluster_bits {fixed.cluster_bits}")
    compression = head[_COMPRESSION_TYPE] if fixed.length > _COMPRESSION_TYPE else 0
    if compression != (_ZSTD if fixed.incompatible & COMPRESSION else 0):
        raise BadHeader(f"compression type {compression}")
    if fixed.crypt_method not in _ENCRYPTION_METHODS:
        raise BadHeader(f"encryption method {fixed.crypt_method}")
    if fixed.refcount_order > 6:
        raise BadHeader(f"refcount order {fixed.refcount_order}")


def _check_tables(fixed: Fields) -> None:
    for name, offset in (
        ("L1 table", fixed.l1_offset),
        ("refcount table", fixed.refcount_offset),
        ("snapshot table", fixed.snapshots_offset if fixed.snapshots else 0),
    ):
        if offset % fixed.cluster or offset >= 1 << 63:
            raise BadHeader(f"offset {offset} of the {name}")
    if fixed.l1_size * 8 > L1_LIMIT:
        raise BadHeader(f"L1 table of {fixed.l1_size} entries")
    entry = 16 if fixed.incompatible & EXTENDED_L2 else 8
    reach = fixed.l1_size * fixed.cluster * (fixed.cluster // entry)
    if fixed.size > reach:
        raise BadHeader(f"virtual size {fixed.size}, its L1 table reaches {reach}")
    if fixed.size >= 1 << 63:
        raise BadHeader(f"virtual size {fixed.size}")
    if not 0 < fixed.refcount_clusters * fixed.cluster <= REFCOUNT_TABLE_LIMIT:
        raise BadHeader(f"refcount table of {fixed.refcount_clusters} clusters")
    if fixed.snapshots > SNAPSHOTS_LIMIT:
        raise BadHeader(f"{fixed.snapshots} snapshots")
