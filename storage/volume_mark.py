"""The mark of a volume that is being made: the file <volume id>.creating.

It holds a lock of the kernel while its maker lives, and becomes the metadata at the end. What
stands beside a mark that nobody holds is what a crash left; without a mark, files of that name
belong to somebody else and are not touched. Everything here blocks: callers run it in a worker
thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from protocol.errors import AcquireLockFailure, Error, VolumeExists
from storage import metadata_file, volume_metadata, volume_parent
from storage.description import Domain
from storage.new_folder import sync_entries
from storage.volume_metadata import NO_PARENT, VolumeMetadata
from storage.volume_place import Place

_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TRIES = 100  # to lock a mark that others make and remove


@dataclass(frozen=True)
class Mark:
    """A held mark. fd: its open file."""

    place: Place
    fd: int

    def write(self, metadata: VolumeMetadata) -> None:
        """Bring the metadata, and the names of the files made so far, to disk."""
        metadata_file.write(self.fd, volume_metadata.encode(metadata))
        sync_entries(self.place.folder)

    def publish(self) -> None:
        """Let the volume exist."""
        os.rename(self.place.creating, self.place.meta)


@contextmanager
def marked(domain: Domain, place: Place) -> Iterator[Mark]:
    """Hold the mark while the body makes the volume, whose files are not there yet.

    If the body fails before the mark is published, everything is removed, the mark last.
    Raises VolumeExists, AcquireLockFailure (651): another process is making it; OSError.
    """
    fd, begun_before = _take(place)
    try:
        _clear(domain, place, fd, begun_before=begun_before)
        sync_entries(place.folder)
        try:
            yield Mark(place, fd)
        except BaseException:
            if metadata_file.is_at(fd, place.creating):
                _remove(place.path, place.lease, place.creating)
            raise
    finally:
        metadata_file.unlock(fd)


def _take(place: Place) -> tuple[int, bool]:
    """The locked mark, and whether it was there before."""
    for _ in range(_TRIES):
        opened = _open(place)
        if opened is None:
            continue
        fd, begun_before = opened
        taken = False
        try:
            if not metadata_file.lock(fd):
                break
            taken = metadata_file.is_at(fd, place.creating)  # not removed, or published, just now
            if taken:
                return fd, begun_before
        finally:
            if not taken:
                metadata_file.unlock(fd)
    raise AcquireLockFailure(f"volume {place.vol_id}", "another process is making it")


def _open(place: Place) -> tuple[int, bool] | None:
    """The mark, and whether it was there before; None: somebody makes or removes it just now."""
    with suppress(FileNotFoundError):
        return os.open(place.creating, _FLAGS), True
    # Before there is a mark: beside one, these files would be taken for what a crash left.
    _check_free(place)
    with suppress(FileExistsError):
        return os.open(place.creating, _FLAGS | os.O_CREAT | os.O_EXCL, metadata_file.MODE), False
    return None


def _check_free(place: Place) -> None:
    if os.path.lexists(place.meta):
        raise VolumeExists(place.vol_id, "it is in this image")
    if os.path.lexists(place.path) or os.path.lexists(place.lease):
        raise VolumeExists(place.vol_id, f"without metadata, but with files in {place.folder}")


def _clear(domain: Domain, place: Place, fd: int, *, begun_before: bool) -> None:
    """Make sure that the volume's place is free, now that nobody else takes it."""
    os.fchmod(fd, metadata_file.MODE)
    metadata_file.own(fd, place.folder)
    if begun_before and not os.path.lexists(place.meta):
        _undo(domain, place, fd)
    try:
        _check_free(place)
    except VolumeExists:
        _remove(place.creating)
        raise


def _undo(domain: Domain, place: Place, fd: int) -> None:
    """Remove what a crash left; a parent that is left without a child may be written again."""
    with suppress(Error):  # no metadata in it yet: then nothing was done to a parent
        begun = volume_metadata.decode(os.pread(fd, volume_metadata.READ_LIMIT, 0), place.vol_id)
        if begun.parent != NO_PARENT:
            volume_parent.release(domain, place.other(begun.parent))
    os.ftruncate(fd, 0)
    _remove(place.path, place.lease)


def _remove(*paths: str) -> None:
    for path in paths:
        with suppress(FileNotFoundError):
            os.unlink(path)
