"""Local disks of VMs on hosts, which forbid some of what may be done to the disk that they are
copies of. The rules are those of protocol/local_disk_policy.py."""

from typing import Any

import msgspec

from engine.commands.run import Run
from engine.host_view import HostView
from protocol.errors import (
    BadOutput,
    CannotConnect,
    ConnectionLost,
    NoSuchObject,
    UnsupportedOperation,
)
from protocol.local_disk_policy import Facts, Operation, judged, refusal

VERB = "LocalDisk.list"


class LocalCopy(msgspec.Struct, frozen=True):
    """One row of LocalDisk.list. img_id: of the image that it is a copy of, if that is known."""

    vol_id: str
    img_id: str | None = None


async def check(run: Run, operation: Operation, image: str) -> None:
    """Raise UnsupportedOperation (2009): a host has a local copy of the image, and so it may not be
    done. Hosts that cannot be asked now are left out; their local disks stay what they are. Raises
    also what a host says that cannot look."""
    if judged(operation, Facts(copy=True)).allowed:
        return
    for view in run.services.fleet.views():
        for one in await _copies(run, view):
            if one.img_id == image:
                found = f"host {view.called} has local disk {one.vol_id}"
                raise UnsupportedOperation(f"{refusal(operation)}; {found}")


async def _copies(run: Run, view: HostView) -> list[LocalCopy]:
    if not view.up or view.capabilities is None or not view.capabilities.local_disk.backends:
        return []
    try:
        told: Any = await run.services.fleet.call(view.id, VERB)
        return msgspec.convert(told, list[LocalCopy])
    except (CannotConnect, ConnectionLost, NoSuchObject):  # it has just gone
        return []
    except msgspec.ValidationError as e:
        raise BadOutput(view.name, str(e)) from None
