"""The lease of a volume: a file beside it that is one slot.

What stands in a slot is not known here: the caller writes it. Everything here blocks: callers run
it in a worker thread.
"""

import os
from collections.abc import Callable
from contextlib import suppress

from storage import metadata_file
from storage.new_folder import sync_entries
from storage.volume import Volume

Prepare = Callable[[str], None]
"""Gets the path of a file of one slot, allocated and zero, and writes the slot into it."""


def make(path: str, size: int, prepare: Prepare) -> None:
    """A new lease file, whole and on disk; size: bytes of a slot, the domain's alignment.

    Allocated in full: no write of a lease may fail for want of space.
    Raises OSError, and what `prepare` raises.
    """
    with metadata_file.new_file(path) as fd:
        os.posix_fallocate(fd, 0, size)
        prepare(path)


def ensure(volume: Volume, size: int, prepare: Prepare) -> None:
    """Give a volume a lease that can be held, if another program made none.

    In a local domain others leave the file out, or empty. One that has any content is not touched:
    somebody may hold it. Raises as `make`, and as metadata_file.locked.
    """
    new = volume.lease + ".new"
    with metadata_file.locked(volume.place):
        with suppress(FileNotFoundError):
            if os.lstat(volume.lease).st_size:
                return
        with suppress(FileNotFoundError):  # what a crash left
            os.unlink(new)
        make(new, size, prepare)
        os.rename(new, volume.lease)
        sync_entries(volume.place.folder)
