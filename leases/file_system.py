"""File systems on which a lock of the kernel excludes everybody.

Source: statfs(2); the numbers are those of linux/magic.h and of the file systems themselves.
"""

import ctypes
import os

# Only these: one that we do not know may be shared by hosts whose kernels know nothing of each
# other's locks. NFS, SMB, FUSE (virtiofs as well), GFS2, OCFS2, Ceph and 9p are such.
LOCAL = {
    0xEF53: "ext4",  # ext2 and ext3 too
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
    0x794C7630: "overlay",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
    0xCA451A4E: "bcachefs",
    0x3153464A: "jfs",
    0x52654973: "reiserfs",
}
REMOTE = {
    0x6969: "NFS",
    0x517B: "SMB",
    0xFF534D42: "CIFS",
    0xFE534D42: "SMB2",
    0x65735546: "FUSE",
    0x01161970: "GFS2",
    0x7461636F: "OCFS2",
    0x00C36400: "Ceph",
    0x0BD00BD0: "Lustre",
    0x47504653: "GPFS",
    0x01021997: "9p",
    0x786F4256: "vboxsf",
}
_libc = ctypes.CDLL(None, use_errno=True)


class _Statfs(ctypes.Structure):
    """The head of struct statfs; the rest is room for what we do not read (it has 120 bytes)."""

    _fields_ = [("f_type", ctypes.c_long), ("rest", ctypes.c_byte * 248)]


def kind(fd: int) -> int:
    """The f_type of the file system that `fd` is on. Raises OSError."""
    buffer = _Statfs()
    if _libc.fstatfs(fd, ctypes.byref(buffer)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(buffer.f_type) & 0xFFFFFFFF


def name(kind: int) -> str:
    """What people call the file system with this f_type."""
    return LOCAL.get(kind) or REMOTE.get(kind) or f"unknown file system {kind:#x}"
