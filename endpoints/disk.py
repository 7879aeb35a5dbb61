"""One end of a copy, looked at: what is there before anything is touched."""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import trio

from endpoints import blank
from endpoints.locks import Lock, Mode
from endpoints.unshrunk import lengths
from endpoints.url import IscsiUrl, NbdUnixUrl, NbdUrl, NetworkUrl, PathUrl, RbdUrl, Url
from processes import nbd, qemu_img
from processes.image_node import Node
from protocol.errors import (
    CannotConnect,
    ImageMissing,
    ImageRefused,
    InputOutputError,
    ReadOnly,
    ToolFailed,
    TooSmall,
)
from protocol.messages import Format
from storage import image
from storage.image import Chain, Policy

Kind = Literal["file", "block", "nbd", "iscsi", "rbd"]
WRITE_BITS = 0o222
CONNECTIONS = 4  # to a server that takes several; more makes nothing faster
NAMESPACE = "target"  # of the locks that keep two copies away from one target
_KINDS: dict[type, Kind] = {NbdUrl: "nbd", NbdUnixUrl: "nbd", IscsiUrl: "iscsi", RbdUrl: "rbd"}


@dataclass(frozen=True)
class Disk:
    """A source or an existing target.

    node: the tree of block nodes to open, written by us. size: virtual size in bytes.
    direct: it can be opened without the page cache. files: the files and devices that it is made
    of, as (st_dev, st_ino) or for a device (st_rdev, 0): two disks that share one are one.
    lengths: bytes of the local files and devices that it is read from, by path.
    Of a target alone: sparse: it is to stay thin. preallocated: its space is taken and stays so.
    clear_tail: what lies behind the copied bytes belonged to others, and is made to read as zeros.
    is_zero: the caller says that it reads as zeros. blank: whether it does, as its storage tells;
    None: that does not know. connections: of how many at once its server can flush the writes by
    one answer. backing: what it lies over and is read through where it
    holds nothing itself. layer: only what the source holds above its own backing file is copied,
    since the target's holds the rest.
    """

    url: Url
    kind: Kind
    format: Format
    size: int
    node: Node
    direct: bool = True
    files: frozenset[tuple[int, int]] = frozenset()
    lengths: Mapping[str, int] = field(default_factory=dict)
    sparse: bool = False
    preallocated: bool = False
    clear_tail: bool = False
    is_zero: bool = False
    blank: bool | None = None
    connections: int = 1
    backing: Node | None = None
    layer: bool = False

    @property
    def writable(self) -> Node:
        """The node to write through: no holes are made in a file whose space is taken."""
        if not self.preallocated or self.format != "raw":
            return self.node
        return {**self.node, "file": {**self.node["file"], "discard": "ignore"}}

    @property
    def counted(self) -> bool:
        """Whether the kernel counts what a process reads of it: by read(2), and by readv(2), with
        which libiscsi takes the data of an answer; not by recv(2). Source: proc(5), rchar."""
        return self.kind in ("file", "block", "iscsi")


@dataclass(frozen=True)
class NewFile:
    """A target that is not there yet and may be created: a plain file."""

    url: PathUrl
    format: Format
    direct: bool = True
    sparse: bool = False
    is_zero: bool = True

    @property
    def kind(self) -> Kind:
        return "file"


Target = Disk | NewFile


def identity(status: os.stat_result) -> tuple[int, int]:
    """What a file or device is, by whatever name or link it is reached."""
    if stat.S_ISBLK(status.st_mode):
        return status.st_rdev, 0
    return status.st_dev, status.st_ino


def locks(url: Url, mode: Mode) -> list[Lock]:
    """The locks of what a url names.

    A path is locked by what it is, so that links meet, and a missing one by where it will be.
    """
    return [Lock(NAMESPACE, url.key, mode), *file_locks(files_of(url), mode)]


def file_locks(files: frozenset[tuple[int, int]], mode: Mode) -> list[Lock]:
    return [Lock(NAMESPACE, f"file:{device}:{inode}", mode) for device, inode in files]


def files_of(url: Url) -> frozenset[tuple[int, int]]:
    """The file or device at a path, if there is one."""
    try:
        return _identities((url.path,)) if isinstance(url, PathUrl) else frozenset()
    except OSError:
        return frozenset()


async def source(url: Url, format: Format | None, policy: Policy) -> Disk:
    """Look at a source with its whole chain. format None: find out.

    Raises ImageMissing, ImageRefused, WrongFormat, CannotConnect, ToolMissing ...
    """
    if isinstance(url, PathUrl):
        chain = await image.inspect(url.path, declared=format, policy=policy)
        return await trio.to_thread.run_sync(local_disk, url, chain, chain.files)
    await _export(url, writable=False)
    try:
        chain = await image.inspect_node(url.node(), str(url), declared=format, policy=policy)
    except InputOutputError:
        raise  # it answers, and says that it cannot be read
    except ToolFailed as e:
        raise CannotConnect(str(url), e.detail) from None
    return Disk(
        url=url,
        kind=_KINDS[type(url)],
        format=chain.format,
        size=chain.virtual_size,
        node=chain.node(),
        files=await trio.to_thread.run_sync(_identities, chain.files),
        lengths=await trio.to_thread.run_sync(lengths, chain.files),
    )


async def target(url: Url, format: Format, *, needed: int, create_under: tuple[str, ...]) -> Target:
    """Look at a target that must hold `needed` bytes; nothing of it is changed.

    create_under: real folders in which a missing plain file may be created, none by default.
    Raises ImageMissing, TooSmall, ReadOnly, ImageRefused, WrongFormat, CannotConnect ...
    """
    if isinstance(url, PathUrl):
        found = await _path_target(url, format, create_under)
    else:
        found = await _network_target(url, format)
    if isinstance(found, Disk) and found.size < needed:
        raise TooSmall(str(url), needed, found.size)
    return found


def raw_target(url: PathUrl, needed: int) -> Disk:
    """A target that is there to be filled, whatever what it held before looks like. Blocks.

    Raises ImageMissing, TooSmall, ReadOnly, ImageRefused.
    """
    found = _local_target(url, "raw", ())
    if isinstance(found, NewFile):
        raise ImageMissing(url.path)
    if found.size < needed:
        raise TooSmall(url.path, needed, found.size)
    return found


def local_disk(url: PathUrl, chain: Chain, files: tuple[str, ...]) -> Disk:
    """The disk that a chain of local images is, made of `files`. Blocks."""
    return Disk(
        url=url,
        kind="block" if stat.S_ISBLK(os.stat(chain.top.path).st_mode) else "file",
        format=chain.format,
        size=chain.virtual_size,
        node=chain.node(),
        direct=all(map(_direct, chain.files)),
        files=_identities(files),
        lengths=lengths(chain.files),
    )


def _identities(paths: tuple[str, ...]) -> frozenset[tuple[int, int]]:
    return frozenset(one for path in paths for one in _made_of(path))


def _made_of(path: str) -> list[tuple[int, int]]:
    """What a path leads to, and for a loop device the file behind it as well."""
    status = os.stat(path)
    found = [identity(status)]
    if stat.S_ISBLK(status.st_mode):
        device = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
        with suppress(OSError):  # no loop device
            behind = Path(f"/sys/dev/block/{device}/loop/backing_file").read_text().rstrip("\n")
            found += _made_of(behind)
    return found


async def _path_target(url: PathUrl, format: Format, create_under: tuple[str, ...]) -> Target:
    found = await trio.to_thread.run_sync(_local_target, url, format, create_under)
    if isinstance(found, NewFile):
        return found
    # What is written through a qcow2 target must stay in it: no backing file, no data file. And a
    # file that is an image of another format is not overwritten: its format was forgotten.
    chain = await image.inspect(str(found.url), declared=format, policy=Policy(), role="target")
    return replace(found, node=chain.node(), size=chain.virtual_size)


def _local_target(url: PathUrl, format: Format, create_under: tuple[str, ...]) -> Target:
    """The target at a path, seen as raw."""
    real = os.path.realpath(url.path)
    try:
        status = os.stat(real)
    except FileNotFoundError:
        return _new_file(url, real, format, create_under)
    except OSError as e:
        raise ImageRefused(url.path, e.strerror or str(e)) from None
    block = stat.S_ISBLK(status.st_mode)
    if not block and not stat.S_ISREG(status.st_mode):
        raise ImageRefused(url.path, "it is neither a file nor a block device")
    if not block and not status.st_mode & WRITE_BITS:  # root could, but somebody wanted it kept
        raise ReadOnly(url.path, "nobody may write it")
    driver = "host_device" if block else "file"
    return Disk(
        url=PathUrl(real),
        kind="block" if block else "file",
        format=format,
        size=_writable_length(url.path, real),
        blank=blank.of_path(real) if format == "raw" else None,
        node={"driver": "raw", "file": {"driver": driver, "filename": real}},
        direct=_direct(real),
        files=_identities((real,)),
        preallocated=not block and status.st_blocks * 512 >= status.st_size > 0,
    )


def _new_file(url: PathUrl, real: str, format: Format, create_under: tuple[str, ...]) -> NewFile:
    folder = os.path.dirname(real)
    allowed = any(os.path.commonpath([folder, root]) == root for root in create_under)
    # A device that is not there must not become a file that is taken for it.
    if not allowed or real.startswith("/dev/"):
        raise ImageMissing(url.path)
    if not os.path.isdir(folder):
        raise ImageMissing(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ReadOnly(folder, "no file can be created in it")
    return NewFile(PathUrl(real), format, direct=_direct(folder))


async def _network_target(url: NetworkUrl, format: Format) -> Disk:
    if format != "raw":
        # docs/decisions/0003: the flush that ends a copy must be answered to the copy tool.
        raise ImageRefused(str(url), "only raw is written to a network volume")
    node: Node = {"driver": "raw", "file": url.node()}
    connections = 1
    if export := await _export(url, writable=True):
        size = export.export_size
        connections = CONNECTIONS if export.can_multi_conn else 1
    else:
        try:
            size = (await qemu_img.info(node)).virtual_size
        except ToolFailed as e:
            raise CannotConnect(str(url), e.detail) from None
    return Disk(
        url=url,
        kind=_KINDS[type(url)],
        format=format,
        size=size,
        node=node,
        blank=await blank.of_volume(node, url, size),
        connections=connections,
    )


async def _export(url: NetworkUrl, *, writable: bool) -> nbd.Export | None:
    """What an NBD server says of the export; None for another protocol."""
    if not isinstance(url, NbdUrl | NbdUnixUrl):
        return None
    if isinstance(url, NbdUnixUrl) and not await trio.Path(url.socket).exists():
        raise ImageMissing(url.socket)
    export = await nbd.info(url.uri)
    if writable and export.is_read_only:
        raise ReadOnly(str(url), "the server exports it read-only")
    if writable and not export.can_flush:
        raise ImageRefused(str(url), "its server cannot flush: no copy could be known to be done")
    return export


def _writable_length(name: str, path: str) -> int:
    """Bytes of a file or device that can be opened for writing."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as e:
        raise ReadOnly(name, e.strerror or str(e)) from None
    try:
        return os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)


def _direct(path: str) -> bool:
    """Whether the file system takes O_DIRECT; some (an old tmpfs) answer EINVAL."""
    # For a folder: a file without a name in it tells for those that will be created.
    flags = os.O_TMPFILE | os.O_RDWR if os.path.isdir(path) else os.O_RDONLY
    try:
        os.close(os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC, 0o600))
    except OSError:
        return False
    return True
