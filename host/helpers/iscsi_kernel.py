"""Units of iSCSI targets as multipath devices of the kernel."""

from collections.abc import Iterable
from typing import Any

import trio

from endpoints.url import IscsiUrl
from host.helpers.failure import Failed
from leases.steps import reached
from processes import iscsiadm, multipath
from processes.iscsiadm import Credentials, Node
from protocol.errors import Error

DISK_TIME = 15.0  # seconds for a disk to appear after its session, and a device over it
LOOK = 0.1


async def usable() -> bool:
    """Without multipathd a disk has no name that is safe to use."""
    return await iscsiadm.usable() and await multipath.running()


async def attach(units: Iterable[IscsiUrl], credentials: Credentials | None) -> dict[str, Any]:
    """By all its paths that answer. Raises Failed, Error; undone then."""
    units = tuple(units)
    errors: list[str] = []
    for unit in units:
        try:
            await iscsiadm.make_record(_node(unit), credentials)
            reached("helper-attach", "record")
            await iscsiadm.log_in(_node(unit))
            reached("helper-attach", "session")
            iscsiadm.scan(_node(unit), unit.lun)
        except (Error, OSError) as e:
            errors.append(str(e))
    name = None if len(errors) == len(units) else await _device(units)
    if name is None:
        await detach(units)
        raise Failed("; ".join(errors) or "no multipath device appeared over its disks")
    disks = [disk for unit in units for disk in iscsiadm.disks(_node(unit), unit.lun)]
    return {
        "type": "block",
        "path": f"/dev/mapper/{name}",
        "multipath_id": name,
        "disks": disks,
    }


async def detach(units: Iterable[IscsiUrl]) -> None:
    """Remove the device, its disks, and the sessions that have no other disk.

    Raises the classes of ToolFailed: somebody has the device open; nothing was done then.
    """
    units = tuple(units)
    by_unit = {unit: iscsiadm.disks(_node(unit), unit.lun) for unit in units}
    disks = [disk for found in by_unit.values() for disk in found]
    for name in dict.fromkeys(name for disk in disks if (name := multipath.name_of(disk))):
        await multipath.flush(name)
        reached("helper-detach", "flush")
    for disk in disks:
        iscsiadm.remove(disk)
    reached("helper-detach", "disks")
    for node in dict.fromkeys(map(_node, units)):
        if not iscsiadm.disks(node):
            await iscsiadm.log_out(node)
            reached("helper-detach", "session")


async def _device(units: tuple[IscsiUrl, ...]) -> str | None:
    with trio.move_on_after(DISK_TIME):
        while True:
            for unit in units:
                for disk in iscsiadm.disks(_node(unit), unit.lun):
                    if name := multipath.name_of(disk):
                        return name
            await trio.sleep(LOOK)
    return None


def _node(unit: IscsiUrl) -> Node:
    host = f"[{unit.host}]" if ":" in unit.host else unit.host
    return Node(unit.target, f"{host}:{unit.port}")
