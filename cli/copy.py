"""`leasehold copy`: one tracked copy in the foreground."""

from typing import Annotated
from uuid import UUID

import typer

from cli.command import command
from cli.output import Output
from cli.parameters import (
    Destination,
    Format,
    Limit,
    NewJobId,
    Source,
    SourceFormat,
    Store,
    Verify,
)
from cli.remote import FORMS, TIMEOUT, Ca, Certificate, Key, Timeout

STALL_TIMEOUT = 300


def register(app: typer.Typer) -> None:
    command(app, "copy", example="copy disk.qcow2 /dev/vg0/disk --limit 100M")(copy)


def copy(
    out: Output,
    source: Source,
    destination: Destination,
    *,
    source_format: SourceFormat = None,
    format: Format = "raw",
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
    job_id: NewJobId = None,
    limit: Limit = None,
    keep_lease: Annotated[
        bool, typer.Option("--keep-lease", help="Keep the lease after success.")
    ] = False,
    verify: Verify = False,
    stall_timeout: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="S",
            help=f"Give up after so many seconds without movement; default: {STALL_TIMEOUT}.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Check everything, tell what would be done, and write nothing."
        ),
    ] = False,
    store: Store = "auto",
    host: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"Have the agent of a host do it: {FORMS}."),
    ] = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> int:
    """Copy a disk as a tracked job.

    Its lease says at any time what became of it: see `leasehold lease status`. A target that is a
    volume says it itself: see `leasehold volume info`. Ctrl-C aborts.
    """
    from cli.interrupt import run, run_stoppable
    from cli.request import order_of

    order = order_of(
        source,
        destination,
        source_format=source_format,
        format=format,
        allow=allow or (),
        limit=limit,
        domain=domain,
        job_id=job_id,
        keep_lease=keep_lease,
        store=store,
        verify=verify,
        stall_timeout=STALL_TIMEOUT if stall_timeout is None else stall_timeout,
    )
    if host is not None:
        from cli.host_copy import copied as copied_there
        from cli.remote import remote
        from cli.request import check_not_given

        check_not_given({"--dry-run": dry_run, "--stall-timeout": stall_timeout is not None})
        agent = remote(host, ca, certificate, key, timeout)
        return run(lambda interrupt: copied_there(order, agent, out, interrupt))
    if dry_run:
        from cli.dry_run import shown

        return run_stoppable(lambda: shown(order, out))
    from cli.foreground import copied

    return run(lambda interrupt: copied(order, out, interrupt))
