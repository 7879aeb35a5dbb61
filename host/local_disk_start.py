"""What the agent does at its start with local disks that nothing needs: their copy died with it, or
before, or their VM was deleted meanwhile."""

import structlog

from host.local_disk_here import in_agent
from host.local_disk_removal import gc
from host.local_disk_rights import none_here
from host.local_disk_vms import known
from host.this_host import ThisHost
from protocol.errors import Error, ToolMissing, VolumeGroupMissing

log = structlog.get_logger()


async def look_after_start(host: ThisHost) -> None:
    """Tell of them, or remove them, as localdisk.gc says. Nothing that goes wrong stops the agent;
    most hosts have no local disks."""
    wanted = host.config.localdisk.gc
    if wanted == "off":
        return
    try:
        if await none_here(host.config.localdisk):
            log.debug("no local disks", reason="this user may not ask LVM, and sees no such group")
            return
        here = in_agent(host)
        found = await gc(here, dry_run=wanted == "log", vms=await _vms(host))
    except (VolumeGroupMissing, ToolMissing) as e:
        log.debug("no local disks", reason=str(e))
        return
    except (Error, OSError) as e:
        log.warning("local disks not looked at", error=str(e))
        return
    for one in found:
        log.warning("local disk is not needed", **one.to_rpc())


async def _vms(host: ThisHost) -> list[str] | None:
    try:
        return await known(host.config)
    except Error as e:
        log.warning("VMs not known, their local disks are all taken to be needed", error=str(e))
        return None
