"""A local disk as it is found: its logical volume, its lease, and who writes to it."""

from dataclasses import dataclass, replace

import trio

from endpoints.local import unwritten
from host.local_disk_here import Here
from host.local_disk_judge import Facts, Lease
from host.local_disk_leases import Found
from protocol.errors import LocalDiskInUse
from storage.local_disk import LocalDisk

LOOKS = 2
LOOK = 0.3  # seconds before one more; udev takes some hundredths


@dataclass(frozen=True)
class Looked:
    """disk: None, there is none. alive: a process of this host copies to it, or is about to."""

    disk: LocalDisk | None
    lease: Found
    alive: bool = False

    @property
    def found(self) -> LocalDisk:
        """The disk, of whom the judgement has said that it is there."""
        if self.disk is None:
            raise RuntimeError("there is no disk")
        return self.disk

    @property
    def job_id(self) -> str | None:
        return None if self.disk is None else self.disk.job_id

    @property
    def opened_by_others(self) -> bool:
        """Is it open, and not by a copy? By its VM, or by udev, which opens every device that was
        written to and closed, to see what is on it now."""
        if self.disk is None or self.alive or self.lease.lease is Lease.OWNED:
            return False
        return self.disk.ours and self.disk.open

    @property
    def facts(self) -> Facts:
        """Without those of who wants it."""
        if self.disk is None:
            return Facts(exists=False)
        return Facts(
            ours=self.disk.ours,
            filling=self.disk.filling,
            started=self.disk.started,
            open=self.disk.open,
            alive=self.alive,
            lease=self.lease.lease,
        )

    def wanted(
        self,
        img_id: str,
        vm_id: str | None,
        size: int | None,
        generation: int | None,
        *,
        again: bool,
    ) -> Facts:
        """The facts for who wants a copy of this image for a VM. size: bytes. None: not known."""
        disk = self.disk
        if disk is None:
            return self.facts
        return replace(
            self.facts,
            ours=disk.image_id == img_id,
            same_size=None if size is None else disk.fits(size),
            changed=None not in (generation, disk.generation) and generation != disk.generation,
            another=None not in (vm_id, disk.vm_id) and vm_id != disk.vm_id,
            again=again,
        )


async def look(here: Here, vol_id: str, *sd_ids: str) -> Looked:
    """Look at the disk of a volume; sd_ids: domains in which its lease may be, beside the usual
    ones. For who holds its lock (endpoints.local.changing); with one command of LVM, unless
    somebody has it open whom we do not know: that may be over in a moment."""
    found = await looked_at(here, await here.disks.find(vol_id), *sd_ids)
    for _ in range(LOOKS):
        if not found.opened_by_others:
            break
        await trio.sleep(LOOK)
        found = await looked_at(here, await here.disks.find(vol_id), *sd_ids)
    return found


async def looked_at(here: Here, disk: LocalDisk | None, *sd_ids: str) -> Looked:
    """Look at what LVM says nothing of."""
    if disk is None or not disk.ours:
        return Looked(disk, Found(Lease.NONE))
    alive = await _written(here, disk.volume_id)
    if disk.job_id is not None:
        alive = await here.jobs.alive(disk.job_id) or alive
        sd_ids = (*sd_ids, *await here.jobs.named_domains(disk.job_id))
    return Looked(disk, await here.leases.look(disk.job_id, *sd_ids), alive)


async def _written(here: Here, vol_id: str) -> bool:
    try:
        async with unwritten(here.disks, vol_id):
            return False
    except LocalDiskInUse:
        return True
