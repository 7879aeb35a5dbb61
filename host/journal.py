"""The journal: a folder for each job of an agent, which outlives agent and workers."""

import errno
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from host.folder import Ending, Folder, Spec
from leases import range_lock
from processes import atomic_file
from protocol.errors import AcquireLockFailure, JobExists, NoSpaceLeft

__all__ = ["Ending", "Entry", "Folder", "Journal", "Spec"]

log = logging.getLogger(__name__)

_LOCK = ".lock"
_DRAINED = ".drained"
_OWN = (_LOCK, _DRAINED)
_IN_USE = (errno.EEXIST, errno.ENOTEMPTY)
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Entry:
    """A job as it is found. ending: None, it has not ended as far as the journal knows."""

    folder: Folder
    spec: Spec
    ending: Ending | None


class Journal:
    """All jobs of one agent, in the folder `path`. Its calls block for a moment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._order = itertools.count(1)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> int:
        """Become its agent: a descriptor to be kept. Raises AcquireLockFailure (651); OSError."""
        fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if range_lock.lock(fd, 0, 1):
                return fd
            raise AcquireLockFailure(str(self.path), "another agent keeps its jobs there")
        except BaseException:
            os.close(fd)
            raise

    @property
    def has_agent(self) -> bool:
        """Does an agent that lives keep its jobs here? Takes nothing."""
        try:
            fd = os.open(self.path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            return range_lock.locked(fd, 0, 1)
        finally:
            os.close(fd)

    @property
    def drained(self) -> bool:
        """Is no job to be started, in this life of the agent and in those to come?"""
        return (self.path / _DRAINED).exists()

    def drain(self) -> None:
        """Let no job be started until `resume`. OSError: it could not be written down."""
        (self.path / _DRAINED).touch(mode=0o600)
        atomic_file.sync_folder(self.path)

    def resume(self) -> None:
        """Take `drain` back. OSError: it could not be written down."""
        (self.path / _DRAINED).unlink(missing_ok=True)
        atomic_file.sync_folder(self.path)

    def add(self, spec: Spec) -> Folder:
        """Take a job in: whole and on disk, or not at all.

        Raises JobExists (69), NoSpaceLeft; OSError.
        """
        spec = msgspec.structs.replace(spec, order=next(self._order))
        folder = self.folder(str(spec.job_id))
        try:
            self._add(folder, spec)
        except OSError as e:
            if e.errno in _IN_USE:
                raise JobExists(str(spec.job_id)) from None
            if e.errno in _FULL:
                raise NoSpaceLeft("leasehold", 1, f"no space left in {self.path}") from None
            raise
        return folder

    def _add(self, folder: Folder, spec: Spec) -> None:
        new = Path(tempfile.mkdtemp(dir=self.path, prefix=".new-"))
        try:
            Folder(new).write(spec)
            os.rename(new, folder.path)  # fails on a folder that is there, for none is empty
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            raise
        try:
            atomic_file.sync_folder(self.path)
        except BaseException:
            folder.remove()  # its client is told that there is no such job
            raise

    def folder(self, job_id: str) -> Folder:
        return Folder(self.path / job_id)

    def read(self) -> list[Entry]:
        """All jobs, in the order in which they came; for an agent that starts.

        Those whose specification is damaged are left alone: nobody knows what they are, their ids
        stay in use, and their leases tell what became of them.
        """
        found = [entry for folder in self._folders() if (entry := _read(folder))]
        found.sort(key=lambda entry: (entry.spec.order, entry.folder.job_id))
        if found:
            self._order = itertools.count(found[-1].spec.order + 1)
        return found

    def _folders(self) -> Iterator[Folder]:
        """Removes what a crash left half made or half gone."""
        for path in self.path.iterdir():
            if path.name in _OWN:
                continue
            if path.name.startswith("."):
                shutil.rmtree(path, ignore_errors=True)
                with suppress(OSError):
                    path.unlink()  # no folder
            elif path.is_dir():
                yield Folder(path)


def _read(folder: Folder) -> Entry | None:
    try:
        spec = folder.spec()
    except (OSError, msgspec.MsgspecError) as e:
        log.error("the job in %s cannot be read, it is left alone: %s", folder.path, e)
        return None
    try:
        return Entry(folder, spec, folder.ending())
    except (OSError, msgspec.MsgspecError) as e:
        log.error("the ending of job %s cannot be read: %s", folder.job_id, e)
        return Entry(folder, spec, None)
