"""Local disks of VMs on hosts, which forbid some of what may be done to the disk that they are
copies of. The rules are those of protocol/local_disk_policy.py."""

from typing import Any

import msgspec
import trio

from engine.commands.run import Run
from engine.host_view import HostView, connecting
from protocol.errors import BadOutput, CannotConnect, NoSuchObject, UnsupportedOperation
from protocol.local_disk_policy import Facts, Operation, judged, refusal

VERB = "LocalDisk.list"
TIME = 300.0  # seconds; LVM gets 60 of them, and leases are asked after that


class LocalCopy(msgspec.Struct, frozen=True):
    """One row of LocalDisk.list. vol_id, img_id: of what it is a copy of, as far as it is known."""

    vol_id: str
    img_id: str | None = None


async def check(run: Run, operation: Operation, *ids: str | None) -> None:
    """Raise UnsupportedOperation (2009): a host has a local copy of a volume or image with one of
    these ids, and so it may not be done.

    Hosts that are not connected cannot be asked; those that connect just now are waited for. Raises
    also what a host says that cannot look, and ConnectionLost: it did not answer.
    """
    if judged(operation, Facts(copy=True)).allowed:
        return
    await _met(run)
    for view in run.services.fleet.views():
        for one in await _copies(run, view):
            if one.img_id in ids or one.vol_id in ids:
                found = f"host {view.called} has local disk {one.vol_id}"
                raise UnsupportedOperation(f"{refusal(operation)}; {found}")


async def _met(run: Run) -> None:
    """Once every host has answered or not, as when the engine has just begun; bounded."""
    times, fleet = run.services.copies, run.services.fleet
    with trio.move_on_after(times.met):
        while connecting(fleet.views()):  # noqa: ASYNC110
            await trio.sleep(times.look)


async def _copies(run: Run, view: HostView) -> list[LocalCopy]:
    told = view.capabilities
    if not view.up or told is None or told.local_disk.backends == ():
        return []
    try:
        answer: Any = await run.services.fleet.call(view.id, VERB, timeout=TIME)
        return msgspec.convert(answer, list[LocalCopy])
    except (CannotConnect, NoSuchObject):  # it has just gone
        return []
    except msgspec.ValidationError as e:
        raise BadOutput(view.name, str(e)) from None
