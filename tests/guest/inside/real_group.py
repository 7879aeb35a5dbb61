"""The volume group of the guest, for hosts that work on it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from processes import lvm_report
from processes.lvm_command import command
from processes.lvm_operation import Operation
from processes.lvm_report import LogicalVolume
from tests.agent_service import agent_folder
from tests.faults.command import command as commands
from tests.guest.inside.conftest import POOL
from tests.hook_runs import GroupHost


@dataclass(frozen=True)
class RealGroup:
    """A volume group of LVM, as tests.hook_runs.Group."""

    name: str

    @property
    def settings(self) -> dict[str, str]:
        return {"localdisk.volume_group": self.name, "localdisk.keep": "0"}

    def device(self, name: str) -> Path:
        return Path("/dev", self.name, name)

    def volumes(self) -> dict[str, LogicalVolume]:
        """Without the thin pool."""
        told = subprocess.check_output(command(Operation("volumes"), self.name, ()), timeout=120)
        return {one.name: one for one in lvm_report.volumes(told, self.name) if one.name != POOL}


RealHost: TypeAlias = GroupHost[RealGroup]


@contextmanager
def real_host(folder: Path, name: str) -> Iterator[RealHost]:
    """A host with that volume group. folder: on a disk, as leases are not kept in memory."""
    with commands(folder) as made, agent_folder() as sockets:
        yield GroupHost(made, sockets, RealGroup(name))
