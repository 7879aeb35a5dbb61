"""Units of iSCSI targets as multipath devices of the kernel."""

import errno
import os
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from endpoints.locks import Lock, Mode, held
from endpoints.url import IscsiUrl
from host.helpers.failure import Failed, Unsure
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
    """By all its paths that answer. Raises Failed, Error; undone then. Unsure: it is not."""
    units = tuple(units)
    async with _turn(units):
        return await _attached(units, credentials)


async def detach(units: Iterable[IscsiUrl]) -> None:
    """Remove the device, its disks, and the sessions that have no other disk.

    Raises the classes of ToolFailed, OSError: somebody has the device, or a disk of it that did
    not become one, open; that is still there then.
    """
    units = tuple(units)
    async with _turn(units):
        await _detached(units)


def _turn(units: tuple[IscsiUrl, ...]) -> AbstractAsyncContextManager[int]:
    """One program at a time begins or ends sessions of a target: who ends one has seen that it has
    no disk, and another may just be waiting for its own to appear there."""
    nodes = {_node(unit) for unit in units}
    names = [f"{node.target} {node.portal}" for node in nodes]
    return held(Lock("iscsi session", name, Mode.EXCLUSIVE) for name in names)


async def _attached(units: tuple[IscsiUrl, ...], credentials: Credentials | None) -> dict[str, Any]:
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
        reason = "; ".join(errors) or "no multipath device appeared over its disks"
        try:
            await _detached(units)
        except (Error, OSError) as e:
            raise Unsure(f"{reason}; it could not be undone: {e}") from None
        raise Failed(reason)
    disks = [disk for unit in units for disk in iscsiadm.disks(_node(unit), unit.lun)]
    return {
        "type": "block",
        "path": f"/dev/mapper/{name}",
        "multipath_id": name,
        "disks": disks,
    }


async def _detached(units: tuple[IscsiUrl, ...]) -> None:
    by_unit = {unit: iscsiadm.disks(_node(unit), unit.lun) for unit in units}
    disks = [disk for found in by_unit.values() for disk in found]
    for name in dict.fromkeys(name for disk in disks if (name := multipath.name_of(disk))):
        await multipath.flush(name)
        reached("helper-detach", "flush")
    for disk in disks:
        if iscsiadm.in_use(disk):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"/dev/{disk}")
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
