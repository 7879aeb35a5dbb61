"""Volumes of a disk that hold nothing any more. Snapshots live on the volume that they were taken
of; so that one stays, also when the disk has gone on with another one, until its last snapshot is
deleted. The last stage of each command that may leave one is `PRUNE`."""

from functools import partial

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.run import Run
from engine.commands.stage import Kept, Stage, Thing
from engine.db import disks, snapshots, volumes
from engine.db.volumes import Volume

UNNEEDED = "unneeded"  # the fact: ids


def unneeded(c: Connection, disk: str) -> list[Volume]:
    """Those that the disk does not use, and that have no snapshots.

    In a preview there is none: what was used before is needed to go back.
    """
    found = snapshots.of_disk(c, disk)
    if any(one.state == "in_preview" for one in found):
        return []
    needed = {disks.get(c, disk).volume, *(one.volume for one in found)}
    return [
        one
        for one in volumes.of_disk(c, disk)
        if one.id not in needed and one.state in ("ok", "removing")
    ]


async def _prune(run: Run) -> None:
    disk = run.facts["disk"]
    found = await run.read(lambda c: unneeded(c, disk))
    await run.note(**{UNNEEDED: [one.id for one in found]})
    for one in found:
        await managed_volumes.deleted(run, one.domain, one.id)
        run.together(partial(managed_volumes.forget, volume=one.id))


def _kept(run: Run) -> list[Kept]:
    return [
        Kept(Thing.VOLUME, volume, run.facts["domain"]) for volume in run.facts.get(UNNEEDED, [])
    ]


PRUNE = Stage("prune", _prune, kept=_kept, title="deleting volumes that nothing needs any more")
