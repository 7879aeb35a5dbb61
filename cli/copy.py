"""`leasehold copy`: one tracked copy in the foreground."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from cli.command import command
from cli.output import Output
from cli.parameters import Store

Format = Literal["raw", "qcow2"]


def register(app: typer.Typer) -> None:
    command(app, "copy", example="copy disk.qcow2 /dev/vg0/disk --limit 100M")(copy)


def copy(
    out: Output,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SRC",
            help="A path, an nbd+unix:, nbd:, iscsi: or rbd: url, or a volume: SD/IMG/VOL.",
        ),
    ],
    destination: Annotated[
        str,
        typer.Argument(
            metavar="DST",
            help="The same. A missing plain "
            "file is created; a device or network volume must exist.",
        ),
    ],
    *,
    source_format: Annotated[
        Format | None,
        typer.Option(help="What the source must be; default: what it is found to be."),
    ] = None,
    format: Annotated[Format, typer.Option(help="What the target is or becomes.")] = "raw",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="DIR",
            help="A folder whose files the "
            "source may name as backing or data files; can be repeated.",
        ),
    ] = None,
    domain: Annotated[
        UUID | None,
        typer.Option(
            metavar="SD",
            help="The storage domain that holds "
            "the lease; default: one of this user, made on first use.",
        ),
    ] = None,
    job_id: Annotated[
        UUID | None,
        typer.Option(
            help="The id of the job; the same one takes up a "
            "copy whose process died. Default: a new one."
        ),
    ] = None,
    limit: Annotated[
        str | None, typer.Option(metavar="RATE", help="Bytes per second, as 100M.")
    ] = None,
    keep_lease: Annotated[
        bool, typer.Option("--keep-lease", help="Keep the lease after success.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare the whole content of both ends afterwards."),
    ] = False,
    stall_timeout: Annotated[
        int,
        typer.Option(min=1, metavar="S", help="Give up after so many seconds without movement."),
    ] = 300,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, tell what would be done, and write nothing."
        ),
    ] = False,
    store: Store = "auto",
) -> int:
    """Copy a disk as a tracked job.

    Its lease says at any time what became of it: see `leasehold lease status`. A target that is a
    volume says it itself: see `leasehold volume info`. Ctrl-C aborts.
    """
    from cli.foreground import copied
    from cli.interrupt import run, run_stoppable
    from cli.request import Order, checked_directory, checked_url
    from cli.sizes import parse_rate

    order = Order(
        source=checked_url(source, "SRC"),
        destination=checked_url(destination, "DST"),
        source_format=source_format,
        format=format,
        allow=tuple(checked_directory(one, "--allow") for one in allow or ()),
        limit=None if limit is None else parse_rate(limit, "--limit"),
        domain=str(domain) if domain else None,
        job_id=str(job_id) if job_id else None,
        keep_lease=keep_lease,
        store=store,
        verify=verify,
        stall_time=float(stall_timeout),
    )
    if dry_run:
        from cli.dry_run import shown

        return run_stoppable(lambda: shown(order, out))
    return run(lambda interrupt: copied(order, out, interrupt))
