"""LVM: the logical volumes of one volume group, those of local disks.

Who calls needs no root when there is a privileged helper, which does what processes/lvm_operation
says and nothing else. Source: lvm(8), version 2.03.16; docs/localdisk.md.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import trio

from processes import lvm_names, lvm_report
from processes.lvm_command import command
from processes.lvm_operation import READ_TIME, READS, STALLED, Operation
from processes.lvm_report import LogicalVolume, ThinPool, VolumeGroup
from processes.tool import Limits, run
from protocol.errors import (
    LocalDiskInUse,
    NoSuchLocalDisk,
    ToolFailed,
    ToolStalled,
    VolumeGroupMissing,
)

QUICK = Limits(seconds=60)  # longer than READ_TIME: a helper that we may not end has given up
LONG = Limits(seconds=600)  # a thin volume is removed block by block
DEV = "/dev"
_SYSTEM_DIR = "LVM_SYSTEM_DIR"
# Somebody runs LVM's own program in the middle of a change: it must come to its end, or a device
# may be left suspended, and whoever reads it hangs. So it does not die with us (setpriv(1)).
_ALONE = ("setpriv", "--pdeathsig", "clear")
_NO_GROUP = re.compile(r'Volume group "[^"]*" not found')
_NO_VOLUME = re.compile(r"Failed to find logical volume")
_IN_USE = re.compile(r"is used by another device|in use")


@dataclass(frozen=True)
class Lvm:
    """A volume group. devices: nothing but these is looked at; empty: as lvm.conf says. helper: the
    words before the operation for the privileged helper; empty: LVM is run as it is, by root. dev:
    the folder of devices.

    Every method raises BadParameter for what may not be said to LVM, before anything is done;
    ToolMissing, ToolStalled, BadOutput, VolumeGroupMissing and the classes of ToolFailed.
    """

    volume_group: str
    devices: tuple[str, ...] = ()
    helper: tuple[str, ...] = ()
    dev: str = DEV

    def __post_init__(self) -> None:
        lvm_names.group(self.volume_group)
        for device in self.devices:
            lvm_names.device(device)

    def path(self, name: str) -> str:
        """Of the device of a logical volume, which is there while it is active."""
        return f"{self.dev}/{self.volume_group}/{name}"

    async def volumes(self) -> list[LogicalVolume]:
        """All of the group, whatever they are."""
        return lvm_report.volumes(await self.do(Operation("volumes")), self.volume_group)

    async def volume(self, name: str) -> LogicalVolume | None:
        """None: there is none of this name. The group is there."""
        found = lvm_report.volumes(await self.do(Operation("volume", name)), self.volume_group)
        return found[0] if found else None

    async def group(self) -> VolumeGroup | None:
        """None: there is no such group."""
        return lvm_report.volume_group(await self.do(Operation("group")), self.volume_group)

    async def pool(self, name: str) -> ThinPool | None:
        """None: there is no thin pool of this name. The group is there."""
        return lvm_report.pool(await self.do(Operation("pool", name)), self.volume_group)

    async def create(self, name: str, size: int, tags: Iterable[str], pool: str | None) -> None:
        """A new, active volume of `size` bytes, rounded up to extents; thin when a pool is named.

        A thin one reads as zeros. A linear one holds whatever was there before.
        """
        await self.do(Operation("create", name, size, pool, tuple(tags)))

    async def change_tags(
        self, name: str, having: Iterable[str], add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> None:
        """All of them at once. A tag that is there, or not there, already is no error.

        having: here and below, one of them IU_ and the id of an image. A volume that has not all of
        these tags is left as it is, without an error. Raises NoSuchLocalDisk: there is none.
        """
        changed = Operation(
            "change", name, add=tuple(add), remove=tuple(remove), having=tuple(having)
        )
        await self.do(changed)

    async def activate(self, name: str, having: Iterable[str]) -> None:
        """Make its device. One that is active already stays so."""
        await self.do(Operation("activate", name, having=tuple(having)))

    async def deactivate(self, name: str, having: Iterable[str]) -> None:
        """Raises LocalDiskInUse: it is open; it stays as it was."""
        await self.do(Operation("deactivate", name, having=tuple(having)))

    async def remove(self, name: str, having: Iterable[str]) -> None:
        """Raises LocalDiskInUse: it is open; it stays as it was."""
        await self.do(Operation("remove", name, having=tuple(having)))

    async def activate_pool(self, name: str) -> None:
        """Only of an active one it is known how full it is."""
        await self.do(Operation("wake", name))

    async def do(self, operation: Operation) -> bytes:
        """What LVM printed. A change that has begun is never cut off by a cancellation."""
        argv = self._argv(operation)
        try:
            if operation.verb in READS:
                return await run(argv, limits=QUICK, environment=_said())
            printed = b""
            with trio.CancelScope(shield=True):
                printed = await run(argv, limits=LONG, environment=_said())
            return printed
        except ToolFailed as e:
            if self.helper and operation.verb in READS and e.status == STALLED:
                raise ToolStalled("lvm", READ_TIME) from None
            raise named(e, self.volume_group, operation) from None

    def _argv(self, operation: Operation) -> list[str]:
        if self.helper:
            return [*self.helper, *operation.words()]
        words = command(operation, self.volume_group, self.devices)
        return words if operation.verb in READS else [*_ALONE, *words]


def _said() -> dict[str, str]:
    """What LVM is told besides: not to warn of our own descriptors, and another folder of its
    configuration when that is wanted of us."""
    kept = {_SYSTEM_DIR: os.environ[_SYSTEM_DIR]} if _SYSTEM_DIR in os.environ else {}
    return {"LVM_SUPPRESS_FD_WARNINGS": "1", **kept}


def named(error: ToolFailed, group: str, operation: Operation) -> Exception:
    """The error of our own for what LVM said, if there is one."""
    if _NO_GROUP.search(error.detail):
        return VolumeGroupMissing(group)
    if _NO_VOLUME.search(error.detail):
        return NoSuchLocalDisk(operation.name)
    if operation.verb in ("remove", "deactivate") and _IN_USE.search(error.detail):
        return LocalDiskInUse(operation.name, error.detail)
    # What LVM is run by has ended as LVM did.
    return replace(error, tool="lvm") if error.tool == _ALONE[0] else error
