"""CopyDataLocalDiskEndpoint: a logical volume of this host that a VM is to use for its disk."""

import logging
import os
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import NoReturn

import trio

from endpoints import disk
from endpoints.disk import Disk, Target
from endpoints.locks import Lock, Mode, any_taken, held
from endpoints.tracked import SUCCEED_TIME, JobFacts, TrackedLease
from endpoints.url import PathUrl
from leases.grant import Grant
from leases.steps import reached
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    LocalDiskChanged,
    LocalDiskInUse,
    NoSuchLocalDisk,
    ReadOnly,
    ToolStalled,
    UnsupportedOperation,
)
from protocol.messages import LocalEndpoint
from protocol.record import Expectation
from storage.image import Policy
from storage.local_disks import LocalDisks

log = logging.getLogger(__name__)

NAMESPACE = "localdisk"
READY_TIME = 600.0  # seconds; as long a look at LVM that stalls is tried again
_WAY_OUT = (
    "without root it is opened by a member of the group that 57-leasehold-localdisk.rules names;"
    " packaging/rootless/install has udev follow that rule"
)


def changing(disks: LocalDisks, vol_id: str) -> Lock:
    """Held by whoever looks at a local disk in order to change it, for as long as that takes.

    Not while it is filled: who wants it meanwhile must be able to see that.
    """
    return Lock(NAMESPACE, f"{disks.lvm.volume_group}/{vol_id}", Mode.EXCLUSIVE)


def allotting(disks: LocalDisks) -> Lock:
    """Held by whoever looks for room in the thin pool and makes a disk there, one at a time."""
    return Lock(NAMESPACE, disks.lvm.path("allotting"), Mode.EXCLUSIVE)


def beginning(disks: LocalDisks, vol_id: str, mode: Mode) -> Lock:
    """Held for writing from before a local disk is made until its job is known to this host."""
    return Lock(NAMESPACE, f"{disks.path(vol_id)}/beginning", mode)


@asynccontextmanager
async def unwritten(disks: LocalDisks, vol_id: str) -> AsyncGenerator[None]:
    """No copy of this host writes to a local disk in the body. Raises LocalDiskInUse (4301)."""

    def busy(lock: Lock) -> NoReturn:
        raise LocalDiskInUse(vol_id, "a copy writes to it")

    async with held(_target_locks(disks, vol_id), busy):
        yield


def is_written(disks: LocalDisks, vol_id: str) -> bool:
    """Does a copy of this host write to a local disk, or is it looked at as by `unwritten`?"""
    return any_taken(_target_locks(disks, vol_id))


def _target_locks(disks: LocalDisks, vol_id: str) -> list[Lock]:
    return disk.locks(PathUrl(disks.path(vol_id)), Mode.EXCLUSIVE)


def _raw_target(url: PathUrl, needed: int) -> Disk:
    """Raises as endpoints.disk.raw_target; ReadOnly names the rule that is missing."""
    try:
        return disk.raw_target(url, needed)
    except ReadOnly as e:
        if os.access(url.path, os.R_OK | os.W_OK):
            raise
        raise ReadOnly(url.path, f"{e.reason}: {_WAY_OUT}") from None


@dataclass(frozen=True)
class CopyDataLocalDiskEndpoint:
    """The target of a copy, as its message described it.

    job_id: of the copy; the volume must say that it is this job's to fill.
    """

    message: LocalEndpoint
    disks: LocalDisks
    job_id: str

    @property
    def vol_id(self) -> str:
        return str(self.message.vol_id)

    @property
    def url(self) -> PathUrl:
        return PathUrl(self.disks.path(self.vol_id))

    def locks(self, mode: Mode) -> list[Lock]:
        """The host-wide locks that keep two copies away from one device."""
        return disk.locks(self.url, mode)

    async def source(self, policy: Policy) -> Disk:
        """Raises UnsupportedOperation (2009): it is what a VM writes to."""
        raise UnsupportedOperation("a local disk is the destination of a copy")

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        """Raises NoSuchLocalDisk (4303), LocalDiskChanged, TooSmall; ImageMissing: it is not
        active; ReadOnly: its device is not ours to open; and what LVM says."""
        found = await self.disks.find(self.vol_id)
        if found is None:
            raise NoSuchLocalDisk(self.vol_id)
        if not found.filling or found.job_id != self.job_id:
            raise LocalDiskChanged(self.vol_id, f"it is not filled by job {self.job_id}")
        target = await trio.to_thread.run_sync(_raw_target, self.url, needed)
        # A new thin volume reads as zeros. A linear one holds what was there before, wherever that
        # may be: what its beginning looks like says nothing, and what lies behind the source's end,
        # up to the next extent, would be another VM's.
        thin = found.backend == "lvmthin"
        return replace(target, sparse=thin, clear_tail=not thin, blank=found.blank)

    def tracked(self, store: Store, job: JobFacts) -> "TrackedLocalDisk":
        """The tracking of a copy to here: the record of its lease, and the tag UPDATING."""
        message = self.message
        expected = Expectation(job.job_id, message.generation)
        lease = TrackedLease(store, message.lease.lease_id, expected, job)
        return TrackedLocalDisk(lease, self.disks, self.vol_id, job.job_id)


class TrackedLocalDisk:
    """UPDATING as long as the content is not whole and on disk; then the record of the lease.

    Who finds no UPDATING may use the disk, whatever the record says.
    """

    def __init__(self, lease: TrackedLease, disks: LocalDisks, vol_id: str, job_id: str) -> None:
        self._lease = lease
        self._disks = disks
        self._vol_id = vol_id
        self._job_id = job_id

    def taken_up(self) -> AbstractAsyncContextManager[Grant]:
        return self._lease.taken_up()

    async def succeed(self, grant: Grant) -> None:
        """The data is on disk: say so on the disk first, then in the record.

        Raises AcquireLockFailure (651): somebody keeps the disk from being changed; LeaseLost,
        LocalDiskChanged: it is not ours any more; ToolStalled: LVM was busy all the time; what LVM
        says.
        """
        lock = changing(self._disks, self._vol_id)
        async with AsyncExitStack() as locked:
            with trio.move_on_after(SUCCEED_TIME) as waiting:
                await locked.enter_async_context(held([lock]))
            if waiting.cancelled_caught:
                raise AcquireLockFailure(str(lock), f"it was not to be had in {SUCCEED_TIME:g} s")
            await self._ready(grant)
        reached("local", "ready")
        await self._lease.succeed(grant)
        reached("local", "recorded")

    async def _ready(self, grant: Grant) -> None:
        """Drop the mark, however busy LVM is: the copy may have taken hours."""
        give_up = trio.current_time() + READY_TIME
        while True:
            # A lease that was lost may have been fenced, and the disk given to another copy.
            await grant.check()
            try:
                await self._disks.ready(self._vol_id, self._job_id)
                return
            except ToolStalled as e:
                if trio.current_time() >= give_up:
                    raise
                log.warning("local disk %s is not marked as ready yet: %s", self._vol_id, e)

    async def fail_early(self, error: BaseException) -> None:
        await self._lease.fail_early(error)
