"""File storage domains of version 5: make, read and find them.

Source: docs/formats.md, "Storage domain files". Everything here blocks: callers run it in a
worker thread.
"""

import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress

from protocol.errors import (
    BadParameter,
    Error,
    InvalidDomain,
    StorageDomainAlreadyExists,
    StorageDomainCreationError,
    StorageDomainDoesNotExist,
)
from storage import domain_metadata
from storage.description import MIB, VERSION, Domain, describe
from storage.new_folder import PlaceTaken, new_folder

__all__ = ["Domain", "create", "find", "load"]

ALIGNMENT = {512: MIB, 4096: 8 * MIB}  # bytes of a slot of a new lease volume, by block size
VOLUME_SIZE = 1 << 30  # bytes of a lease volume that is not told how many leases
RESERVED_SLOTS = 3  # lockspace, index, lock of the index
LEASES_LIMIT = 3960  # records of the index
MAILBOX_SIZE = 16 * MIB  # inbox and outbox, which nobody uses on a local domain

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def create(
    mount: str,
    *,
    sd_id: str,
    block_size: int = 512,
    leases: int | None = None,
    description: str = "leasehold",
    prepare: Callable[[str], None],
) -> Domain:
    """Make a new local domain in the folder `mount`, which is made when missing.

    leases: how many the lease volume holds; None = a volume of 1 GiB. It is allocated in full.
    prepare: called with the path of dom_md when all files are there, to format the lease volume.
    The domain appears whole or not at all; if anything fails, nothing is left.
    Raises BadParameter, StorageDomainAlreadyExists (365), StorageDomainCreationError (351: no
    space, no permission ...), and what `prepare` raises.
    """
    sd_id = sd_id.lower()
    _check(sd_id, block_size, leases)
    alignment = ALIGNMENT[block_size]
    size = VOLUME_SIZE if leases is None else (RESERVED_SLOTS + leases) * alignment
    mount = os.path.realpath(mount)
    values = _values(mount, sd_id, description, block_size=block_size, alignment=alignment)
    text = domain_metadata.encode(values)
    made = not os.path.isdir(mount)
    path = os.path.join(mount, sd_id)
    try:
        os.makedirs(mount, exist_ok=True)
        with new_folder(path) as folder:
            _fill(folder, text, size)
            prepare(os.path.join(folder, "dom_md"))
    except BaseException as e:
        if made:
            with suppress(OSError):  # not empty: somebody else has begun to use it
                os.rmdir(mount)
        if isinstance(e, PlaceTaken):
            raise StorageDomainAlreadyExists(sd_id) from None
        if isinstance(e, OSError):
            raise StorageDomainCreationError(mount, e.strerror or str(e)) from e
        raise
    return load(path)


def load(path: str) -> Domain:
    """Read the domain in the folder `path`, whose name is its UUID.

    Raises StorageDomainDoesNotExist (358), MetaDataSealIsBroken (752), InvalidDomain.
    """
    if not os.path.isdir(path):
        raise StorageDomainDoesNotExist(path)
    path = os.path.realpath(path)
    if not _UUID.fullmatch(os.path.basename(path)):
        raise InvalidDomain(path, "the name of its folder is not a UUID")
    return describe(domain_metadata.decode(_read_metadata(path), path), path)


def find(mount: str, *, damaged: Callable[[str, Error], None] | None = None) -> list[Domain]:
    """The domains in a folder, by id.

    damaged: told of each one that cannot be loaded; without it the first such error is raised.
    Raises StorageDomainDoesNotExist when there is no such folder, InvalidDomain when it cannot be
    listed.
    """
    if not os.path.isdir(mount):
        raise StorageDomainDoesNotExist(mount)
    try:
        names = sorted(os.listdir(mount))
    except OSError as e:
        raise InvalidDomain(mount, e.strerror or str(e)) from None
    domains = []
    for name in names:
        path = os.path.join(mount, name)
        if not _UUID.fullmatch(name) or not os.path.isdir(os.path.join(path, "dom_md")):
            continue
        try:
            domains.append(load(path))
        except Error as e:
            if damaged is None:
                raise
            damaged(path, e)
    return domains


def _check(sd_id: str, block_size: int, leases: int | None) -> None:
    if not _UUID.fullmatch(sd_id):
        raise BadParameter("id", f"{sd_id!r} is not a UUID")
    if block_size not in ALIGNMENT:
        raise BadParameter("block_size", f"{block_size} is not 512 or 4096")
    if leases is not None and not 1 <= leases <= LEASES_LIMIT:
        raise BadParameter("leases", f"{leases} is not in 1..{LEASES_LIMIT}")


def _values(
    mount: str, sd_id: str, description: str, *, block_size: int, alignment: int
) -> dict[str, str]:
    """The metadata of a new domain. The times (seconds) and retries are for older lock protocols;
    readers expect them to be there."""
    return {
        "ALIGNMENT": str(alignment),
        "BLOCK_SIZE": str(block_size),
        "CLASS": "Data",
        "DESCRIPTION": description,
        "IOOPTIMEOUTSEC": "10",
        "LEASERETRIES": "3",
        "LEASETIMESEC": "60",
        "LOCKPOLICY": "",
        "LOCKRENEWALINTERVALSEC": "5",
        "POOL_UUID": "",
        "REMOTE_PATH": mount,
        "ROLE": "Regular",
        "SDUUID": sd_id,
        "TYPE": "LOCALFS",
        "VERSION": str(VERSION),
    }


def _fill(folder: str, metadata: bytes, volume_size: int) -> None:
    """The files of a new domain; modes whatever the umask."""
    for name in ("dom_md", "images"):
        os.mkdir(os.path.join(folder, name))
        os.chmod(os.path.join(folder, name), 0o755)
    dom_md = os.path.join(folder, "dom_md")
    # Allocated in full: no write of a lease may ever fail for want of space.
    _new_file(dom_md, "xleases", lambda fd: os.posix_fallocate(fd, 0, volume_size))
    for name in ("ids", "leases"):
        _new_file(dom_md, name, lambda fd: None)
    for name in ("inbox", "outbox"):
        _new_file(dom_md, name, lambda fd: os.ftruncate(fd, MAILBOX_SIZE))
    _new_file(dom_md, "metadata", lambda fd: _write(fd, metadata), mode=0o644)


def _new_file(folder: str, name: str, fill: Callable[[int], None], *, mode: int = 0o660) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(os.path.join(folder, name), flags, mode)
    try:
        os.fchmod(fd, mode)
        fill(fd)
    finally:
        os.close(fd)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _read_metadata(path: str) -> bytes:
    """The bytes of dom_md/metadata, never many more than a real one has."""
    file = os.path.join(path, "dom_md", "metadata")
    try:
        # O_NONBLOCK: a FIFO in its place must not keep us waiting.
        fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        with open(fd, "rb", buffering=0) as metadata:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise InvalidDomain(path, "dom_md/metadata is not a regular file")
            return metadata.read(domain_metadata.SIZE_LIMIT + 1)
    except OSError as e:
        raise InvalidDomain(path, f"dom_md/metadata: {e.strerror or e}") from None
