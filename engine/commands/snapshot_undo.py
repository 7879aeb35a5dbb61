"""snapshot_undo: end a preview, and go back to what the disk held before it.

On storage: nothing, at first: the disk uses its former volume again, which nobody has touched
since. That is one transaction, and from it on the command has succeeded. Then the volume of the
preview is deleted, with all that was written in it, which is what was asked for. No snapshot is
lost.
"""

from sqlalchemy import Connection

from engine.commands import managed_volumes
from engine.commands.disk_checks import previewed, taken
from engine.commands.pruning import PRUNE
from engine.commands.run import Run
from engine.commands.specs import SnapshotUndo
from engine.commands.stage import CommandType, Facts, Stage
from engine.db import disks, snapshots, volumes
from engine.db.snapshots import Snapshot
from protocol.errors import WrongState


def begin(c: Connection, spec: SnapshotUndo, command: str) -> None:
    must_be_previewed(c, spec.disk, command)


def must_be_previewed(c: Connection, disk: str, command: str) -> Snapshot:
    """Lock it; the snapshot.

    Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403): there is no preview; StillUsed
    (4406), InQuarantine (4412)."""
    found = taken(c, disk, command)
    snapshot = previewed(c, disk)
    if snapshot is None:
        raise WrongState("disk", found.called, "not in preview", "in preview")
    assert found.volume is not None
    managed_volumes.must_be_unattached(c, found.volume)
    return snapshot


async def switch(run: Run) -> Facts:
    disk = await run.read(lambda c: disks.get(c, run.spec.disk))

    def write(c: Connection) -> None:
        snapshot = previewed(c, disk.id)
        assert snapshot is not None
        assert snapshot.preview_of is not None
        before = volumes.get(c, snapshot.preview_of)
        disks.use(c, disk.id, before.id, size=before.size)
        snapshots.preview(c, snapshot.id, None)

    run.together(write)
    return {"disk": disk.id, "domain": disk.domain}


SNAPSHOT_UNDO = CommandType(
    "snapshot_undo",
    SnapshotUndo,
    (Stage("switch", switch, final=True, title="going back to the former volume"), PRUNE),
    begin,
    title="ending a preview",
)
