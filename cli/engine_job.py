"""`leasehold engine job`: what an engine does and has done, each a job with its steps."""

from typing import Annotated, Any, Literal

import typer

from cli.command import command, group, stoppable
from cli.engine_client import Engine, reaching
from cli.engine_parameters import JOB, Job
from cli.output import Output

app = group(
    "job",
    "Look at the jobs of an engine, stop them, and settle what became of them.",
    example="engine job list",
)
HEAD = ("JOB", "TYPE", "STATE", "STAGE", "BEGUN", "USER")
State = Literal["running", "undoing", "succeeded", "failed", "aborted", "unresolved", "quarantined"]
PAGE = 100


@command(app, "list", example="engine job list --state unresolved")
@reaching
@stoppable
async def list_(
    out: Output,
    engine: Engine,
    *,
    state: Annotated[State | None, typer.Option(help="Only those; default: all.")] = None,
    page: Annotated[int, typer.Option(min=1, metavar="N", help="Which page.")] = 1,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="Jobs of a page.")] = (
        PAGE
    ),
) -> None:
    """List jobs, the last one first."""
    from cli.columns import table
    from cli.engine_client import OURS
    from cli.engine_text import job_cells

    async with engine.connected() as session:
        answer = await session.get(f"{OURS}/commands", state=state, max=limit, page=page)
    rows = answer["commands"]
    text = table(HEAD, map(job_cells, rows)) if rows else "no jobs"
    more = f"\nthere may be more: --page {page + 1}" if len(rows) == limit else ""
    out.result({"jobs": rows}, text + more)


@command(app, "show", example=f"engine job show {JOB}")
@reaching
@stoppable
async def show(out: Output, engine: Engine, job: Job) -> None:
    """Show a job, its steps, and how it was judged."""
    from cli.engine_client import OURS
    from cli.engine_text import job_text

    async with engine.connected() as session:
        row = await session.get(f"{OURS}/commands/{part(job)}")
    out.result(row, job_text(row))


@command(app, "watch", example=f"engine job watch {JOB}")
@reaching
@stoppable
async def watch(out: Output, engine: Engine, job: Job) -> int:
    """Wait for the end of a job, and show its progress; Ctrl-C leaves it alone.

    Exit code: 0 it succeeded, 1 it failed, 4 it was aborted or fenced, 7 it is unresolved.
    """
    from cli.engine_following import followed, told

    async with engine.connected() as session:
        row = await followed(engine, session, part(job), out)
    return told(row, f"job {job} succeeded", out)


@command(app, "abort", example=f"engine job abort {JOB}")
@reaching
@stoppable
async def abort(out: Output, engine: Engine, job: Job) -> None:
    """Ask a job to end; what it has done is undone then."""
    row = await _asked(engine, job, "abort")
    out.done(row, f"job {job} is {row['state']}, its end was asked for")


@command(app, "resolve", example=f"engine job resolve {JOB}")
@reaching
@stoppable
async def resolve(
    out: Output,
    engine: Engine,
    job: Job,
    *,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is known, or unresolved again.")
    ] = False,
) -> int:
    """Ask again what became of a job that is unresolved."""
    from cli.engine_following import followed, told

    row = await _asked(engine, job, "resolve")
    if not wait:
        out.done(row, f"job {job} is asked about again")
        return 0
    async with engine.connected() as session:
        row = await followed(engine, session, part(job), out)
    return told(row, f"job {job} succeeded", out)


@command(app, "clear", example=f"engine job clear {JOB}")
@reaching
@stoppable
async def clear(
    out: Output,
    engine: Engine,
    job: Job,
    *,
    by_hand: Annotated[
        bool,
        typer.Option(
            "--by-hand", help="All that it has left was removed, and nothing uses it: forget it."
        ),
    ] = False,
) -> None:
    """Take away what a job has left; an unresolved one counts as failed from then on.

    Do that only when nothing writes to its target any more: cut the host off, or let it be dead.
    """
    row = await _asked(engine, job, "clear", {"by_hand": by_hand})
    out.done(row, f"job {job} is being cleared")


async def _asked(
    engine: Engine, job: str, action: str, body: dict[str, Any] | None = None
) -> dict[str, Any]:
    from cli.engine_client import OURS

    async with engine.connected() as session:
        row: dict[str, Any] = await session.post(
            f"{OURS}/commands/{part(job)}/{action}", body or {}
        )
    return row


def part(text: str) -> str:
    """A text of the user as one part of a path."""
    from urllib.parse import quote

    return quote(text, safe="")
