"""snapshot_commit: end a preview by keeping it: the disk goes on from the snapshot.

What the disk held before the preview, and the snapshots that are newer than the previewed one, are
given up; this is what was asked for. What was written in the preview stays, and so do the
previewed snapshot and all older ones: it can be gone back to them again.

On storage: nothing, at first: one transaction says that the disk keeps the volume of the preview,
and from it on the command has succeeded. Then the newer snapshots are removed. The former volume
stays, unused, as long as it has snapshots: storage keeps snapshots on the volume that they were
taken of. With the last of them it is deleted.
"""

from functools import partial

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.disk_checks import previewed
from engine.commands.pruning import PRUNE
from engine.commands.run import Run
from engine.commands.snapshot_undo import must_be_previewed
from engine.commands.specs import SnapshotCommit
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.db import disks, snapshots
from engine.db.snapshots import Snapshot


def begin(c: Connection, spec: SnapshotCommit, command: str) -> None:
    """Raises as snapshot_undo."""
    must_be_previewed(c, spec.disk, command)


async def switch(run: Run) -> Facts:
    """newer: ids of the snapshots that are given up."""
    disk = await run.read(lambda c: disks.get(c, run.spec.disk))
    newer = await run.read(lambda c: _newer(c, disk.id))

    def write(c: Connection) -> None:
        snapshot = previewed(c, disk.id)
        assert snapshot is not None
        snapshots.preview(c, snapshot.id, None)
        for one in newer:
            snapshots.move(c, one.id, "removing", expected=("ok",))

    run.together(write)
    return {"disk": disk.id, "domain": disk.domain, "newer": [one.id for one in newer]}


def _newer(c: Connection, disk: str) -> list[Snapshot]:
    found = previewed(c, disk)
    assert found is not None
    every = snapshots.of_disk(c, disk)
    return [one for one in every if one.created > found.created and one.state == "ok"]


async def remove_newer(run: Run) -> None:
    domain, disk = run.facts["domain"], run.facts["disk"]
    for one in reversed(await run.read(lambda c: snapshots.of_disk(c, disk))):
        if one.id in run.facts["newer"]:
            assert one.adapter_id is not None
            await managed_volumes.snapshot_removed(run, domain, one.volume, one.adapter_id)
            run.together(partial(managed_volumes.forget_snapshot, snapshot=one.id))


def kept(run: Run) -> list[Kept]:
    return [Kept(Thing.SNAPSHOT, id, run.facts["domain"]) for id in run.facts["newer"]]


SNAPSHOT_COMMIT = CommandType(
    "snapshot_commit",
    SnapshotCommit,
    (
        Stage("switch", switch, final=True, title="the disk keeps what the preview holds"),
        Stage("remove_newer", remove_newer, kept=kept, title="removing newer snapshots"),
        PRUNE,
    ),
    begin,
    title="committing a preview",
)
