"""Whether a copy can share extents: both files on one file system that has shared extents."""

import fcntl
import os
import struct

from endpoints.disk import Disk, Target
from leases import file_system

# Others copy by themselves as well, over the network say; what an error is there is theirs to say.
FILE_SYSTEMS = {"xfs", "btrfs"}
FICLONERANGE = 0x4020940D  # ioctl_ficlonerange(2), linux/fs.h
_RANGE = struct.Struct("=qQQQ")  # struct file_clone_range: descriptor, offset, length, offset


def shared(source: Disk, target: Target) -> bool:
    """Whether the source's file and one beside the target's can share a block. Blocks.

    It is tried with a file without a name, which is gone at once: xfs may be made without it, and
    btrfs keeps it from some files.
    """
    if not (source.kind == target.kind == "file"):
        return False
    try:
        one = os.open(str(source.url), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if file_system.LOCAL.get(file_system.kind(one)) not in FILE_SYSTEMS:
                return False
            return _tried(one, os.path.dirname(str(target.url)))
        finally:
            os.close(one)
    except OSError:
        return False


def _tried(one: int, folder: str) -> bool:
    """Raises OSError: they cannot."""
    other = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        block = os.fstatvfs(one).f_bsize
        length = block if os.fstat(one).st_size >= block else 0  # 0: to the end
        fcntl.ioctl(other, FICLONERANGE, _RANGE.pack(one, 0, length, 0))
        return True
    finally:
        os.close(other)
