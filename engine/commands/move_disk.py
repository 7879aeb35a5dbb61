"""move_disk: a disk gets another domain, and keeps its id, its name and its content.

On storage: as copy_disk, with both ends compared, into a volume that belongs to no disk yet. Then,
in one transaction, the disk uses the new volume, and the old one is to be removed. Until then any
failure leaves the disk as it was; from then on the move has succeeded, and what cannot be removed
of the old place is in quarantine. The disk is locked all the time, also while nobody can tell how
its job ended. One of which a host has a local copy does not move, nor does one that has a volume in
quarantine, nor where an earlier move of it has left a volume.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import msgspec
from sqlalchemy import Connection

from engine.commands import copy_rows, image_volumes, managed_volumes
from engine.commands.attaching import cut_patiently
from engine.commands.copy_disk import checked_limit
from engine.commands.copy_stages import (
    check_leaving,
    cut_source,
    delete_lease,
    ends_of,
    kept_lease,
    kept_source_access,
    road,
)
from engine.commands.disk_checks import none_kept, not_in_preview
from engine.commands.ends import ImageEnd, ManagedEnd
from engine.commands.holding import held, taken_again
from engine.commands.run import Run
from engine.commands.specs import new_id
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.commands.switching import switched
from engine.db import snapshots, volumes
from protocol.errors import BadParameter, NotSupported


class MoveDisk(msgspec.Struct, frozen=True, kw_only=True):
    """disk, domain: ids. As CopyDisk; both ends are always compared."""

    disk: str
    domain: str
    format: Literal["raw", "cow"] | None = None
    sparse: bool | None = None
    limit: int | None = None
    volume: str = msgspec.field(default_factory=new_id)
    job: str = msgspec.field(default_factory=new_id)

    @property
    def target(self) -> str:
        return self.disk

    @property
    def verify(self) -> bool:
        return True


def begin(c: Connection, spec: MoveDisk, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), InQuarantine (4412),
    BadParameter (1000): it is there already; NotSupported (4413): it has snapshots."""
    checked_limit(spec.limit)
    source = copy_rows.begin_source(c, spec, command)
    not_in_preview(c, spec.disk)
    none_kept(c, spec.disk)
    if source.domain == spec.domain:
        raise BadParameter("storage_domain", "the disk is in this domain already")
    if snapshots.of_disk(c, spec.disk):
        raise NotSupported("moving a disk that has snapshots: delete them first, or copy it")
    target = copy_rows.begin_target(c, spec, source)
    copy_rows.begin_volume(c, target, command, disk=None)


async def quiesce(run: Run) -> None:
    """Before the switch: a volume that a host may still write to is no disk, and there may be a
    local copy by now."""
    await check_leaving(run)
    if isinstance(end := ends_of(run).target, ManagedEnd):
        await cut_patiently(run, end)


async def switch(run: Run) -> Facts:
    """old: ids of the volumes that the disk used. What is in quarantine by then is not given up; of
    the source an older version may have forgotten the row."""
    spec, source, sparse = run.spec, ends_of(run).source, ends_of(run).sparse
    found = await run.read(lambda c: volumes.of_disk(c, spec.disk))
    old = [one.id for one in found if one.state != "kept"]
    if await run.read(lambda c: volumes.find(c, source.volume)) is None:
        old.append(source.volume)
    run.together(partial(taken_again, run=run))
    run.together(
        lambda c: switched(c, spec.disk, spec.volume, old=old, sparse=sparse, command=run.id)
    )
    return {"old": old}


async def remove_source(run: Run) -> None:
    """All of them, and each is forgotten only when it is deleted."""
    old, source = run.facts["old"], ends_of(run).source
    for id in old:
        # They are of one disk, so all of them are of one kind.
        if isinstance(source, ImageEnd):
            await image_volumes.deleted(run, source.domain, source.image, volumes=old)
        else:
            await managed_volumes.deleted(run, source.domain, id)
        run.together(partial(managed_volumes.forget, volume=id))


def kept_source(run: Run) -> Sequence[Kept]:
    if "old" not in run.facts:
        return ()
    source = ends_of(run).source
    action = "the disk has moved: nothing needs this volume any more"
    return [Kept(Thing.VOLUME, volume, source.domain, action=action) for volume in run.facts["old"]]


def withdraw(c: Connection, run: Run) -> None:
    managed_volumes.forget(c, run.spec.volume)


MOVE_DISK = CommandType(
    "move_disk",
    MoveDisk,
    (
        *road(final=False),
        Stage("quiesce", quiesce, title="ending the access to the target"),
        Stage("switch", switch, final=True, title="switching to the new volume"),
        Stage("unlease", delete_lease, needs=(), kept=kept_lease, title="deleting the lease"),
        Stage(
            "detach_source",
            cut_source,
            needs=(),
            kept=kept_source_access,
            title="ending the access to the source",
        ),
        Stage(
            "remove_source",
            remove_source,
            needs=("detach_source",),
            kept=kept_source,
            title="removing the old volume",
        ),
    ),
    begin,
    withdraw,
    title="moving a disk",
    holds=held,
    retakes=taken_again,
)
