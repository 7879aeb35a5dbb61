"""snapshot_create: keep what a disk holds at one moment, to go back to or to look at later.

On storage: the adapter makes a snapshot of the volume that the disk uses. The disk goes on with
that volume, and nothing of it is touched, whatever fails. The id of the snapshot is chosen here;
an adapter of a vendor chooses another one, and when its answer is lost the snapshot is listed in
quarantine, as one that may exist.
"""

import time

from sqlalchemy import Connection

from engine.commands import chosen_ids, managed_volumes
from engine.commands.disk_checks import managed, not_in_preview, taken
from engine.commands.run import Run
from engine.commands.specs import SnapshotCreate
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.db import snapshots
from engine.db.snapshots import Snapshot
from engine.names import checked_text

STEP = 0.001  # seconds


def begin(c: Connection, spec: SnapshotCreate, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), InQuarantine (4412),
    NotSupported (4413), BadParameter (1000)."""
    checked_text("description", spec.description)
    disk = managed(taken(c, spec.disk, command), "snapshots")
    not_in_preview(c, spec.disk)
    assert disk.volume is not None
    # A commit deletes all that are newer, so their order must not depend on a clock that was set.
    latest = max((one.created for one in snapshots.of_disk(c, disk.id)), default=0.0)
    snapshot = Snapshot(
        spec.snapshot,
        disk=disk.id,
        volume=disk.volume,
        adapter_id=None,
        description=spec.description,
        state="creating",
        created=max(time.time(), latest + STEP),
        preview_of=None,
        size=disk.size,
    )
    snapshots.add(c, snapshot)


async def create(run: Run) -> Facts:
    spec: SnapshotCreate = run.spec
    row, domain = await run.read(lambda c: snapshots.with_domain(c, spec.snapshot))
    await run.note(volume=row.volume, domain=domain)
    storage = await run.services.storage(domain)
    made = await chosen_ids.made(
        run,
        storage,
        f"a snapshot of volume {row.volume}",
        lambda: storage.create_snapshot(row.volume, spec.snapshot),
    )
    return {chosen_ids.ADAPTER_ID: made}


async def remove(run: Run) -> None:
    if (volume := run.facts.get("volume")) is None:
        return  # nobody was asked yet
    domain = run.facts["domain"]
    storage = await run.services.storage(domain)
    what = f"a snapshot of volume {volume}"
    found = chosen_ids.to_undo(run, storage, run.spec.snapshot, what)
    if found is not None:
        await managed_volumes.snapshot_removed(run, domain, volume, found)


def kept(run: Run) -> list[Kept]:
    if "domain" not in run.facts:
        return []
    return [Kept(Thing.SNAPSHOT, run.spec.snapshot, run.facts["domain"])]


async def finish(run: Run) -> None:
    id, adapter_id = run.spec.snapshot, run.facts[chosen_ids.ADAPTER_ID]
    run.together(lambda c: snapshots.made(c, id, adapter_id))


def withdraw(c: Connection, run: Run) -> None:
    managed_volumes.forget_snapshot(c, run.spec.snapshot)


SNAPSHOT_CREATE = CommandType(
    "snapshot_create",
    SnapshotCreate,
    (
        Stage(
            "create",
            create,
            remove,
            kept=kept,
            title="making the snapshot",
            undone="removes the snapshot",
        ),
        Stage("finish", finish, title="the snapshot is ready"),
    ),
    begin,
    withdraw,
    title="making a snapshot",
)
