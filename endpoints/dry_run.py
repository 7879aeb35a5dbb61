"""What a copy would do: the plan, with everything checked that can be checked without writing."""

import os
from typing import Any

import trio

from endpoints.copy import allocation_of
from endpoints.copy_data import CopyRequest, checked
from endpoints.disk import Disk
from endpoints.plan import Plan, reasons
from endpoints.url import PathUrl
from processes import qemu_img
from protocol.errors import TooSmall


async def dry_run(request: CopyRequest) -> dict[str, Any]:
    """Look at both ends and tell what would be done. Writes nothing, takes no lock and no lease.

    Returns source {url, format, kind, virtual_size, data}, target {url, format, kind, exists,
    size, free}, needed (bytes that the target will take), tool, path_taken, why. Sizes in bytes,
    None where they do not apply. Raises what a copy raises before its job, and TooSmall when a
    file would not fit into its file system.
    """
    plan = await checked(request)
    data = (await allocation_of(plan.source)).total
    needed = await _needed(plan, data)
    free = await trio.to_thread.run_sync(_free, plan)
    if free is not None and needed > free:
        raise TooSmall(os.path.dirname(str(plan.target.url)), needed, free)
    exists = isinstance(plan.target, Disk)
    return {
        "source": {
            "url": str(plan.source.url),
            "format": plan.source.format,
            "kind": plan.source.kind,
            "virtual_size": plan.source.size,
            "data": data,
        },
        "target": {
            "url": str(plan.target.url),
            "format": plan.target.format,
            "kind": plan.target.kind,
            "exists": exists,
            "size": plan.target.size if isinstance(plan.target, Disk) else plan.source.size,
            "free": free,
        },
        "needed": needed,
        "tool": plan.tool,
        "path_taken": plan.path_taken,
        "why": reasons(plan),
    }


async def _needed(plan: Plan, data: int) -> int:
    if plan.target.format == "qcow2":
        return (await qemu_img.measure(plan.source.node, "qcow2")).required
    return data


def _free(plan: Plan) -> int | None:
    """Bytes that a target file can take: free space, and what it has already. None: no file."""
    target = plan.target
    if target.kind != "file" or not isinstance(target.url, PathUrl):
        return None
    path = target.url.path
    space = os.statvfs(os.path.dirname(path))
    own = os.stat(path).st_blocks * 512 if isinstance(target, Disk) else 0
    return space.f_bavail * space.f_frsize + own
