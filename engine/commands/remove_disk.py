"""remove_disk: a disk with all of its volumes and snapshots.

On storage: first the snapshots are removed, then the volumes, the one that is used last; each of
these can be repeated, and what is gone already is no error. If one of them fails the command fails,
and looks what is left: a disk whose volume is there is "ok" again, with the snapshots that are
left; any other one is "illegal": it can be removed again, and nothing else. Nothing is removed of a
disk whose volume is attached to a host, or whose attachment is in quarantine, or of which a host
has a local copy.
"""

from functools import partial

from sqlalchemy import Connection

from engine.commands import image_volumes, local_copies, managed_volumes
from engine.commands.disk_checks import MANAGED, none_kept, not_in_preview, taken
from engine.commands.run import Run
from engine.commands.specs import RemoveDisk
from engine.commands.stage import CommandType, Facts, Stage
from engine.db import disks, snapshots, volumes
from engine.db.disks import Disk
from engine.db.snapshots import Snapshot
from engine.db.volumes import Volume
from protocol.errors import Error, InQuarantine
from protocol.local_disk_policy import Operation


def begin(c: Connection, spec: RemoveDisk, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403): it is in preview; StillUsed
    (4406), InQuarantine (4412)."""
    taken(c, spec.disk, command, illegal=True)
    not_in_preview(c, spec.disk)
    for snapshot in snapshots.of_disk(c, spec.disk):
        if snapshot.state == "kept":
            raise InQuarantine("snapshot", snapshot.id)
    none_kept(c, spec.disk)
    for volume in volumes.of_disk(c, spec.disk):
        managed_volumes.must_be_unattached(c, volume.id)
        volumes.move(c, volume.id, "removing")


async def look(run: Run) -> Facts:
    disk = await run.read(lambda c: disks.get(c, run.spec.disk))
    await _check(run)
    return {"disk": disk.id, "domain": disk.domain}


async def look_again(run: Run) -> None:
    """What is left is "ok" if it can be used."""
    disk, _, its_volumes = await _all(run)
    there = {one.id: await _is_there(run, disk, one) for one in its_volumes}

    def write(c: Connection) -> None:
        for volume, is_there in there.items():
            if is_there:
                volumes.move(c, volume, "ok")
            elif is_there is False and volume != disk.volume:
                managed_volumes.forget(c, volume)
        if not there.get(disk.volume or ""):
            disks.unlock(c, disk.id, run.id, status="illegal")

    run.together(write)


async def remove_snapshots(run: Run) -> None:
    _, its_snapshots, _ = await _all(run)
    for one in reversed(its_snapshots):
        if one.adapter_id is not None:
            domain = run.facts["domain"]
            await managed_volumes.snapshot_removed(run, domain, one.volume, one.adapter_id)
        await run.write(partial(managed_volumes.forget_snapshot, snapshot=one.id))


async def delete(run: Run) -> None:
    if not run.resumed:  # it may be long since `look`
        await _check(run)
    disk, _, its_volumes = await _all(run)
    if disk.kind != MANAGED:
        assert disk.image is not None
        ids = [one.id for one in its_volumes]
        return await image_volumes.deleted(run, disk.domain, disk.image, volumes=ids)
    for one in sorted(its_volumes, key=lambda one: one.id == disk.volume):
        await managed_volumes.deleted(run, one.domain, one.id)


async def forget(run: Run) -> None:
    disk = run.spec.disk

    def write(c: Connection) -> None:
        for volume in volumes.of_disk(c, disk):
            volumes.remove(c, volume.id)
        disks.remove(c, disk)

    run.together(write)


async def _check(run: Run) -> None:
    disk, _, its_volumes = await _all(run)
    ids = (disk.id, disk.image, *(one.id for one in its_volumes))
    await local_copies.check(run, Operation.DELETE_DISK, *ids)


async def _all(run: Run) -> tuple[Disk, list[Snapshot], list[Volume]]:
    id = run.spec.disk
    return await run.read(
        lambda c: (disks.get(c, id), snapshots.of_disk(c, id), volumes.of_disk(c, id))
    )


async def _is_there(run: Run, disk: Disk, volume: Volume) -> bool | None:
    """None: it cannot be told."""
    try:
        if disk.kind == MANAGED:
            storage = await run.services.storage(disk.domain)
            return await managed_volumes.is_there(storage, volume.id)
        assert disk.image is not None
        return await image_volumes.is_there(run, disk.domain, disk.image, volume.id)
    except (Error, OSError):
        return None


REMOVE_DISK = CommandType(
    "remove_disk",
    RemoveDisk,
    (
        Stage(
            "look",
            look,
            look_again,
            title="looking what is to be removed",
            undone="looks what is left: the disk is ok, or illegal",
        ),
        Stage("snapshots", remove_snapshots, title="removing snapshots"),
        Stage("delete", delete, title="deleting volumes"),
        Stage("forget", forget, title="forgetting the disk"),
    ),
    begin,
    title="removing a disk",
)
