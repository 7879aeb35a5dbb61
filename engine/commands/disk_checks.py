"""What a disk must be like before a command begins; in the transaction that makes the command."""

from sqlalchemy import Connection

from engine.db import called, disks, domains, snapshots, volumes
from engine.db.disks import Disk, Kind
from engine.db.domains import Domain
from engine.db.snapshots import Snapshot
from protocol.errors import InQuarantine, NotSupported, WrongState

MANAGED: Kind = "managed"


def active_domain(c: Connection, domain: str) -> Domain:
    """Raises NoSuchObject (4400), WrongState (4403): it is in maintenance."""
    found = domains.get(c, domain)
    if found.state != "active":
        raise WrongState("storage domain", found.name, found.state, "active")
    return found


def taken(c: Connection, disk: str, command: str, *, illegal: bool = False) -> Disk:
    """Lock a disk for a command; as it was before. illegal: one that is not whole will do, too.

    Raises NoSuchObject (4400), DiskLocked (4402), InQuarantine (4412), WrongState (4403): it is
    illegal, or its domain is in maintenance.
    """
    found = disks.get(c, disk)
    volume = volumes.find(c, found.volume) if found.volume is not None else None
    if volume is not None and volume.state == "kept":
        raise InQuarantine("disk", found.called)
    if found.state == "illegal" and not illegal:
        raise WrongState("disk", found.called, found.state, "ok")
    disks.lock(c, disk, command)
    active_domain(c, found.domain)
    return found


def none_kept(c: Connection, disk: str) -> None:
    """Raises InQuarantine (4412): it has a volume, used or not, that is kept."""
    for volume in volumes.of_disk(c, disk):
        if volume.state == "kept":
            raise InQuarantine("volume", volume.id)


def managed(disk: Disk, what: str) -> Disk:
    """Raises NotSupported (4413). what: "snapshots"."""
    if disk.kind != MANAGED:
        raise NotSupported(f"{what} of a disk in a data domain")
    return disk


def previewed(c: Connection, disk: str) -> Snapshot | None:
    """The snapshot whose content the disk has for a trial."""
    return next((one for one in snapshots.of_disk(c, disk) if one.state == "in_preview"), None)


def not_in_preview(c: Connection, disk: str) -> None:
    """Raises WrongState (4403)."""
    if previewed(c, disk) is not None:
        name = called.disk(c, disk)
        raise WrongState("disk", name, "in preview", "ok: commit or undo the preview first")
