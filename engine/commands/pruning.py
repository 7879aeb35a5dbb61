"""Volumes of a disk that hold nothing any more. Snapshots live on the volume that they were taken
of; so that one stays, also when the disk has gone on with another one, until its last snapshot is
deleted. The last stage of each command that may leave one is `PRUNE`."""

from functools import partial

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.run import Run
from engine.commands.stage import Kept, Stage, Thing
from engine.db import disks, quarantine, snapshots, volumes
from engine.db.volumes import Volume

UNNEEDED = "unneeded"  # the fact: ids


def unneeded(c: Connection, disk: str) -> list[Volume]:
    """Those that the disk does not use, and that have no snapshots.

    In a preview there is none: what was used before is needed to go back.
    """
    if any(one.state == "in_preview" for one in snapshots.of_disk(c, disk)):
        return []
    return [one for one in _unused(c, disk) if one.state in ("ok", "removing")]


def _unused(c: Connection, disk: str) -> list[Volume]:
    """Those that it does not use, whatever their state is."""
    if (row := disks.find(c, disk)) is None:
        return []
    found = snapshots.of_disk(c, disk)
    needed = {row.volume, *(one.volume for one in found), *(one.preview_of for one in found)}
    return [one for one in volumes.of_disk(c, disk) if one.id not in needed]


def _to_delete(c: Connection, run: Run) -> dict[str, str]:
    """Their ids, each with its domain. Also what this command has in quarantine, and tries again:
    nobody else does. An older version may have forgotten the row of such a volume."""
    disk = run.facts["disk"]
    kept = quarantine.search(c, command=run.id, kind=Thing.VOLUME.value)
    tried = {*run.facts.get(UNNEEDED, ()), *(one.object for one in kept)}
    again = [one for one in _unused(c, disk) if one.state == "kept" and one.id in tried]
    forgotten = {one.object: one.domain for one in kept if volumes.find(c, one.object) is None}
    return {one.id: one.domain for one in (*unneeded(c, disk), *again)} | forgotten


async def _prune(run: Run) -> None:
    found = await run.read(lambda c: _to_delete(c, run))
    before = run.facts.get(UNNEEDED, [])
    new = [volume for volume in found if volume not in before]
    await run.note(**{UNNEEDED: [*before, *new]})  # it names all that may be in quarantine
    for volume, domain in found.items():
        await managed_volumes.deleted(run, domain, volume)
        run.together(partial(managed_volumes.forget, volume=volume))


def _kept(run: Run) -> list[Kept]:
    return [
        Kept(Thing.VOLUME, volume, run.facts["domain"]) for volume in run.facts.get(UNNEEDED, [])
    ]


PRUNE = Stage("prune", _prune, kept=_kept, title="deleting volumes that nothing needs any more")
