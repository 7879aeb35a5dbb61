"""add_disk: an empty disk, of a managed domain or an image of a data domain.

On storage: one volume is made, with an id that stands in the database before. If anything fails it
is deleted by that id, so that nothing is left that nobody knows. A volume that could not be deleted
stays known, in quarantine, and its disk stays locked.
"""

import time

from sqlalchemy import Connection

from engine.commands import image_places, image_volumes, managed_volumes
from engine.commands.disk_checks import MANAGED, active_domain
from engine.commands.run import Run
from engine.commands.specs import AddDisk
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.db import disks, volumes
from engine.db.disks import Disk, Kind
from engine.db.volumes import Volume
from engine.names import checked_name, checked_text
from protocol.errors import BadParameter
from protocol.managed import GIB, gib_of

LARGEST = 1 << 50  # bytes
IMAGE: Kind = "image"
SECTOR = 512


def begin(c: Connection, spec: AddDisk, command: str) -> None:
    """Raises NoSuchObject (4400), WrongState (4403), BadParameter (1000), InQuarantine (4412)."""
    checked_name("name", spec.name)
    checked_text("description", spec.description)
    if not 0 < spec.size <= LARGEST:
        raise BadParameter("size", f"1 to {LARGEST} bytes")
    is_managed = active_domain(c, spec.domain).kind != "data"
    if is_managed and spec.format != "raw":
        raise BadParameter("format", "managed disks are raw")
    disk = Disk(
        spec.disk,
        spec.name,
        spec.description,
        size=size_of(spec.size, managed=is_managed),
        domain=spec.domain,
        kind=MANAGED if is_managed else IMAGE,
        format=spec.format,
        sparse=spec.sparse,
        volume=spec.volume,
        image=None if is_managed else spec.disk,  # as oVirt: the image has the id of the disk
        state="locked",
        locked_by=command,
        created=time.time(),
    )
    disks.add(c, disk)
    if disk.image is not None:
        image_places.must_be_new(c, disk.domain, disk.image)
    volumes.add(c, first_volume(disk, command))


def size_of(size: int, *, managed: bool) -> int:
    """The bytes that a disk gets: whole GiB, or whole sectors."""
    return gib_of(size) * GIB if managed else -(-size // SECTOR) * SECTOR


def first_volume(disk: Disk, command: str) -> Volume:
    assert disk.volume is not None
    return Volume(
        disk.volume,
        disk=disk.id,
        domain=disk.domain,
        image=disk.image,
        parent=None,
        size=disk.size,
        format=disk.format,
        state="creating",
        command=command,
    )


async def create(run: Run) -> Facts:
    """zero: it is known to read as zeros."""
    spec: AddDisk = run.spec
    disk = await run.read(lambda c: disks.get(c, spec.disk))
    if disk.kind == MANAGED:
        if not run.resumed:
            await managed_volumes.must_have_room(run, spec.domain, disk.size)
        zero = await managed_volumes.created(run, spec.domain, spec.volume, disk.size)
        return {"zero": zero}
    assert disk.image is not None
    await image_volumes.created(
        run,
        spec.domain,
        disk.image,
        spec.volume,
        disk.size,
        format=disk.format,
        sparse=disk.sparse,
    )
    return {"zero": True}


async def delete(run: Run) -> None:
    spec: AddDisk = run.spec
    if not managed_volumes.was_asked(run, spec.volume):
        return
    disk = await run.read(lambda c: disks.get(c, spec.disk))
    if disk.kind == MANAGED:
        await managed_volumes.deleted(run, spec.domain, spec.volume)
    else:
        assert disk.image is not None
        await image_volumes.deleted(run, spec.domain, disk.image, volumes=(spec.volume,))


def kept(run: Run) -> list[Kept]:
    return [Kept(Thing.VOLUME, run.spec.volume, run.spec.domain)]


async def finish(run: Run) -> None:
    spec: AddDisk = run.spec
    run.together(lambda c: volumes.move(c, spec.volume, "ok"))


def withdraw(c: Connection, run: Run) -> None:
    managed_volumes.forget(c, run.spec.volume)
    disks.remove(c, run.spec.disk)


ADD_DISK = CommandType(
    "add_disk",
    AddDisk,
    (
        Stage(
            "create",
            create,
            delete,
            kept=kept,
            title="creating the volume",
            undone="deletes the volume",
        ),
        Stage("finish", finish, title="the disk is ready"),
    ),
    begin,
    withdraw,
    title="adding a disk",
)
