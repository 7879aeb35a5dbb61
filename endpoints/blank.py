"""Whether a target reads as zeros, told by its storage: then the zeros of a copy are not written.

Who asks for a copy may say so as well, and may be wrong: a volume that was used before, say. Over
what it held, a copy without its zeros has the wrong content and looks as if it had gone well.
"""

import errno
import os
import stat

from endpoints.url import NetworkUrl
from processes import qemu_img
from processes.image_node import Node
from protocol.errors import BadOutput, ToolFailed

LOOK = 1 << 20  # bytes at the beginning of what does not tell: a disk in use begins with a table


def of_path(path: str) -> bool | None:
    """Of a file or device. None: it may be blank, a device does not tell. Blocks."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _of_device(fd) if stat.S_ISBLK(os.fstat(fd).st_mode) else _of_file(fd)
    finally:
        os.close(fd)


def _of_file(fd: int) -> bool:
    """Source: lseek(2): a hole reads as zeros; a file system that knows of none says data."""
    try:
        os.lseek(fd, 0, os.SEEK_DATA)
    except OSError as e:
        return e.errno == errno.ENXIO  # there is no data from here to the end
    return False


def _of_device(fd: int) -> bool | None:
    try:
        return None if _zeros(os.pread(fd, LOOK, 0)) else False
    except OSError:
        return None


async def of_volume(node: Node, url: NetworkUrl, size: int) -> bool | None:
    """Of `size` bytes on the network. None: they may be blank, their server does not tell."""
    try:
        found = await qemu_img.blank(node, size)
        if found is None and not _zeros(await qemu_img.head(url.node(), LOOK)):
            return False
        return found
    except (ToolFailed, BadOutput):
        return None  # the copy itself tells what is wrong


def _zeros(data: bytes) -> bool:
    return not data.strip(b"\0")
