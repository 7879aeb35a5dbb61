"""`leasehold domain`: storage domains on this host."""

from typing import Annotated, Any, Literal
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.output import Output
from cli.parameters import Sd

app = group(
    "domain", "Create, open and look at storage domains.", example="domain open /srv/storage"
)

Mount = Annotated[str, typer.Argument(metavar="PATH", help="The folder that holds domains.")]


@command(app, "create", example="domain create /srv/storage --leases 200")
@stoppable
async def create(
    out: Output,
    path: Mount,
    *,
    id: Annotated[
        UUID | None, typer.Option("--id", help="The id of the new domain; default: a new one.")
    ] = None,
    block_size: Annotated[
        int, typer.Option(metavar="512|4096", help="Bytes of a sector of the storage.")
    ] = 512,
    leases: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many leases it holds; default: a volume of 1 GiB."),
    ] = None,
    store: Annotated[
        Literal["embedded", "sanlock"],
        typer.Option(help="Who keeps the leases: this host alone, or sanlock for several hosts."),
    ] = "embedded",
    io_timeout: Annotated[
        int | None,
        typer.Option(
            metavar="S",
            help="With sanlock: seconds that its hosts wait for storage, 1 to 120; default: 10.",
        ),
    ] = None,
) -> None:
    """Create a storage domain in PATH/<id>/ and remember it.

    Hosts join one of sanlock with `leasehold host join`; to create it no daemon is needed.
    """
    from cli import known
    from endpoints.domain import create_domain
    from leases.ids import DEFAULT_IO_TIMEOUT
    from protocol.errors import BadParameter

    if io_timeout is not None and store != "sanlock":
        raise BadParameter("--io-timeout", "only a domain of sanlock has one: --store sanlock")
    made = await create_domain(
        checked_mount(path),
        sd_id=str(id) if id else None,
        block_size=block_size,
        leases=leases,
        store=store,
        io_timeout=DEFAULT_IO_TIMEOUT if io_timeout is None else io_timeout,
    )
    await known.remember(made)
    out.result(described(made), f"created storage domain {made.id} in {made.path}")


@command(app, "open", example="domain open /srv/storage")
@stoppable
async def open_(out: Output, path: Mount) -> None:
    """Remember every storage domain in PATH; one that is damaged hides no other."""
    from functools import partial

    import trio

    from cli import known
    from cli.output import explained
    from protocol.errors import Error, StorageDomainDoesNotExist
    from storage.domain import find

    damaged: list[tuple[str, Error]] = []
    look = partial(find, checked_mount(path), damaged=lambda *one: damaged.append(one))
    found = await trio.to_thread.run_sync(look)
    if not found:
        raise damaged[0][1] if damaged else StorageDomainDoesNotExist(f"none in {path}")
    for where, error in damaged:
        out.warn(f"{where} is left out: {explained(error)}")
    await known.remember(*found)
    out.result(
        {"domains": [described(one) for one in found]},
        "\n".join(f"opened storage domain {one.id} in {one.path}" for one in found),
    )


@command(app, "list", example="domain list --json")
@stoppable
async def list_(out: Output) -> None:
    """List the known storage domains; one that cannot be used says why."""
    from cli import known

    rows = [await _row(sd_id, path) for sd_id, path in sorted(known.known().items())]
    lines = [f"{row['id']}  {row.get('error') or 'ok'}  {row['path']}" for row in rows]
    out.result({"domains": rows}, "\n".join(lines) or "no storage domain is known")


@command(app, "info", example="domain info 1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef")
@stoppable
async def info(out: Output, sd: Sd) -> None:
    """Show one storage domain: whose it is, and whether this host has joined it."""
    from cli import known
    from endpoints.domain import sharing

    domain = await known.opened(str(sd))
    shared = await sharing(domain)
    facts = {**described(domain), "store": shared.store, "joined": shared.joined}
    said = {None: "not known: no daemon answers", True: "yes", False: "no"}[shared.joined]
    texts = {**facts, "joined": said}
    out.result(facts, "\n".join(f"{key + ':':12} {value}" for key, value in texts.items()))


@command(app, "close", example="domain close 1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef")
@stoppable
async def close(out: Output, sd: Sd) -> None:
    """Forget a storage domain. Nothing of it is changed; `domain open` remembers it again."""
    from cli import known

    await known.forget(str(sd))
    out.done({"id": str(sd)}, f"forgot storage domain {sd}")


def described(domain: Any) -> dict[str, Any]:
    """What the command tells of a storage.domain.Domain."""
    return {
        "id": domain.id,
        "path": domain.path,
        "type": domain.type,
        "version": domain.version,
        "description": domain.description,
        "block_size": domain.block_size,
        "alignment": domain.alignment,
        "pool": domain.pool,
    }


def checked_mount(path: str) -> str:
    """`path` as an absolute one. Raises BadParameter (1000): empty, or not to be remembered."""
    import os

    from protocol.errors import BadParameter

    if not path or not path.isprintable():  # not valid UTF-8 shows as unprintable too
        raise BadParameter("PATH", f"{path!r} is empty or not printable text")
    return os.path.abspath(path)


async def _row(sd_id: str, path: str) -> dict[str, Any]:
    import trio

    from protocol.errors import Error, to_rpc
    from storage.domain import load

    try:
        return described(await trio.to_thread.run_sync(load, path))
    except (Error, OSError) as e:
        return {"id": sd_id, "path": path, "error": to_rpc(e)["message"]}
