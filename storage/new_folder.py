"""A folder that appears whole or not at all.

It is built under a hidden name beside its place, and moved there when everything in it is on disk.
What a crash leaves under such a name is nobody's folder; the next builder in the same place
removes it. A builder holds a kernel lock on its folder, so that a living one is not taken for
left-overs.
"""

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class PlaceTaken(Exception):
    """There is something where the folder should go."""


_LEFT_OVER = re.compile(r"\.[0-9a-f-]{36}\.new-[a-z0-9_]+")


@contextmanager
def new_folder(path: str) -> Iterator[str]:
    """Yield a fresh folder (mode 0755); at the end of the body it is moved to `path`.

    If the body fails, nothing is left. Raises PlaceTaken when there is something at `path`, and
    OSError. The name of `path` is a UUID.
    """
    place, name = os.path.split(path)
    _remove_left_overs(place)
    if os.path.lexists(path):
        raise PlaceTaken(path)
    building, lock = _begin(place, name)
    try:
        os.fchmod(lock, 0o755)
        yield building
        _sync(building)
        _move(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    finally:
        os.close(lock)
    sync_entries(place)


def sync_entries(folder: str) -> None:
    """Bring the names in a folder to disk."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _begin(place: str, name: str) -> tuple[str, int]:
    """A fresh folder and the descriptor that holds its lock."""
    while True:
        building = tempfile.mkdtemp(prefix=f".{name}.new-", dir=place)
        # Until it is locked another builder may take it for left-overs: then again.
        with suppress(FileNotFoundError):
            lock = os.open(building, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(building):
                return building, lock
            os.close(lock)


def _move(building: str, path: str) -> None:
    """rename(2) replaces an *empty* folder silently; the caller has looked, and whatever a rival
    builder puts there is never empty."""
    try:
        os.rename(building, path)
    except OSError:
        if os.path.lexists(path):  # ENOTEMPTY, or ENOTDIR for a file
            raise PlaceTaken(path) from None
        raise


def _sync(folder: str) -> None:
    """Bring every file and folder below `folder`, and itself, to disk."""
    for directory, _, files in os.walk(folder, topdown=False):
        for name in files:
            fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        sync_entries(directory)


def _remove_left_overs(place: str) -> None:
    for name in os.listdir(place):
        if _LEFT_OVER.fullmatch(name):
            with suppress(OSError):  # in use, not ours to remove, or gone: not our business
                _remove_unlocked(os.path.join(place, name))


def _remove_unlocked(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path)
    finally:
        os.close(fd)
