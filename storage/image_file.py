"""A file or device that holds an image: found and read without being fooled or blocked.

Everything here blocks: callers run it in a worker thread.
"""

import os
import stat
from dataclasses import dataclass

from protocol.errors import ImageMissing, ImageRefused
from storage import qcow2
from storage.chain import Node, file_node
from storage.signature import PROBED

SECTOR = 512  # QEMU counts in these, and rounds the size of a file up

_KINDS = {
    stat.S_IFDIR: "a directory",
    stat.S_IFCHR: "a character device",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFLNK: "a symbolic link",  # a real path is none: somebody changed it under us
}


@dataclass(frozen=True)
class ImageFile:
    """What holds an image: a regular file, a block device, or a network volume.

    path: real absolute path, or the url of a network volume. folder: where it lies, None for a
    network volume. node: the protocol node that opens it. volume: it is no file, and was there
    before it held an image. size: bytes. identity: st_dev and st_ino of a local one.
    head: its first bytes: the first cluster of a qcow2 image, else signature.PROBED; fewer when
    it is shorter.
    """

    path: str
    folder: str | None
    node: Node
    volume: bool
    size: int
    identity: tuple[int, int] | None
    head: bytes

    @property
    def raw_size(self) -> int:
        """Virtual size as a raw image."""
        return -(-self.size // SECTOR) * SECTOR


def real_path(path: str) -> str:
    """The absolute path without symbolic links. Raises ImageMissing, ImageRefused."""
    if not path:  # os.path.realpath takes it for the current folder
        raise ImageMissing(path)
    try:
        path.encode()  # the block nodes are JSON, which cannot carry anything else
    except UnicodeEncodeError:
        raise ImageRefused(ascii(path), "its name is not UTF-8") from None
    try:
        return os.path.realpath(path, strict=True)
    except ValueError:  # a NUL
        raise ImageRefused(ascii(path), "not a file name") from None
    except OSError as e:
        raise _error(path, e) from None


def read(path: str) -> ImageFile:
    """Look at the file behind a real path.

    Raises ImageMissing, ImageRefused: not a regular file or block device (a FIFO is not even
    opened), unreadable, or replaced while we look.
    """
    try:
        before = os.lstat(path)
        if not (stat.S_ISREG(before.st_mode) or stat.S_ISBLK(before.st_mode)):
            kind = _KINDS.get(stat.S_IFMT(before.st_mode), "of an unknown kind")
            raise ImageRefused(path, f"it is {kind}, not a regular file or block device")
        # O_NONBLOCK: should a FIFO have taken its place since, the open does not wait for a writer.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            now = os.fstat(fd)
            same = (before.st_dev, before.st_ino, stat.S_IFMT(before.st_mode))
            if (now.st_dev, now.st_ino, stat.S_IFMT(now.st_mode)) != same:
                raise ImageRefused(path, "it was replaced while it was looked at")
            device = stat.S_ISBLK(now.st_mode)
            return ImageFile(
                path=path,
                folder=os.path.dirname(path),
                node=file_node(path, device=device),
                volume=device,
                size=os.lseek(fd, 0, os.SEEK_END),  # st_size of a device is 0
                identity=(now.st_dev, now.st_ino),
                head=_head(fd),
            )
        finally:
            os.close(fd)
    except OSError as e:
        raise _error(path, e) from None


def head_length(start: bytes) -> int:
    """How many bytes of an image that begins with `start` have to be looked at."""
    if not start.startswith(qcow2.MAGIC):
        return PROBED
    try:
        return max(PROBED, qcow2.first_cluster(start))
    except qcow2.BadHeader:
        return PROBED


def _head(fd: int) -> bytes:
    start = os.pread(fd, PROBED, 0)
    return start + _at(fd, len(start), head_length(start) - len(start))


def _at(fd: int, offset: int, count: int) -> bytes:
    """Up to `count` bytes at `offset`, fewer only at the end of the file."""
    pieces = []
    while count > 0 and (piece := os.pread(fd, count, offset)):
        pieces.append(piece)
        offset += len(piece)
        count -= len(piece)
    return b"".join(pieces)


def _error(path: str, e: OSError) -> ImageMissing | ImageRefused:
    if isinstance(e, FileNotFoundError | NotADirectoryError):
        return ImageMissing(path)
    return ImageRefused(path, e.strerror or str(e))
