"""The file by which vdsm hands something to its hooks, and gets it back."""

import contextlib
import os
import stat
import tempfile

from host.hooks.program import Refused


def read(variable: str, limit: int) -> bytes:
    """What the file contains that a variable of the environment names. Raises Refused.

    limit: bytes; a longer file is none of vdsm's.
    """
    path = _path(variable)
    try:
        with open(_opened(path), "rb") as file:
            content = file.read(limit + 1)
    except OSError as e:
        raise Refused(f"{variable}: {path!r:.200}: {e.strerror or e}") from None
    if len(content) > limit:
        raise Refused(f"{variable}: {path!r:.200} is longer than {limit} bytes")
    return content


def replace(variable: str, content: bytes) -> None:
    """Another content, with the same owner and mode: who reads the file, and vdsm after a crash of
    ours, sees the old or the new whole. Raises Refused, OSError.
    """
    path = _path(variable)
    old = os.lstat(path)
    if not stat.S_ISREG(old.st_mode):
        raise Refused(f"{variable}: {path!r:.200} is not a file any more")
    fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".leasehold-hook-")
    try:
        with open(fd, "wb") as file:
            file.write(content)
            if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
                os.fchown(fd, old.st_uid, old.st_gid)
            os.fchmod(fd, stat.S_IMODE(old.st_mode))
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _path(variable: str) -> str:
    path = os.environ.get(variable, "")
    if not path.startswith("/"):
        raise Refused(f"{variable} names no file: {path!r:.200}; only vdsm runs this program")
    return path


def _opened(path: str) -> int:
    """Not through a link, and not a pipe, at which it would wait for ever."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Refused(f"{path!r:.200} is not a file")
    return fd
