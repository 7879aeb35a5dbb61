"""`leasehold engine quarantine`: what an engine keeps because it could not be taken away."""

from typing import Annotated

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.output import Output

app = group(
    "quarantine",
    "Look at what could not be taken away, and clear it.",
    example="engine quarantine list",
)
KEPT = "volume-66666666-7777-4888-8999-aaaaaaaaaaaa"


@command(app, "list", example="engine quarantine list --json")
@reaching
@stoppable
async def list_(
    out: Output,
    engine: Engine,
    *,
    all: Annotated[bool, typer.Option("--all", help="Also what was cleared.")] = False,
) -> None:
    """List what is kept, why, and what to do about it."""
    from cli.engine_client import OURS
    from cli.engine_text import kept_text

    async with engine.connected() as session:
        answer = await session.get(f"{OURS}/quarantine", all=all)
    rows = answer["quarantine"]
    text = "\n".join(map(kept_text, rows)) if rows else "nothing is in quarantine"
    out.result({"quarantine": rows}, text)


@command(app, "clear", example=f"engine quarantine clear {KEPT}")
@reaching
@stoppable
async def clear(
    out: Output,
    engine: Engine,
    kept: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")],
    *,
    by_hand: Annotated[
        bool,
        typer.Option(
            "--by-hand", help="It was removed, and nothing uses it: forget it, do not try again."
        ),
    ] = False,
) -> None:
    """Try again to take away all that the job of this one has left."""
    from cli.engine_client import OURS
    from cli.engine_job import part

    async with engine.connected() as session:
        row = await session.post(f"{OURS}/quarantine/{part(kept)}/clear", {"by_hand": by_hand})
    out.done(row, f"{kept} is being cleared by job {row['id']}")
