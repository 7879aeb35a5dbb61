"""`leasehold engine snapshot`: what disks of managed block storage held at some time."""

from typing import Annotated, Any

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.engine_parameters import DISK, SNAPSHOT, Disk, Snapshot, Watch
from cli.output import Output

app = group(
    "snapshot",
    "Keep what a managed disk holds, try it again later, and go back to it.",
    example=f"engine snapshot create {DISK}",
)
HEAD = ("SNAPSHOT", "STATE", "SIZE", "CREATED", "DESCRIPTION")


@command(app, "create", example=f"engine snapshot create {DISK} --description before-2.0")
@reaching
@stoppable
async def create(
    out: Output,
    engine: Engine,
    disk: Disk,
    *,
    description: Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")] = "",
    watch: Watch = False,
) -> int:
    """Keep what a disk holds now."""
    body = {"description": description}
    return await _of_disk(out, engine, disk, "", body, text=f"kept what {disk} holds", watch=watch)


@command(app, "list", example=f"engine snapshot list {DISK}")
@reaching
@stoppable
async def list_(out: Output, engine: Engine, disk: Disk) -> None:
    """List the snapshots of a disk, the first one first."""
    from cli.columns import table
    from cli.engine_client import OURS
    from cli.engine_objects import found
    from cli.engine_text import moment
    from cli.sizes import format_size

    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        answer = await session.get(f"{OURS}/disks/{row['id']}/snapshots")
    rows = answer["snapshots"]
    cells = [
        (
            one["id"],
            one["state"],
            format_size(one["size"]),
            moment(one["created"]),
            one["description"],
        )
        for one in rows
    ]
    out.result({"snapshots": rows}, table(HEAD, cells) if rows else "no snapshots")


@command(app, "delete", example=f"engine snapshot delete {SNAPSHOT}")
@reaching
@stoppable
async def delete(out: Output, engine: Engine, snapshot: Snapshot, *, watch: Watch = False) -> int:
    """Delete a snapshot."""
    return await _of_snapshot(
        out, engine, snapshot, "DELETE", f"deleted snapshot {snapshot}", watch=watch
    )


@command(app, "preview", example=f"engine snapshot preview {SNAPSHOT}")
@reaching
@stoppable
async def preview(out: Output, engine: Engine, snapshot: Snapshot, *, watch: Watch = False) -> int:
    """Let the disk have the content of a snapshot, until `commit` or `undo`."""
    return await _of_snapshot(
        out, engine, snapshot, "POST", f"snapshot {snapshot} is in preview", watch=watch
    )


@command(app, "commit", example=f"engine snapshot commit {DISK}")
@reaching
@stoppable
async def commit(out: Output, engine: Engine, disk: Disk, *, watch: Watch = False) -> int:
    """Keep what is in preview; what the disk held before and newer snapshots are gone then."""
    return await _of_disk(out, engine, disk, "/commit", {}, text=f"committed {disk}", watch=watch)


@command(app, "undo", example=f"engine snapshot undo {DISK}")
@reaching
@stoppable
async def undo(out: Output, engine: Engine, disk: Disk, *, watch: Watch = False) -> int:
    """End a preview: the disk is what it was before."""
    text = f"disk {disk} is what it was before the preview"
    return await _of_disk(out, engine, disk, "/undo", {}, text=text, watch=watch)


async def _of_disk(
    out: Output,
    engine: Engine,
    disk: str,
    action: str,
    body: dict[str, Any],
    *,
    text: str,
    watch: bool,
) -> int:
    from cli.engine_client import OURS
    from cli.engine_disk import begun
    from cli.engine_objects import found

    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        answer = await session.post(f"{OURS}/disks/{row['id']}/snapshots{action}", body)
        return await begun(engine, session, _as_action(answer), text, out, watch=watch)


async def _of_snapshot(
    out: Output, engine: Engine, snapshot: str, method: str, text: str, *, watch: bool
) -> int:
    from cli.engine_client import OURS
    from cli.engine_disk import begun
    from cli.engine_job import part

    path = f"{OURS}/snapshots/{part(snapshot)}"
    async with engine.connected() as session:
        if method == "DELETE":
            answer = await session.delete(path)
        else:
            answer = await session.post(f"{path}/preview", {})
        return await begun(engine, session, _as_action(answer), text, out, watch=watch)


def _as_action(answer: dict[str, Any]) -> dict[str, Any]:
    """Our answer in the form of oVirt's."""
    return {"job": {"id": answer.get("command")}, "snapshot": answer.get("snapshot")}
