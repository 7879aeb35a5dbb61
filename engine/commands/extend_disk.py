"""extend_disk: make a managed disk larger. It never becomes smaller.

On storage: one command of the adapter, which can be repeated; what the disk holds stays as it is.
If it fails the disk has either size, and the storage is asked which. Where the storage cannot tell
that, the disk keeps the smaller size, which is safe; extending it again puts that right.
"""

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.add_disk import LARGEST
from engine.commands.disk_checks import managed, not_in_preview, taken
from engine.commands.run import Run
from engine.commands.specs import ExtendDisk
from engine.commands.stage import CommandType, Facts, Stage
from engine.db import disks, volumes
from protocol.errors import BadParameter, Error
from protocol.managed import GIB, gib_of


def begin(c: Connection, spec: ExtendDisk, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), InQuarantine (4412),
    NotSupported (4413): of an image; BadParameter (1000): it would shrink."""
    disk = managed(taken(c, spec.disk, command), "extending")
    not_in_preview(c, spec.disk)
    if not disk.size <= spec.size <= LARGEST:
        raise BadParameter("size", f"{disk.size} to {LARGEST} bytes: a disk never shrinks")
    assert disk.volume is not None
    managed_volumes.must_be_unattached(c, disk.volume)


async def extend(run: Run) -> Facts:
    """size: bytes that it has now."""
    spec: ExtendDisk = run.spec
    disk = await run.read(lambda c: disks.get(c, spec.disk))
    assert disk.volume is not None
    if not run.resumed and spec.size > disk.size:
        await managed_volumes.must_have_room(run, disk.domain, spec.size - disk.size)
    storage = await run.services.storage(disk.domain)
    await storage.extend_volume(disk.volume, gib_of(spec.size))
    return {"size": gib_of(spec.size) * GIB}


async def measure(run: Run) -> None:
    """The size that it has, whatever was done."""
    disk = await run.read(lambda c: disks.get(c, run.spec.disk))
    assert disk.volume is not None
    try:
        storage = await run.services.storage(disk.domain)
        size = (await storage.volume_info(disk.volume)).size
    except (Error, OSError):
        return  # it is not known, so the disk keeps the size that it has at least
    if size > disk.size:
        run.together(lambda c: resized(c, disk.id, size))


async def finish(run: Run) -> None:
    run.together(lambda c: resized(c, run.spec.disk, run.facts["size"]))


def resized(c: Connection, disk: str, size: int) -> None:
    """A disk and the volume that it uses."""
    volume = disks.get(c, disk).volume
    assert volume is not None
    disks.resize(c, disk, size)
    volumes.resize(c, volume, size)


EXTEND_DISK = CommandType(
    "extend_disk",
    ExtendDisk,
    (
        Stage(
            "extend",
            extend,
            measure,
            title="extending the volume",
            undone="notes the size that it has now",
        ),
        Stage("finish", finish, title="the disk has its new size"),
    ),
    begin,
    title="extending a disk",
)
