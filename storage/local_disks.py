"""The local disks of this host. Who changes one holds its lock meanwhile (endpoints/locks.py), so
that what was just looked at is still so. Source: docs/localdisk.md."""

import os
import re
from dataclasses import dataclass, replace

from processes import lvm_names
from processes.lvm import Lvm
from processes.lvm_report import ThinPool, VolumeGroup
from protocol.errors import (
    BadParameter,
    LocalDiskChanged,
    LocalDiskInUse,
    LocalDiskRefused,
    NoLocalSpace,
    NoSuchLocalDisk,
    ThinPoolMissing,
    ToolFailed,
    VolumeGroupMissing,
)
from storage import local_disk, local_disk_space
from storage.local_disk import Backend, LocalDisk
from storage.local_disk_tags import BLANK, UPDATING, Tags

POOL = "pool0"
SECTOR = 512
_NO_POOL = re.compile(r"[Pp]ool \S+ not found")
_EXISTS = "already exists in volume group"
_FULL = ("insufficient free space", "insufficient suitable", "Insufficient free space")
_FULL_POOL = ("read only metadata", "reached threshold", "above threshold")


@dataclass(frozen=True)
class LocalDisks:
    """Those of a volume group. pool: for the backend lvmthin.

    Everything raises VolumeGroupMissing, and what processes.lvm raises; nothing touches a logical
    volume that is not ours.
    """

    lvm: Lvm
    pool: str = POOL

    def path(self, volume_id: str) -> str:
        """Of its device, which is there while it is active."""
        return self.lvm.path(lvm_names.disk(volume_id))

    async def find(self, volume_id: str) -> LocalDisk | None:
        """The logical volume of this name, ours or not; None: there is none."""
        volume = await self.lvm.volume(volume_id)
        return None if volume is None else local_disk.of(volume)

    async def all(self) -> list[LocalDisk]:
        """All that are ours, by name."""
        found = [local_disk.of(v) for v in await self.lvm.volumes() if _named(v.name)]
        return sorted((disk for disk in found if disk.ours), key=lambda disk: disk.volume_id)

    async def thin_filling(self) -> list[LocalDisk]:
        """Those of ours in the thin pool that a copy fills, or did not come to the end of."""
        volumes = await self.lvm.volumes()
        found = [local_disk.of(v) for v in volumes if v.pool == self.pool and _named(v.name)]
        return [disk for disk in found if disk.ours and disk.filling]

    async def thin_pool(self) -> ThinPool:
        """As it is now, and awake. Raises VolumeGroupMissing, ThinPoolMissing."""
        pool = await self.lvm.pool(self.pool)
        if pool is not None and pool.data_percent is None:  # it sleeps
            await self.lvm.activate_pool(self.pool)
            pool = await self.lvm.pool(self.pool)
        if pool is None:
            raise ThinPoolMissing(self.lvm.volume_group, self.pool)
        return pool

    async def check_space(
        self, backend: Backend, size: int, data: int | None = None, *, promised: int = 0
    ) -> None:
        """Is there room for a disk of `size` bytes, of which `data` will be written?

        data: bytes of the pool's chunks; None, it is not known: all of them. A linear disk takes
        its size in any case. promised: bytes of the pool that copies in flight may still take.
        Raises VolumeGroupMissing, ThinPoolMissing, ThinPoolUnsafe, NoLocalSpace.
        """
        if backend == "lvm":
            local_disk_space.check_linear(await self._group(), size)
            return
        written = size if data is None else min(data, size)
        pool = await self.thin_pool()
        local_disk_space.check_thin(self.lvm.volume_group, pool, written, promised)

    async def create(
        self,
        volume_id: str,
        size: int,
        backend: Backend,
        *,
        image_id: str,
        job_id: str,
        now: int,
        vm_id: str | None = None,
        generation: int | None = None,
    ) -> LocalDisk:
        """A disk that the job fills: active, with UPDATING. size: bytes, rounded up to extents.

        now: seconds since the epoch. Raises LocalDiskChanged: there is one of this name already;
        NoLocalSpace, ThinPoolMissing: after `check_space`, somebody was faster.
        """
        tags = Tags(image_id, BLANK, vm_id, job_id, generation, now, filling=True)
        pool = self.pool if backend == "lvmthin" else None
        try:
            await self.lvm.create(volume_id, local_disk.rounded(size, SECTOR), tags.words(), pool)
        except ToolFailed as e:
            if pool is not None and _NO_POOL.search(e.detail):
                raise ThinPoolMissing(self.lvm.volume_group, pool) from None
            if _EXISTS in e.detail:
                raise LocalDiskChanged(volume_id, "another start has just made it") from None
            if any(words in e.detail for words in _FULL):
                place, command = self.lvm.volume_group, f"vgextend {self.lvm.volume_group} DEVICE"
                raise NoLocalSpace(f"volume group {place}", size, 0, command) from None
            await self._check_pool(backend, e)
            raise
        return self._present(await self._ours(volume_id))

    async def ready(self, volume_id: str, job_id: str) -> None:
        """Its content may be used from now on: all of it is on disk. job_id: who has filled it.

        Raises NoSuchLocalDisk, LocalDiskChanged: it is not this job's to say so.
        """
        disk = await self._ours(volume_id)
        if disk.job_id != job_id:
            raise LocalDiskChanged(volume_id, f"it is the disk of job {disk.job_id}, not {job_id}")
        if not disk.filling:
            raise LocalDiskChanged(volume_id, "it is ready already")
        await self.lvm.change_tags(volume_id, [UPDATING, *_owner(disk)], remove=[UPDATING])

    async def use(
        self, disk: LocalDisk, *, now: int, vm_id: str | None = None, start: bool = False
    ) -> LocalDisk:
        """Hand out a disk that is ready: activate it, and say when that was.

        disk: as it was found just now. vm_id: whose disk it is from now on. start: a VM writes to
        it from now on, STARTED. Two commands of LVM at most. Raises LocalDiskChanged: it is filled.
        """
        if disk.filling:
            raise LocalDiskChanged(disk.volume_id, "it is being filled")
        self._check(disk)
        after = replace(
            disk, prepared=now, vm_id=vm_id or disk.vm_id, started=disk.started or start
        )
        add, remove = _changes(disk, after)
        if add or remove:
            await self.lvm.change_tags(disk.volume_id, _owner(disk), add, remove)
        # Not only when it is not active: LVM may say so of one whose device is gone.
        await self.lvm.activate(disk.volume_id, _owner(disk))
        return self._present(replace(after, active=True))

    async def activate(self, volume_id: str) -> None:
        """Raises NoSuchLocalDisk, LocalDiskRefused, LocalDiskChanged: it has no device then."""
        disk = await self._ours(volume_id)
        await self.lvm.activate(volume_id, _owner(disk))
        self._present(replace(disk, active=True))

    async def deactivate(self, volume_id: str) -> None:
        """Raises NoSuchLocalDisk, LocalDiskRefused, LocalDiskInUse: it is open."""
        disk = await self._ours(volume_id)
        await self.lvm.deactivate(volume_id, _owner(disk))

    async def remove(self, disk: LocalDisk) -> None:
        """The disk that was found, and not one that was made since. One that is gone is no error.

        Raises LocalDiskRefused, LocalDiskInUse: it is open; LocalDiskChanged: there is another one;
        NoLocalSpace: the metadata of its pool are full, and not even this can be written there.
        """
        self._check(disk)
        if disk.open:
            raise LocalDiskInUse(disk.volume_id, "its device is open", disk.job_id)
        try:
            await self.lvm.remove(disk.volume_id, _owner(disk))
        except NoSuchLocalDisk:
            return
        except ToolFailed as e:
            await self._check_pool(disk.backend, e)
            raise
        if await self.find(disk.volume_id) is not None:
            raise LocalDiskChanged(disk.volume_id, "it is another one now")

    async def _check_pool(self, backend: Backend, error: ToolFailed) -> None:
        """Raises NoLocalSpace, which names the way out, when that is why LVM did nothing."""
        if backend == "lvmthin" and any(words in error.detail for words in _FULL_POOL):
            await self.check_space(backend, 1)

    async def _group(self) -> VolumeGroup:
        if (group := await self.lvm.group()) is None:
            raise VolumeGroupMissing(self.lvm.volume_group)
        return group

    async def _ours(self, volume_id: str) -> LocalDisk:
        if (disk := await self.find(volume_id)) is None:
            raise NoSuchLocalDisk(volume_id)
        self._check(disk)
        return disk

    def _check(self, disk: LocalDisk) -> None:
        if not disk.ours:
            raise LocalDiskRefused(disk.volume_id, foreign_reason(disk))

    def _present(self, disk: LocalDisk) -> LocalDisk:
        """An active disk has a device; without one, udev or LVM of this host do not work."""
        path = self.path(disk.volume_id)
        if not os.path.exists(path):
            raise LocalDiskChanged(disk.volume_id, f"LVM has activated it, but there is no {path}")
        return disk


def foreign_reason(disk: LocalDisk) -> str:
    """Why a logical volume that is not ours is left alone."""
    tags = f"its tags are {', '.join(sorted(disk.foreign)):.200}" if disk.foreign else "it has none"
    return f"a logical volume of this name was made by others: without the tag IU_, {tags}"


def _named(name: str) -> bool:
    """Has it the name of a local disk?"""
    try:
        lvm_names.disk(name)
    except BadParameter:
        return False
    return True


def _owner(disk: LocalDisk) -> tuple[str, ...]:
    """The tags by which LVM knows that it is still this disk, and not one that was made since."""
    return Tags(disk.image_id, job_id=disk.job_id).words()


def _changes(before: LocalDisk, after: LocalDisk) -> tuple[list[str], list[str]]:
    """The tags to add and to remove."""
    one, two = _words(before), _words(after)
    return sorted(two - one), sorted(one - two)


def _words(disk: LocalDisk) -> set[str]:
    """Those tags that may change once it is ready."""
    return set(Tags(vm_id=disk.vm_id, prepared=disk.prepared, started=disk.started).words())
