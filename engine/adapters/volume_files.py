"""Volumes as sparse raw files in a folder, and their snapshots: what `file` and `tgt` share.

    PATH/volumes/VOLUME/disk                  the raw image
    PATH/volumes/VOLUME/snapshots/SNAPSHOT    whole copies of it; blocks are shared where possible
    PATH/volumes/VOLUME/connections/KEY.json  the hosts that it is connected for; KEY.ending.json
    PATH/volumes/VOLUME/origin                of a clone: what it was made from
    PATH/scrap/VOLUME.*                       what is not made or not removed completely
    PATH/locks/VOLUME                         locked (flock(2)) by the command that works on it

A volume or snapshot appears by one rename, when all of it is on disk, and goes the same way.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from engine.adapters import sparse_file
from engine.adapters.connections import Connections
from engine.adapters.names import new_id
from processes.atomic_file import sync_folder
from protocol.errors import (
    BadParameter,
    ManagedVolumeExists,
    ManagedVolumeInUse,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
)
from protocol.managed import GIB


@dataclass(frozen=True)
class VolumeFiles:
    """folder: PATH. Who calls holds the `lock` of the volumes that are named. Raise OSError too."""

    folder: Path

    @contextmanager
    def lock(self, *volumes: str) -> Iterator[None]:
        """Waits for other commands on the same volumes."""
        for name in ("volumes", "scrap", "locks"):
            (self.folder / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        with ExitStack() as stack:
            for volume in sorted(set(volumes)):
                stack.enter_context(self._locked(volume))
            yield

    @contextmanager
    def _locked(self, volume: str) -> Iterator[None]:
        path = self.folder / "locks" / volume
        fd = _lock(path)
        try:
            self._sweep(volume)
            yield
        finally:
            self._sweep(volume)
            if not self._place(volume).exists():
                path.unlink()
            os.close(fd)

    def ids(self) -> list[str]:
        place = self.folder / "volumes"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []

    def disk(self, volume: str) -> Path:
        return self._existing(volume) / "disk"

    def size(self, volume: str) -> int:
        return self.disk(volume).stat().st_size

    def connections(self, volume: str) -> Connections:
        return Connections.of(self._existing(volume))

    def snapshots(self, volume: str) -> list[str]:
        place = self._existing(volume) / "snapshots"
        return sorted(path.name for path in place.iterdir()) if place.exists() else []

    def create(self, volume: str, gib: int) -> bool:
        """Whether it was made; False: one of that size is there already."""
        if self._place(volume).exists():
            if self.size(volume) != gib * GIB:
                raise ManagedVolumeExists(volume, f"it has {self.size(volume) // GIB} GiB")
            return False
        with self._new(volume) as draft:
            sparse_file.create(draft / "disk", gib * GIB)
        return True

    def delete(self, volume: str) -> None:
        self.must_be_idle(volume)
        if snapshots := self.snapshots(volume):
            raise ManagedVolumeInUse(volume, f"it has snapshots: {', '.join(snapshots)}")
        self._scrapped(self._existing(volume), volume)

    def extend(self, volume: str, gib: int) -> None:
        size = self.size(volume)
        if gib * GIB < size:
            raise BadParameter("size", f"{gib} GiB is less than the volume has")
        if gib * GIB > size:
            self.must_be_idle(volume)
            sparse_file.grow(self.disk(volume), gib * GIB)

    def clone(self, volume: str, new: str) -> None:
        self._copy(volume, self.disk(volume), new, volume, at_once=self._is_connected(volume))

    def create_from_snapshot(self, volume: str, snapshot: str, new: str) -> None:
        source = self._snapshot(volume, snapshot)
        self._copy(volume, source, new, f"{volume}@{snapshot}", at_once=False)

    def create_snapshot(self, volume: str, snapshot: str) -> None:
        place = self._existing(volume) / "snapshots" / snapshot
        if place.exists():
            return
        place.parent.mkdir(mode=0o700, exist_ok=True)
        draft = self._draft(volume)
        self._copied(volume, self.disk(volume), draft, at_once=self._is_connected(volume))
        os.rename(draft, place)
        sync_folder(place.parent)

    def remove_snapshot(self, volume: str, snapshot: str) -> None:
        self._scrapped(self._snapshot(volume, snapshot), volume)

    def revert(self, volume: str, snapshot: str) -> None:
        self.must_be_idle(volume)
        source = self._snapshot(volume, snapshot)
        draft = self._draft(volume)
        sparse_file.copy(source, draft, at_once=False)
        disk = self.disk(volume)
        os.rename(draft, disk)
        sync_folder(disk.parent)

    def must_be_idle(self, volume: str) -> None:
        """Raises ManagedVolumeInUse: it is connected for a host."""
        if hosts := self.connections(volume).hosts():
            raise ManagedVolumeInUse(volume, f"it is connected for {', '.join(hosts)}")

    def _is_connected(self, volume: str) -> bool:
        return bool(self.connections(volume).all())

    def _copy(self, volume: str, source: Path, new: str, origin: str, *, at_once: bool) -> None:
        if self._place(new).exists():
            note = self._place(new) / "origin"
            if not note.exists() or note.read_text() != origin:
                raise ManagedVolumeExists(new, f"it was not made from {origin}")
            return
        with self._new(new) as draft:
            self._copied(volume, source, draft / "disk", at_once=at_once)
            (draft / "origin").write_text(origin)

    def _copied(self, volume: str, source: Path, target: Path, *, at_once: bool) -> None:
        try:
            sparse_file.copy(source, target, at_once=at_once)
        except BlockingIOError as e:
            reason = f"it is connected, and {e.strerror}; disconnect it first"
            raise ManagedVolumeInUse(volume, reason) from None

    def _place(self, volume: str) -> Path:
        return self.folder / "volumes" / volume

    def _existing(self, volume: str) -> Path:
        place = self._place(volume)
        if not place.exists():
            raise NoSuchManagedVolume(volume)
        return place

    def _snapshot(self, volume: str, snapshot: str) -> Path:
        path = self._existing(volume) / "snapshots" / snapshot
        if not path.exists():
            raise NoSuchManagedSnapshot(volume, snapshot)
        return path

    def _draft(self, volume: str) -> Path:
        return self.folder / "scrap" / f"{volume}.{new_id()}"

    @contextmanager
    def _new(self, volume: str) -> Iterator[Path]:
        """A folder that becomes the volume after the body."""
        draft = self._draft(volume)
        draft.mkdir(mode=0o700)
        yield draft
        sync_folder(draft)
        os.rename(draft, self._place(volume))
        sync_folder(self.folder / "volumes")

    def _scrapped(self, path: Path, volume: str) -> None:
        os.rename(path, self._draft(volume))
        sync_folder(path.parent)
        self._sweep(volume)

    def _sweep(self, volume: str) -> None:
        """Remove what a command that died has left: nobody else works on the volume now."""
        for path in (self.folder / "scrap").glob(f"{volume}.*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _lock(path: Path) -> int:
    """A descriptor of the locked file at `path`, not of one that was removed meanwhile."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
