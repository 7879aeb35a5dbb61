"""The header of a qcow2 image, read without trusting a byte of it.

Pure and bounded: it looks at the first cluster (2 MiB at most) and never further.
Source: QEMU's published specification, docs/interop/qcow2; limits marked "QEMU" are those of its
block driver.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from storage import qcow2_fields
from storage.qcow2_fields import CORRUPT, DATA_FILE, DIRTY, MAGIC, BadHeader, Fields, first_cluster

__all__ = ["MAGIC", "BadHeader", "Header", "first_cluster", "parse"]

NAME_LIMIT = 1023  # bytes of a backing file name
FORMAT_LIMIT = 15  # bytes of a backing format name (QEMU)
EXTENSIONS_LIMIT = 1024  # ours: the specification defines six

_END = 0
_BACKING_FORMAT = 0xE2792ACA
_DATA_FILE_NAME = 0x44415441

_ENCRYPTION: dict[int, Literal["aes", "luks"] | None] = {0: None, 1: "aes", 2: "luks"}


@dataclass(frozen=True)
class Header:
    """What the header says; sizes in bytes.

    data_file: name of the external data file, if the header holds one; `external_data` tells
    whether the image needs one. least_size: a smaller file is truncated.
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


def parse(head: bytes) -> Header:
    """Read the header from the first cluster of an image (longer is fine).

    Raises BadHeader, whatever the bytes are.
    """
    cluster = first_cluster(head)
    if len(head) < cluster:
        raise BadHeader(f"truncated: {len(head)} bytes, its first cluster has {cluster}")
    head = head[:cluster]
    fixed = qcow2_fields.read(head)
    backing_file = _backing_file(fixed, head)
    names = _names(fixed, head)
    if _DATA_FILE_NAME in names and not fixed.incompatible & DATA_FILE:
        raise BadHeader("it names a data file, but is marked as having none")
    return Header(
        version=fixed.version,
        cluster_bits=fixed.cluster_bits,
        virtual_size=fixed.size,
        least_size=max(cluster, fixed.l1_offset + fixed.l1_size * 8, fixed.refcount_offset + 8),
        backing_file=backing_file,
        backing_format=names.get(_BACKING_FORMAT) if backing_file else None,
        data_file=names.get(_DATA_FILE_NAME),
        external_data=bool(fixed.incompatible & DATA_FILE),
        encryption=_ENCRYPTION[fixed.crypt_method],
        dirty=bool(fixed.incompatible & DIRTY),
        corrupt=bool(fixed.incompatible & CORRUPT),
    )


def _backing_file(fixed: Fields, head: bytes) -> str | None:
    offset, length = fixed.backing_offset, fixed.backing_length
    if offset == 0 or length == 0:  # the length is undefined without an offset
        return None
    if length > NAME_LIMIT:
        raise BadHeader(f"backing file name of {length} bytes")
    if offset < fixed.length or offset + length > fixed.cluster:
        raise BadHeader(f"backing file name at {offset}, outside of its place")
    return _text(head[offset : offset + length], "backing file name")


def _names(fixed: Fields, head: bytes) -> dict[int, str]:
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


def _extensions(fixed: Fields, head: bytes) -> Iterator[tuple[int, bytes]]:
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
