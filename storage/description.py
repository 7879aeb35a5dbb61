"""What a storage domain is, as its metadata describes it. Pure.

Source: docs/formats.md, "Storage domain files".
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from protocol.errors import InvalidDomain

VERSION = 5
MIB = 1 << 20
BLOCK_SIZES = (512, 4096)
ALIGNMENTS = (MIB, 2 * MIB, 4 * MIB, 8 * MIB)  # all that sanlock knows
FILE_TYPES = ("LOCALFS", "NFS", "GLUSTERFS", "POSIXFS")

_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True)
class Domain:
    """A file storage domain.

    path: <mount>/<id>, real and absolute. block_size, alignment: bytes, of the lease volume.
    pool: UUID of the pool that it belongs to (several are joined by commas); None: of no pool.
    """

    id: str
    path: str
    version: int
    type: str
    role: str
    description: str
    block_size: int
    alignment: int
    pool: str | None

    @property
    def metadata(self) -> str:
        return self._file("metadata")

    @property
    def ids(self) -> str:
        """The lockspace of sanlock; empty while the embedded store uses the domain."""
        return self._file("ids")

    @property
    def leases(self) -> str:
        """The lease of the domain itself (SDM), not those of jobs."""
        return self._file("leases")

    @property
    def xleases(self) -> str:
        """The lease volume; a local domain of another program has none."""
        return self._file("xleases")

    @property
    def images(self) -> str:
        return os.path.join(self.path, "images")

    def _file(self, name: str) -> str:
        return os.path.join(self.path, "dom_md", name)


def describe(values: Mapping[str, str], path: str) -> Domain:
    """The domain whose metadata says `values`, in the folder `path`, named by its id.

    Raises InvalidDomain.
    """
    version = _number(values, "VERSION", path)
    if version != VERSION:
        raise InvalidDomain(path, f"version {version}, only {VERSION} is supported")
    type_ = values.get("TYPE", "").upper()
    if type_ not in FILE_TYPES:
        raise InvalidDomain(path, f"TYPE {type_!r} is not that of a file domain")
    sd_id = os.path.basename(path)
    if values.get("SDUUID", "").lower() != sd_id:
        raise InvalidDomain(path, f"SDUUID {values.get('SDUUID')!r} is not the folder's name")
    block_size = _number(values, "BLOCK_SIZE", path, 512)
    if block_size not in BLOCK_SIZES:
        raise InvalidDomain(path, f"BLOCK_SIZE {block_size} is not 512 or 4096")
    alignment = _number(values, "ALIGNMENT", path, MIB)
    if alignment not in ALIGNMENTS:
        raise InvalidDomain(path, f"ALIGNMENT {alignment} is not 1, 2, 4 or 8 MiB")
    return Domain(
        id=sd_id,
        path=path,
        version=version,
        type=type_,
        role=values.get("ROLE", ""),
        description=values.get("DESCRIPTION", ""),
        block_size=block_size,
        alignment=alignment,
        pool=values.get("POOL_UUID", "").strip() or None,
    )


def _number(values: Mapping[str, str], key: str, path: str, default: int | None = None) -> int:
    text = values.get(key)
    if text is None and default is not None:
        return default
    if text is None:
        raise InvalidDomain(path, f"{key} is missing in its metadata")
    if not _NUMBER.fullmatch(text):
        raise InvalidDomain(path, f"{key} {text!r} is not a number")
    return int(text)
