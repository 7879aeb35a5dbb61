"""Files of the whole host whose bytes are locked: any user may open and lock them."""

import os
import stat
from pathlib import Path

from protocol.errors import AcquireLockFailure

FOLDER = "/run/lock"  # world-writable with the sticky bit, empty after a reboot: Debian's FHS


def opened(name: str) -> int:
    """A new description of the file `name`, made when missing. Raises AcquireLockFailure (651)."""
    path = str(Path(FOLDER, name))
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            # Without O_CREAT first: the kernel refuses that for another user's file in a folder
            # with the sticky bit (proc(5), fs.protected_regular).
            fd = os.open(path, flags)
        except FileNotFoundError:
            fd = _created(path, flags)
    except OSError as e:
        raise AcquireLockFailure(path, e.strerror or str(e)) from e
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise AcquireLockFailure(path, "it is not a regular file; remove it")
    return fd


def in_place(fd: int, name: str) -> bool:
    """Is this still the file that everybody else opens?"""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(Path(FOLDER, name)))
    except FileNotFoundError:
        return False


def _created(path: str, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # another process was faster
        return os.open(path, flags)
    os.fchmod(fd, 0o666)  # the umask took bits away
    return fd
