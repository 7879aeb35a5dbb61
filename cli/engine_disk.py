"""`leasehold engine disk`: the disks that an engine knows."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.engine_parameters import DISK, DOMAIN, Disk, To, Watch, domain_names
from cli.output import Output
from cli.parameters import Limit

if TYPE_CHECKING:
    from cli.engine_client import Session

app = group(
    "disk",
    "Add, copy, move, extend and remove disks.",
    example=f"engine disk copy {DISK} --to {DOMAIN} --watch",
)
HEAD = ("NAME", "STATUS", "SIZE", "DOMAIN", "ID")

Size = Annotated[str, typer.Option(metavar="N", help="Size of the disk, such as 10G.")]
Description = Annotated[str, typer.Option(metavar="TEXT", help="What it is for.")]


@command(app, "add", example=f"engine disk add {DISK} --domain {DOMAIN} --size 10G")
@reaching
@stoppable
async def add(
    out: Output,
    engine: Engine,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of the new disk.")],
    *,
    domain: Annotated[
        str,
        typer.Option(
            metavar="DOMAIN",
            help="The name or id of its storage domain.",
            autocompletion=domain_names,
        ),
    ],
    size: Size,
    description: Description = "",
    format: Annotated[
        str, typer.Option(metavar="F", help="raw or cow; of a managed domain raw.")
    ] = "raw",
    watch: Watch = False,
) -> int:
    """Add an empty disk; of a managed domain it has whole GiB."""
    from cli.engine_client import OVIRT
    from cli.engine_objects import found
    from cli.sizes import parse_size

    bytes_ = parse_size(size, "--size")
    async with engine.connected() as session:
        place = await found(session, "storagedomains", domain)
        body = {
            "name": name,
            "description": description,
            "provisioned_size": bytes_,
            "format": format,
            "storage_domains": {"storage_domain": [{"id": place["id"]}]},
        }
        row = await session.post(f"{OVIRT}/disks", body)
        if watch:
            row = await _settled(session, row, out)
    out.result(row, f"disk {name} is {row['status']}, {row['id']}")
    return 0 if row.get("status") != "illegal" else 1


@command(app, "list", example="engine disk list --json")
@reaching
@stoppable
async def list_(out: Output, engine: Engine) -> None:
    """List the disks."""
    from cli.columns import table
    from cli.engine_objects import domain_id, listed, names, size, text

    async with engine.connected() as session:
        rows = await listed(session, "disks")
        domains = await names(session, "storagedomains") if rows and not out.json else {}
    cells = []
    for row in rows:
        where = domain_id(row)
        shown = text(row, "name"), text(row, "status"), size(row, "provisioned_size")
        cells.append((*shown, domains.get(where, where), text(row, "id")))
    out.result({"disks": rows}, table(HEAD, cells) if rows else "no disks")


@command(app, "show", example=f"engine disk show {DISK}")
@reaching
@stoppable
async def show(out: Output, engine: Engine, disk: Disk) -> None:
    """Show a disk."""
    from cli.columns import facts
    from cli.engine_objects import domain_id, found, names, size, text

    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        domains = await names(session, "storagedomains")
    where = domain_id(row)
    shown = facts(
        [
            ("disk", text(row, "name")),
            ("id", text(row, "id")),
            ("description", text(row, "description")),
            ("status", text(row, "status")),
            ("size", f"{text(row, 'provisioned_size')} ({size(row, 'provisioned_size')})"),
            ("format", text(row, "format")),
            ("domain", f"{domains.get(where, '')} ({where})"),
            ("volume", text(row, "image_id")),
        ]
    )
    out.result(row, shown)


@command(app, "remove", example=f"engine disk remove {DISK} --watch")
@reaching
@stoppable
async def remove(out: Output, engine: Engine, disk: Disk, *, watch: Watch = False) -> int:
    """Remove a disk with its content and its snapshots."""
    from cli.engine_client import OVIRT
    from cli.engine_objects import found

    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        answer = await session.delete(f"{OVIRT}/disks/{row['id']}")
        return await begun(engine, session, answer, f"removed disk {disk}", out, watch=watch)


@command(app, "extend", example=f"engine disk extend {DISK} --size 20G")
@reaching
@stoppable
async def extend(
    out: Output, engine: Engine, disk: Disk, *, size: Size, watch: Watch = False
) -> int:
    """Grow a disk to a size; it never shrinks."""
    from cli.engine_client import OVIRT
    from cli.engine_objects import found
    from cli.engine_objects import size as size_of
    from cli.sizes import parse_size

    bytes_ = parse_size(size, "--size")
    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        row = await session.put(f"{OVIRT}/disks/{row['id']}", {"provisioned_size": bytes_})
        if watch:
            row = await _settled(session, row, out)
    out.done(row, f"disk {disk} is {row['status']}, {size_of(row, 'provisioned_size')}")
    return 0 if row.get("status") != "illegal" else 1


@command(app, "copy", example=f"engine disk copy {DISK} --to {DOMAIN} --watch")
@reaching
@stoppable
async def copy(
    out: Output,
    engine: Engine,
    disk: Disk,
    *,
    to: To,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the copy; default: that of the disk.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare the copy with the disk afterwards.")
    ] = False,
    correlation_id: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT", help="With the same one a request that is repeated copies once."
        ),
    ] = None,
    limit: Limit = None,
    watch: Watch = False,
) -> int:
    """Copy a disk to a storage domain. Prints the ids of the copy and of the job.

    Ctrl-C ends the watching; the job goes on.
    """
    from cli.engine_client import OVIRT
    from cli.engine_objects import found

    rate = _rate(limit)
    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        target = await found(session, "storagedomains", to)
        body = {
            "storage_domain": {"id": target["id"]},
            "disk": {"name": name} if name else None,
            "verify": verify,
            "limit": rate,
        }
        path = f"{OVIRT}/disks/{row['id']}/copy"
        answer = await session.post(path, body, correlation_id=correlation_id)
        return await begun(engine, session, answer, f"copied disk {disk} to {to}", out, watch=watch)


@command(app, "move", example=f"engine disk move {DISK} --to {DOMAIN} --watch")
@reaching
@stoppable
async def move(
    out: Output, engine: Engine, disk: Disk, *, to: To, limit: Limit = None, watch: Watch = False
) -> int:
    """Move a disk to another storage domain: it is copied, compared, and then removed there.

    Ctrl-C ends the watching; the job goes on.
    """
    from cli.engine_client import OVIRT
    from cli.engine_objects import found

    rate = _rate(limit)
    async with engine.connected() as session:
        row = await found(session, "disks", disk)
        target = await found(session, "storagedomains", to)
        body = {"storage_domain": {"id": target["id"]}, "limit": rate}
        answer = await session.post(f"{OVIRT}/disks/{row['id']}/move", body)
        return await begun(engine, session, answer, f"moved disk {disk} to {to}", out, watch=watch)


def _rate(limit: str | None) -> int | None:
    """Raises BadParameter (1000)."""
    from cli.sizes import parse_rate

    return None if limit is None else parse_rate(limit, "--limit")


async def begun(
    engine: Engine,
    session: "Session",
    answer: dict[str, Any],
    text: str,
    out: Output,
    *,
    watch: bool,
) -> int:
    """Tell of the job that a request has begun, or follow it to its end; the exit code."""
    from cli.engine_following import followed, told
    from cli.engine_objects import text as place

    job, disk = place(answer, "job", "id"), place(answer, "disk", "id")
    facts = {"job": job, "disk": disk or None}
    if not watch:
        out.done(facts, f"job {job} has begun{f'; disk {disk}' if disk else ''}")
        return 0
    row = await followed(engine, session, job, out)
    return told({**facts, **row}, f"{text}{f' as {disk}' if disk else ''}", out)


async def _settled(session: "Session", row: dict[str, Any], out: Output) -> dict[str, Any]:
    """A disk when nothing locks it any more."""
    import trio

    from cli.engine_client import OVIRT
    from cli.engine_following import EVERY

    while row.get("status") == "locked":
        await trio.sleep(EVERY)
        row = await session.get(f"{OVIRT}/disks/{row['id']}")
    return row
