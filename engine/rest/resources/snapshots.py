"""Snapshots of managed disks: create, preview, commit, undo, delete. Each is a command."""

import msgspec

from engine.commands.specs import (
    SnapshotCommit,
    SnapshotCreate,
    SnapshotDelete,
    SnapshotPreview,
    SnapshotUndo,
)
from engine.db import disks, snapshots
from engine.db.snapshots import Snapshot
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Handler, Method, Operation
from engine.rest.reading import path_id
from engine.rest.resources.begun import PENDING, Begun, S, begun, ended


class SnapshotTold(msgspec.Struct, frozen=True):
    """state: creating, ok, in_preview, removing, kept. size: bytes, of the disk at that time."""

    id: str
    disk: str
    description: str
    state: str
    created: float
    size: int


class SnapshotsTold(msgspec.Struct, frozen=True):
    snapshots: list[SnapshotTold]


class NewSnapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    description: str = ""


class BegunTold(msgspec.Struct, frozen=True):
    """status: pending, or complete: it was waited for, with async=false."""

    command: str
    status: str
    snapshot: str | None = None


def _told(row: Snapshot) -> SnapshotTold:
    return SnapshotTold(row.id, row.disk, row.description, row.state, row.created, row.size)


async def list_snapshots(api: Api, call: Call) -> Answer:
    disk = path_id(call, "disk")
    rows = await api.database.read(lambda c: snapshots.of_disk(c, disks.get(c, disk).id))
    return Answer(SnapshotsTold([_told(row) for row in rows]))


async def get_snapshot(api: Api, call: Call) -> Answer:
    id = path_id(call, "snapshot")
    return Answer(_told(await api.database.read(lambda c: snapshots.get(c, id))))


async def _answer(api: Api, call: Call, made: Begun[S], snapshot: str | None = None) -> Answer:
    status = await ended(api, call, made)
    return Answer(BegunTold(made.id, status, snapshot), 202 if status == PENDING else 200)


async def create(api: Api, call: Call) -> Answer:
    about = call.struct(NewSnapshot).description
    spec = SnapshotCreate(disk=path_id(call, "disk"), description=about)
    made = await begun(api, call, "snapshot_create", spec)
    return await _answer(api, call, made, made.spec.snapshot)


async def delete(api: Api, call: Call) -> Answer:
    spec = SnapshotDelete(snapshot=path_id(call, "snapshot"))
    return await _answer(api, call, await begun(api, call, "snapshot_delete", spec))


async def preview(api: Api, call: Call) -> Answer:
    spec = SnapshotPreview(snapshot=path_id(call, "snapshot"))
    return await _answer(api, call, await begun(api, call, "snapshot_preview", spec))


async def commit(api: Api, call: Call) -> Answer:
    spec = SnapshotCommit(disk=path_id(call, "disk"))
    return await _answer(api, call, await begun(api, call, "snapshot_commit", spec))


async def undo(api: Api, call: Call) -> Answer:
    spec = SnapshotUndo(disk=path_id(call, "disk"))
    return await _answer(api, call, await begun(api, call, "snapshot_undo", spec))


_OF = f"{OURS}/disks/{{id}}/snapshots"
_ONE = f"{OURS}/snapshots/{{id}}"
_QUERY = ("async", "correlation_id")


def _begins(
    method: Method, path: str, handler: Handler, about: str, takes: type | None = None
) -> Operation:
    return Operation(
        method,
        path,
        handler,
        about,
        "operator",
        takes=takes,
        gives=BegunTold,
        query=_QUERY,
        status=(200, 202),
    )


OPERATIONS = (
    Operation(
        "GET", _OF, list_snapshots, "The snapshots of a disk, the first first.", gives=SnapshotsTold
    ),
    _begins("POST", _OF, create, "Keep what a disk holds now.", NewSnapshot),
    Operation("GET", _ONE, get_snapshot, "One snapshot.", gives=SnapshotTold),
    _begins("DELETE", _ONE, delete, "Delete a snapshot."),
    _begins("POST", f"{_ONE}/preview", preview, "Let its disk have that content, for a trial."),
    _begins("POST", f"{_OF}/commit", commit, "Keep what is in preview; newer snapshots go."),
    _begins("POST", f"{_OF}/undo", undo, "Go back to what the disk was before the preview."),
)
