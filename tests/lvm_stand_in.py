"""The stand-in for LVM of tests.local_disks, as an Lvm in this process."""

from dataclasses import dataclass, field
from pathlib import Path

import trio

from processes.lvm import Lvm, named
from processes.lvm_operation import Operation
from protocol.errors import ToolFailed
from tests.local_disks import StandIn


@dataclass(frozen=True)
class LvmStandIn(Lvm):
    """An Lvm that speaks with no LVM."""

    stand_in: StandIn = field(default_factory=lambda: StandIn(Path()))

    async def do(self, operation: Operation) -> bytes:
        await trio.lowlevel.checkpoint()
        try:
            return self.stand_in.answer(operation)
        except ToolFailed as e:
            raise named(e, self.volume_group, operation) from None
