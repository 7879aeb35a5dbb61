"""The file of a volume's metadata: read without being fooled, replaced in one step.

Whoever changes it holds a lock of the kernel on it, so that no change of another process is lost.
Programs that do not know that lock still see either the old file or the new one.
Everything here blocks: callers run it in a worker thread.
"""

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from protocol.errors import AcquireLockFailure, InvalidVolumeMetadata, VolumeDoesNotExist
from storage import volume_metadata
from storage.new_folder import sync_entries
from storage.volume_metadata import VolumeMetadata
from storage.volume_place import Place

MODE = 0o660  # of every file of a volume
PATIENCE = 30.0  # seconds; a change takes a few milliseconds
_PAUSE = 0.01
# O_NONBLOCK: a FIFO in its place must not keep us waiting.
_FLAGS = os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC


def read(place: Place) -> VolumeMetadata:
    """Raises VolumeDoesNotExist (201): there is no such file; InvalidVolumeMetadata (751)."""
    fd = _open(place, os.O_RDONLY)
    try:
        return _read(fd, place)
    finally:
        os.close(fd)


@dataclass
class Held:
    """Metadata that nobody else changes. fds: open files that hold the lock."""

    place: Place
    metadata: VolumeMetadata
    fds: list[int]

    def replace(self, metadata: VolumeMetadata) -> None:
        """Put other metadata in the place of the present ones, all at once and on disk.

        Raises as volume_metadata.encode, and OSError.
        """
        data = volume_metadata.encode(metadata)
        path, new = self.place.meta, self.place.meta + ".new"
        old = os.stat(path)
        try:
            # What a crash left there may be another name of a file in use: never write into it.
            with suppress(FileNotFoundError):
                os.unlink(new)
            with new_file(new) as fd:
                # Before it is at the path: others would lock it there while our body goes on.
                lock(fd)
                self.fds.append(os.dup(fd))
                os.fchmod(fd, stat.S_IMODE(old.st_mode))
                with suppress(PermissionError):  # not root, or root of another host
                    os.fchown(fd, old.st_uid, old.st_gid)
                write(fd, data)
            os.rename(new, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(new)
            raise
        self.metadata = metadata
        sync_entries(self.place.folder)


@contextmanager
def locked(place: Place) -> Iterator[Held]:
    """Hold the metadata in the body; waits for those who do.

    Raises as `read`, and AcquireLockFailure (651) when somebody keeps them for PATIENCE.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        fds = [_open(place, os.O_RDWR)]
        try:
            # Replaced before we had the lock: then the new one is to be locked.
            if lock(fds[0]) and is_at(fds[0], place.meta):
                yield Held(place, _read(fds[0], place), fds)
                return
        finally:
            for fd in fds:
                unlock(fd)
        if time.monotonic() > deadline:
            raise AcquireLockFailure(f"metadata of volume {place.vol_id}", "a process keeps them")
        time.sleep(_PAUSE)


def update(place: Place, change: Callable[[VolumeMetadata], VolumeMetadata]) -> VolumeMetadata:
    """Replace the metadata by what `change` makes of them, and return that.

    Raises as `locked` and Held.replace, and what `change` raises: nothing is written then.
    """
    with locked(place) as held:
        held.replace(change(held.metadata))
        return held.metadata


@contextmanager
def new_file(path: str) -> Iterator[int]:
    """Yield the descriptor of a new file, which is on disk after the body. Raises OSError.

    Its mode is MODE whatever the umask, and it belongs to the owner of its folder when we may
    give it away: other programs, which do not run as root, use it too.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, MODE)
    try:
        os.fchmod(fd, MODE)
        own(fd, os.path.dirname(path))
        yield fd
        os.fsync(fd)
    finally:
        os.close(fd)


def own(fd: int, folder: str) -> None:
    """Give a new file or folder to the owner of the folder that it lies in, if we may."""
    owner = os.stat(folder)
    with suppress(PermissionError):
        os.fchown(fd, owner.st_uid, owner.st_gid)


def write(fd: int, data: bytes) -> None:
    """Make `data` the whole content of a file, and bring it to disk."""
    os.ftruncate(fd, 0)
    offset = 0
    while offset < len(data):
        offset += os.pwrite(fd, data[offset:], offset)
    os.fsync(fd)


def lock(fd: int) -> bool:
    """Lock an open file for this descriptor alone; False: another one has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def unlock(fd: int) -> None:
    """Give the lock back and close the file.

    Not by closing alone: a tool that another thread is just starting has, until its exec, a copy
    of this descriptor, and would keep the lock for a moment longer.
    """
    try:
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)


def is_at(fd: int, path: str) -> bool:
    """Whether the open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def _open(place: Place, flags: int) -> int:
    try:
        fd = os.open(place.meta, flags | _FLAGS)
    except FileNotFoundError:
        raise VolumeDoesNotExist(place.vol_id) from None
    except OSError as e:
        reason = "a symbolic link" if e.errno == errno.ELOOP else e.strerror or str(e)
        raise InvalidVolumeMetadata(place.vol_id, reason) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise InvalidVolumeMetadata(place.vol_id, "not a regular file")
    return fd


def _read(fd: int, place: Place) -> VolumeMetadata:
    data = os.pread(fd, volume_metadata.READ_LIMIT + 1, 0)
    return volume_metadata.decode(data, place.vol_id)
