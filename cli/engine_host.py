"""`leasehold engine host`: the hosts that an engine works with."""

from typing import Annotated

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.engine_parameters import HOST, Host
from cli.output import Output

app = group(
    "host",
    "Tell an engine of hosts, and take them out of work.",
    example=f"engine host add {HOST} tls://host1.example.com:54321",
)
HEAD = ("NAME", "STATUS", "ADDRESS", "ID")


@command(app, "add", example=f"engine host add {HOST} tls://host1.example.com:54321")
@reaching
@stoppable
async def add(
    out: Output,
    engine: Engine,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is called from now on.")],
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="Its agent: tls://HOST:PORT or, of the engine's host, unix:PATH."
        ),
    ],
) -> None:
    """Add a host; it need not answer yet."""
    from cli.engine_client import OVIRT

    async with engine.connected() as session:
        made = await session.post(f"{OVIRT}/hosts", {"name": name, "address": url})
    out.result(made, f"added host {name}: {made.get('status')}, {made.get('id')}")


@command(app, "list", example="engine host list --json")
@reaching
@stoppable
async def list_(out: Output, engine: Engine) -> None:
    """List the hosts, and whether they answer."""
    from cli.columns import table
    from cli.engine_objects import listed, text

    async with engine.connected() as session:
        rows = await listed(session, "hosts")
    cells = [tuple(text(row, key) for key in ("name", "status", "address", "id")) for row in rows]
    out.result({"hosts": rows}, table(HEAD, cells) if rows else "no hosts")


@command(app, "show", example=f"engine host show {HOST}")
@reaching
@stoppable
async def show(out: Output, engine: Engine, host: Host) -> None:
    """Show a host, and why it does not answer, or has not joined a domain."""
    from cli.columns import facts
    from cli.engine_objects import found, text

    async with engine.connected() as session:
        row = await found(session, "hosts", host)
    shown = facts(
        [
            ("host", text(row, "name")),
            ("id", text(row, "id")),
            ("address", text(row, "address")),
            ("status", text(row, "status")),
            ("reason", text(row, "status_detail")),
            ("hardware id", text(row, "hardware_information", "uuid")),
            ("version", text(row, "version", "full_version")),
        ]
    )
    out.result(row, shown)


@command(app, "remove", example=f"engine host remove {HOST}")
@reaching
@stoppable
async def remove(out: Output, engine: Engine, host: Host) -> None:
    """Remove a host that is in maintenance and that nothing needs."""
    from cli.engine_acting import removed

    await removed(out, engine, "hosts", host, "removed host {name}")


@command(app, "maintenance", example=f"engine host maintenance {HOST}")
@reaching
@stoppable
async def maintenance(out: Output, engine: Engine, host: Host) -> None:
    """Give a host no new work; what runs there goes on."""
    await _act(out, engine, host, "deactivate", "gets no new work")


@command(app, "activate", example=f"engine host activate {HOST}")
@reaching
@stoppable
async def activate(out: Output, engine: Engine, host: Host) -> None:
    """Give a host work again."""
    await _act(out, engine, host, "activate", "gets work again")


async def _act(out: Output, engine: Engine, host: str, action: str, what: str) -> None:
    from cli.engine_acting import acted

    await acted(out, engine, "hosts", host, action=action, told=f"host {{name}} {what}")
