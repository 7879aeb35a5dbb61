"""Multipath devices. Source: multipath(8); of the device mapper in sysfs, dm/uuid and dm/name."""

import shutil
from pathlib import Path

from processes.tool import Limits, run
from protocol.errors import ToolFailed, ToolMissing, ToolStalled

BLOCK = Path("/sys/block")
TIME = Limits(seconds=30)
_UUID = "mpath-"


async def running() -> bool:
    """Does multipathd make one device of several paths on this host?"""
    if shutil.which("multipathd") is None:
        return False
    try:
        await run(["multipathd", "show", "status"], limits=Limits(seconds=5))
    except (ToolFailed, ToolMissing, ToolStalled):
        return False
    return True


def name_of(disk: str) -> str | None:
    """The name in /dev/mapper of the multipath device over a disk such as `sda`, if it has one."""
    holders = BLOCK / disk / "holders"
    for holder in sorted(holders.iterdir()) if holders.is_dir() else ():
        try:
            if (holder / "dm" / "uuid").read_text().startswith(_UUID):
                return (holder / "dm" / "name").read_text().strip()
        except OSError:
            continue  # it is just going
    return None


async def flush(name: str) -> None:
    """Remove the device. Raises the classes of ToolFailed: `map in use`, say."""
    await run(["multipath", "-f", name], limits=TIME)
