"""qcow2 images written by hand, so that every field can lie."""

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.qcow2 import MAGIC

MIB = 1 << 20
BACKING_FORMAT = 0xE2792ACA
DATA_FILE = 0x44415441


@dataclass
class Crafted:
    """An empty image: header, refcount table and block, L1 table, one cluster each.

    backing: its bytes are placed at the end of the first cluster. extensions: (type, data).
    """

    version: int = 3
    size: int = MIB
    cluster_bits: int = 16
    backing: bytes = b""
    backing_offset: int | None = None
    backing_length: int | None = None
    crypt_method: int = 0
    l1_size: int = 1
    l1_offset: int | None = None
    refcount_offset: int | None = None
    refcount_clusters: int = 1
    snapshots: int = 0
    snapshots_offset: int = 0
    incompatible: int = 0
    refcount_order: int = 4
    header_length: int = 112
    compression_type: int = 0
    extensions: list[tuple[int, bytes]] = field(default_factory=list)
    end: bool = True  # of the extensions

    def build(self) -> bytes:
        # For a lie about cluster_bits the rest is placed as if there were none.
        cluster = 1 << (self.cluster_bits if 9 <= self.cluster_bits <= 21 else 16)
        offset = self.backing_offset
        if offset is None:
            offset = cluster - 1024 if self.backing else 0
        data = bytearray(4 * cluster)
        length = len(self.backing) if self.backing_length is None else self.backing_length
        head = struct.pack(
            ">4sIQIIQIIQQIIQ",
            MAGIC,
            self.version,
            offset,
            length,
            self.cluster_bits,
            self.size,
            self.crypt_method,
            self.l1_size,
            3 * cluster if self.l1_offset is None else self.l1_offset,
            cluster if self.refcount_offset is None else self.refcount_offset,
            self.refcount_clusters,
            self.snapshots,
            self.snapshots_offset,
        )
        if self.version >= 3:
            more = (self.incompatible, 0, 0, self.refcount_order, self.header_length)
            head += struct.pack(">QQQIIQ", *more, self.compression_type << 56)
        head += b"".join(extension(kind, text) for kind, text in self.extensions)
        head += bytes(8) if self.end else b""
        data[: len(head)] = head
        if self.backing and 0 < offset < len(data):
            data[offset : offset + len(self.backing)] = self.backing
        data[cluster : cluster + 8] = struct.pack(">Q", 2 * cluster)
        return bytes(data)

    def write(self, path: Path) -> Path:
        path.write_bytes(self.build())
        return path


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


def over(backing: str, format: str | None = "raw", **fields: Any) -> Crafted:
    """An image whose backing file is `backing`."""
    extensions = [] if format is None else [(BACKING_FORMAT, format.encode())]
    return Crafted(backing=backing.encode(), extensions=extensions, **fields)


def with_data_file(name: str | None) -> Crafted:
    """An image whose data is in the file `name`."""
    extensions = [] if name is None else [(DATA_FILE, name.encode())]
    return Crafted(incompatible=1 << 2, extensions=extensions)
