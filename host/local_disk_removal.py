"""Local disks are removed: those that somebody names, and those that nothing needs."""

import time
from collections.abc import Collection
from dataclasses import dataclass, replace

import structlog
import trio

from endpoints.local import changing, unwritten
from endpoints.locks import held
from host.local_disk_here import Here
from host.local_disk_judge import Known, Lease, unused
from host.local_disk_look import Looked, look, looked_at
from host.local_disk_request import Unused
from leases.steps import reached
from protocol.errors import (
    BadParameter,
    Error,
    LocalDiskInUse,
    LocalDiskRefused,
    LocalDiskUncertain,
)

log = structlog.get_logger()

# Seconds; a copy that is past its abort has a minute to say that it has succeeded.
ABORT_TIME = 90.0
GONE_TIME = 10.0
GONE_LOOK = 0.1


async def remove(
    here: Here, *, vol_id: str | None = None, vm_id: str | None = None, abort: bool = False
) -> list[str]:
    """Remove one disk, or those of a VM; one that is not there is removed already.

    Both: the disk, if it is one of that VM. abort: end the copy that fills it first, or wait for
    its end. Returns the names of those that were removed. All are tried; then the first error is
    raised.
    Raises LocalDiskInUse (4301): it is open, or a copy fills it; LocalDiskUncertain (4302);
    LocalDiskRefused (4300): it is none of ours; what LVM says.
    """
    if vol_id is None and vm_id is None:
        raise BadParameter("vol_id", "name a disk, or a VM")
    names = [vol_id] if vol_id is not None else []
    if vol_id is None:
        names = [disk.volume_id for disk in await here.disks.all() if disk.vm_id == vm_id]
    removed, errors = [], list[Error | OSError]()
    for name in names:
        try:
            if await _removed_one(here, name, vm_id, abort=abort):
                log.info("local disk removed", local_disk=name, vm=vm_id)
                removed.append(name)
        except (Error, OSError) as e:
            # It is raised, unless that of another disk is: those of a VM do not depend on another.
            if len(names) > 1:
                log.warning("local disk not removed", local_disk=name, vm=vm_id, error=str(e))
            errors.append(e)
    if errors:
        raise errors[0]
    return removed


async def gc(
    here: Here, *, dry_run: bool = False, vms: Collection[str] | None = None
) -> list[Unused]:
    """Remove what nothing needs: disks of copies that no longer live and, when the ids of all VMs
    that there are is given, of VMs that there are not. Never one that is open, being filled, or
    was prepared in the last minutes (localdisk.keep)."""
    found = []
    # Before the disks: a lease is made after the disk that names it, and so is its note.
    leases = [*await here.leases.all_own(), *await here.leases.noted()]
    disks = await here.disks.all()
    for disk in disks:
        reason = _unused(here, await looked_at(here, disk), vms)
        if reason is not None:
            found.append(Unused(disk.volume_id, disk.vm_id, reason))
    if dry_run:
        return found
    named = {disk.job_id for disk in disks}
    for job_id in leases:
        # A disk that was removed by hand leaves a job that is still to find that out.
        if job_id not in named and not await here.jobs.alive(job_id):
            await here.leases.forget(job_id)
    return [await _collected(here, one, vms) for one in found]


async def remove_found(here: Here, found: Looked) -> None:
    """Remove a disk to which nobody writes. For who holds its lock and has judged it."""
    disk = found.found
    async with unwritten(here.disks, disk.volume_id):
        # First: without the disk nothing would name it. A disk without its lease is still removed.
        if disk.job_id is not None and found.lease.lease is not Lease.MISSING:
            await here.leases.forget(disk.job_id)
            reached("prepare", "forgotten")
        await here.disks.remove(disk)
    reached("prepare", "removed")


async def _removed_one(here: Here, name: str, vm_id: str | None, *, abort: bool) -> bool:
    """False: there is none, or none of this VM."""
    tried = await _removed_idle(here, name, vm_id)
    if abort and tried.busy and tried.job_id is not None:
        tried = await _removed_after(here, name, vm_id, tried.job_id)
        words = f"job {tried.job_id} has not let go of it, though it was asked to stop"
    else:
        words = f"job {tried.job_id} fills it: abort that first"
    if tried.busy:
        raise LocalDiskInUse(name, words, tried.job_id)
    return tried.removed


@dataclass(frozen=True)
class _Tried:
    """A removal. busy: it was not done, because a copy writes to the disk, or is about to; job_id:
    of that copy, where it is known."""

    removed: bool = False
    busy: bool = False
    job_id: str | None = None


async def _removed_after(here: Here, name: str, vm_id: str | None, job_id: str) -> _Tried:
    """Remove it once its copy has ended: it is aborted, unless it is past that. Bounded."""
    with trio.move_on_after(ABORT_TIME):
        await here.jobs.abort(job_id)
    # What its process has started, or the kernel has of it, lets go a moment after it.
    end = trio.current_time() + GONE_TIME
    while (tried := await _removed_idle(here, name, vm_id)).busy:
        if tried.job_id != job_id or trio.current_time() > end:  # another start copies it anew
            break
        await trio.sleep(GONE_LOOK)
    return tried


async def _removed_idle(here: Here, name: str, vm_id: str | None) -> _Tried:
    """Remove it, unless a copy writes to it."""
    async with held([changing(here.disks, name)]):
        found = await look(here, name)
        if found.disk is None or (vm_id is not None and found.disk.vm_id != vm_id):
            return _Tried()
        if not found.disk.ours:
            raise LocalDiskRefused(name, "it is no local disk, and is left alone")
        if found.alive or found.lease.lease is Lease.OWNED:
            return _Tried(busy=True, job_id=found.job_id)
        return _Tried(removed=await _removed_still(here, found))


async def _removed_still(here: Here, found: Looked) -> bool:
    """Remove a disk that nobody fills, whatever is in it: that was asked for."""
    disk = found.found
    if disk.open:
        raise LocalDiskInUse(disk.volume_id, "somebody has it open", disk.job_id)
    if disk.filling and found.lease.lease is Lease.UNKNOWN:
        raise LocalDiskUncertain(disk.volume_id, str(disk.job_id), "its lease cannot be read")
    await _fence_dead(here, found)
    await remove_found(here, found)
    return True


async def _fence_dead(here: Here, found: Looked) -> None:
    """Raises LocalDiskInUse: the job that fills it has just begun again."""
    if found.lease.lease is not Lease.PENDING or found.job_id is None:
        return
    if not await here.leases.fence(found.lease, found.job_id):
        # In the domain in which it was found, whichever that is.
        again = await looked_at(here, found.found)
        if again.lease.lease is Lease.OWNED:
            name = found.found.volume_id
            raise LocalDiskInUse(name, f"job {found.job_id} fills it", found.job_id)


async def _collected(here: Here, one: Unused, vms: Collection[str] | None) -> Unused:
    """Judge it again, under its lock, and remove it."""
    async with held([changing(here.disks, one.vol_id)]):
        try:
            found = await look(here, one.vol_id)
            reason = _unused(here, found, vms)
            if reason is None:
                return replace(one, failed="it is needed again")
            await _fence_dead(here, found)
            await remove_found(here, found)
        except (Error, OSError) as e:
            log.warning("local disk not removed", local_disk=one.vol_id, error=str(e))
            return replace(one, failed=str(e))
    log.info("local disk removed: nothing needs it", local_disk=one.vol_id, reason=reason)
    return replace(one, removed=True, reason=reason)


def _unused(here: Here, found: Looked, vms: Collection[str] | None) -> str | None:
    disk = found.disk
    if disk is None:
        return None
    age = None if disk.prepared is None else time.time() - disk.prepared
    return unused(Known(found.facts, disk.vm_id, age), here.config.localdisk.keep, vms)
