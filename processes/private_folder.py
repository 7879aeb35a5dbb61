"""A temporary folder that only we can enter; one that a killed process left is swept away."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "leasehold-"
YOUNG = 60.0  # seconds in which a folder may have been made and not be locked yet


@contextmanager
def private_folder() -> Iterator[str]:
    """The path of a new folder for the body. It is locked (flock(2)) while its maker lives."""
    with suppress(OSError):
        _sweep(tempfile.gettempdir())
    with tempfile.TemporaryDirectory(prefix=PREFIX) as folder:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(fd)


def _sweep(parent: str) -> None:
    """Remove the folders of processes that are gone."""
    for path in Path(parent).glob(f"{PREFIX}*"):
        with suppress(OSError):
            if _left_over(path):
                shutil.rmtree(path)


def _left_over(path: Path) -> bool:
    status = path.lstat()
    if status.st_uid != os.geteuid() or status.st_mtime > time.time() - YOUNG:
        return False
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)  # BlockingIOError: its maker lives
    finally:
        os.close(fd)
    return True
