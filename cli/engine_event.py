"""`leasehold engine event`: what happened, and what happens now."""

from typing import Annotated

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.output import Output

app = group(
    "event", "See what happened in an engine, and what happens.", example="engine event watch"
)
PAGE = 50


@command(app, "list", example="engine event list --limit 10")
@reaching
@stoppable
async def list_(
    out: Output,
    engine: Engine,
    *,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="The last so many.")
    ] = PAGE,
) -> None:
    """List what stands in the audit log, the last one last."""
    from cli.engine_client import OVIRT
    from cli.engine_objects import rows_of
    from cli.engine_watching import entry

    async with engine.connected() as session:
        rows = rows_of(await session.get(f"{OVIRT}/events", max=limit), "event")
    rows.reverse()
    out.result({"events": rows}, "\n".join(map(entry, rows)) or "no events")


@command(app, "watch", example="engine event watch --kind job.progress --json")
@reaching
@stoppable
async def watch(
    out: Output,
    engine: Engine,
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND",
            help="Only those, such as audit.added, command.changed or job.; can be repeated.",
        ),
    ] = None,
) -> None:
    """Show what happens, until Ctrl-C; with --json an object a line.

    A restart of the engine is waited for, and nothing of the audit log is lost over it.
    """
    from cli.engine_watching import watched

    await watched(engine, kind or [], out)
