"""snapshot_preview: try what a disk held at a snapshot, and be able to go back.

On storage: a new volume is made of the snapshot, and the disk uses that one from then on. The
volume that it used before, with everything on it, stays as it is and is only not used: nothing is
lost, whatever is written in the preview. Then either of two commands ends it:

  snapshot_undo    the disk uses its former volume again; the new one, and all that was written in
                   the preview, is deleted
  snapshot_commit  the disk keeps the new volume; what it held before is given up
"""

from typing import Any

from sqlalchemy import Connection

from engine.commands import chosen_ids, managed_volumes
from engine.commands.disk_checks import not_in_preview, taken
from engine.commands.run import Run
from engine.commands.specs import SnapshotPreview
from engine.commands.stage import CommandType, Facts, Kept, Stage, Thing
from engine.db import disks, snapshots, volumes
from engine.db.volumes import Volume
from protocol.errors import WrongState


def begin(c: Connection, spec: SnapshotPreview, command: str) -> None:
    """Raises NoSuchObject (4400), DiskLocked (4402), WrongState (4403), StillUsed (4406),
    InQuarantine (4412)."""
    snapshot = snapshots.get(c, spec.snapshot)
    disk = taken(c, snapshot.disk, command)
    not_in_preview(c, disk.id)
    if snapshot.state != "ok":
        raise WrongState("snapshot", snapshot.id, snapshot.state, "ok")
    assert disk.volume is not None
    managed_volumes.must_be_unattached(c, disk.volume)
    volumes.add(c, _volume(spec.volume, disk.id, disk.domain, snapshot.size, command))


def _volume(id: str, disk: str, domain: str, size: int, command: str | None) -> Volume:
    return Volume(
        id,
        disk=disk,
        domain=domain,
        image=None,
        parent=None,
        size=size,
        format="raw",
        state="creating",
        command=command,
    )


async def make(run: Run) -> Facts:
    spec: SnapshotPreview = run.spec
    snapshot, domain = await run.read(lambda c: snapshots.with_domain(c, spec.snapshot))
    await run.note(disk=snapshot.disk, domain=domain, of=snapshot.volume, size=snapshot.size)
    storage = await run.services.storage(domain)
    adapter_id = snapshot.adapter_id
    assert adapter_id is not None
    made = await chosen_ids.made(
        run,
        storage,
        _what(run.facts),
        lambda: storage.create_volume_from_snapshot(snapshot.volume, adapter_id, spec.volume),
    )
    if made != spec.volume:
        run.together(lambda c: volumes.rename(c, spec.volume, made))
    return {chosen_ids.ADAPTER_ID: made}


async def delete(run: Run) -> None:
    if "of" not in run.facts:
        return  # nobody was asked yet
    domain = run.facts["domain"]
    storage = await run.services.storage(domain)
    found = chosen_ids.to_undo(run, storage, run.spec.volume, _what(run.facts))
    if found is not None:
        await managed_volumes.deleted(run, domain, found)


def _what(facts: dict[str, Any]) -> str:
    return f"a volume made of a snapshot of volume {facts['of']}"


def kept(run: Run) -> list[Kept]:
    if "domain" not in run.facts:
        return []
    return [Kept(Thing.VOLUME, _made(run), run.facts["domain"])]


def _made(run: Run) -> str:
    return str(run.facts.get(chosen_ids.ADAPTER_ID, run.spec.volume))


async def switch(run: Run) -> None:
    made, disk = _made(run), run.facts["disk"]

    def write(c: Connection) -> None:
        before = disks.get(c, disk).volume
        volumes.move(c, made, "ok")
        disks.use(c, disk, made, size=run.facts["size"])
        snapshots.preview(c, run.spec.snapshot, before)

    run.together(write)


def withdraw(c: Connection, run: Run) -> None:
    for volume in {run.spec.volume, _made(run)}:
        managed_volumes.forget(c, volume)


SNAPSHOT_PREVIEW = CommandType(
    "snapshot_preview",
    SnapshotPreview,
    (
        Stage(
            "make",
            make,
            delete,
            kept=kept,
            title="making a volume of the snapshot",
            undone="deletes the new volume",
        ),
        Stage("switch", switch, title="the disk has what the snapshot holds"),
    ),
    begin,
    withdraw,
    title="previewing a snapshot",
)
