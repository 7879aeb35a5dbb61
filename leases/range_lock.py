"""Locks of the kernel on ranges of a file, owned by the open file description.

Such a lock conflicts with every other description, of this process too, is inherited with the
descriptor, and ends when its last descriptor is closed, by death for example.
Source: fcntl(2), "Open file description locks".
"""

import errno
import fcntl
import os
import struct

# struct flock: type, whence, start, length, pid. Native alignment puts the 64-bit offsets where
# the compiler does. The pid must be 0 for locks of descriptions.
_FLOCK = struct.Struct("@hhqqi4x")


def lock(fd: int, start: int, length: int, *, shared: bool = False) -> bool:
    """Take the lock at once; False: somebody else holds a part of the range. 0: to the end."""
    kind = fcntl.F_RDLCK if shared else fcntl.F_WRLCK
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(kind, start, length))
    except OSError as e:
        if e.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def unlock(fd: int, start: int, length: int) -> None:
    """Give the lock back for everybody who shares the description."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock(fcntl.F_UNLCK, start, length))


def locked(fd: int, start: int, length: int) -> bool:
    """Does another description hold a part of the range? Takes nothing."""
    answer = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock(fcntl.F_WRLCK, start, length))
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _flock(kind: int, start: int, length: int) -> bytes:
    return _FLOCK.pack(kind, os.SEEK_SET, start, length, 0)
