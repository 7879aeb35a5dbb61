"""snapshot_delete: give up the way back to a snapshot. What the disk holds stays as it is.

On storage: the adapter removes the snapshot; one that is gone is no error. When it was the last one
of a volume that the disk does not use any more (see snapshot_commit), that volume is deleted too.
If the adapter fails, the snapshot is "ok" again and can be deleted again: where it was removed
nevertheless, that succeeds.
"""

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.disk_checks import not_in_preview, taken
from engine.commands.pruning import PRUNE
from engine.commands.run import Run
from engine.commands.specs import SnapshotDelete
from engine.commands.stage import CommandType, Facts, Stage
from engine.db import snapshots


def begin(c: Connection, spec: SnapshotDelete, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), InQuarantine (4412)."""
    snapshot = snapshots.get(c, spec.snapshot)
    taken(c, snapshot.disk, command)
    not_in_preview(c, snapshot.disk)
    snapshots.move(c, spec.snapshot, "removing", expected=("ok",))


async def remove(run: Run) -> Facts:
    id = run.spec.snapshot
    snapshot, domain = await run.read(lambda c: snapshots.with_domain(c, id))
    if snapshot.adapter_id is not None:
        await managed_volumes.snapshot_removed(run, domain, snapshot.volume, snapshot.adapter_id)
    run.together(lambda c: managed_volumes.forget_snapshot(c, id))
    return {"disk": snapshot.disk, "domain": domain}


async def restore(run: Run) -> None:
    run.together(lambda c: snapshots.move(c, run.spec.snapshot, "ok", expected=("removing",)))


SNAPSHOT_DELETE = CommandType(
    "snapshot_delete",
    SnapshotDelete,
    (
        Stage(
            "remove",
            remove,
            restore,
            final=True,
            title="removing the snapshot",
            undone="lists the snapshot again",
        ),
        PRUNE,
    ),
    begin,
    title="deleting a snapshot",
)
