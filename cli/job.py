"""`leasehold job`: the jobs of a host, through its agent."""

from typing import Annotated
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.output import Output
from cli.parameters import (
    Destination,
    Format,
    Limit,
    NewJobId,
    Sd,
    Source,
    SourceFormat,
    Verify,
)
from cli.remote import FORMS, TIMEOUT, Ca, Certificate, Key, Remote, Timeout, connecting
from jobs.status import Status

app = group(
    "job",
    "Give copies to the agent of a host; look at them, stop them, and judge what became of them.",
    example="job list",
)

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
PAGE = 100

JobId = Annotated[UUID, typer.Argument(metavar="ID", help="The id of a job.")]


@command(app, "submit", example="job submit /srv/a.raw /srv/b.raw --source-format raw")
@connecting
def submit(
    out: Output,
    remote: Remote,
    source: Source,
    destination: Destination,
    *,
    source_format: SourceFormat = None,
    format: Format = "raw",
    domain: Annotated[
        UUID | None,
        typer.Option(
            metavar="SD",
            help="The storage domain that holds the lease; default: the only one of that host.",
        ),
    ] = None,
    job_id: NewJobId = None,
    limit: Limit = None,
    priority: Annotated[
        int, typer.Option(min=-1000, max=1000, metavar="N", help="A higher one goes first.")
    ] = 0,
    verify: Verify = False,
    copy_bitmaps: Annotated[
        bool, typer.Option("--copy-bitmaps", help="Copy the bitmaps of qcow2 images, too.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end of the job, and show its progress.")
    ] = False,
) -> int:
    """Give a copy to the agent of a host; prints the id of the job.

    For an external target its lease is made first. It stays after the end of the job, for whoever
    wants to know: `leasehold job delete ID --lease` deletes both.
    """
    from cli.interrupt import run
    from cli.request import order_of
    from cli.submission import Options
    from cli.submitting import submitted

    order = order_of(
        source,
        destination,
        source_format=source_format,
        format=format,
        domain=domain,
        job_id=job_id,
        limit=limit,
        verify=verify,
    )
    options = Options(priority, copy_bitmaps)
    return run(lambda asked: submitted(remote, order, options, out, asked, wait=wait))


@command(app, "list", example="job list --status running --status pending")
@connecting
@stoppable
async def list_(
    out: Output,
    remote: Remote,
    *,
    status: Annotated[
        list[Status] | None, typer.Option(help="Only those; can be repeated. Default: all.")
    ] = None,
    offset: Annotated[int, typer.Option(min=0, metavar="N", help="Skip so many.")] = 0,
    limit: Annotated[int, typer.Option(min=1, max=1000, metavar="N", help="At most so many.")] = (
        PAGE
    ),
) -> None:
    """List the jobs of a host, the oldest first."""
    from cli import answers
    from cli.job_text import table

    params = {"statuses": [one.value for one in status or ()], "offset": offset, "limit": limit}
    answer = await remote.once("Job.list", params)
    page = answers.read(answer, answers.Page, remote.name)
    jobs = [answers.info(one, remote.name) for one in page.jobs]
    text = table(jobs) if jobs else "no jobs"
    more = "" if page.next is None else f"\nthere are more: --offset {page.next}"
    out.result({"jobs": jobs, "next": page.next}, text + more)


@command(app, "show", example=f"job show {JOB}")
@connecting
@stoppable
async def show(out: Output, remote: Remote, job_id: JobId) -> None:
    """Show what a host knows of one job."""
    from cli import answers
    from cli.job_text import shown

    found = answers.info(await remote.once("Job.info", {"job_id": str(job_id)}), remote.name)
    out.result(found, shown(found))


@command(app, "watch", example="job watch --json")
@connecting
def watch(
    out: Output,
    remote: Remote,
    job_ids: Annotated[
        list[UUID] | None,
        typer.Argument(metavar="[ID]...", help="Until these have ended; default: all, for ever."),
    ] = None,
) -> int:
    """Show jobs while they run: bars on a terminal, else lines; with --json an object per change.

    A restart of the agent is waited for. Exit code: 0 when all are done, 1 when one has failed, 4
    when one was aborted. Ctrl-C ends the watching; the jobs go on.
    """
    from cli.interrupt import run
    from cli.job_watch import watched

    ids = [str(one) for one in job_ids or ()]
    return run(lambda interrupt: watched(remote, ids, out, interrupt))


@command(app, "abort", example=f"job abort {JOB}")
@connecting
@stoppable
async def abort(
    out: Output,
    remote: Remote,
    job_id: JobId,
    *,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Do not wait until the job has ended.")
    ] = False,
) -> None:
    """Ask a job to stop, and wait until it has; refused for one that has ended."""
    from cli.stopping import stopped

    info = await stopped(remote, str(job_id), out, wait=not no_wait)
    out.done(info, f"job {job_id} is {info['status']}")


@command(app, "delete", example=f"job delete {JOB} --lease")
@connecting
@stoppable
async def delete(
    out: Output,
    remote: Remote,
    job_id: JobId,
    *,
    lease: Annotated[
        bool, typer.Option("--lease", help="Delete its lease too, if that tells of an end.")
    ] = False,
) -> None:
    """Have a host forget a job that has ended. What its lease tells stays, without --lease."""
    from cli.deleting import deleted

    removed = await deleted(remote, str(job_id), lease=lease)
    out.done({"job_id": str(job_id), "lease_deleted": removed}, f"job {job_id} is forgotten")


@command(app, "resolve", example=f"job resolve {SD} {JOB}")
@stoppable
async def resolve(
    out: Output,
    sd: Sd,
    job: Annotated[UUID, typer.Argument(metavar="JOB", help="The id of the job and its lease.")],
    *,
    host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            envvar="LEASEHOLD_HOST",
            help=f"The agent that was given the job, then others that see the domain: {FORMS}.",
        ),
    ] = None,
    generation: Annotated[
        int | None,
        typer.Option(
            min=0, max=999, metavar="N", help="That it began with; default: what host or lease say."
        ),
    ] = None,
    ca: Ca = "",
    certificate: Certificate = "",
    key: Key = "",
    timeout: Timeout = TIMEOUT,
) -> int:
    """Find out what became of a job: ask its host, then its lease; where nothing is decided, fence.

    A job that was fenced will never run. Exit code: 0 done, 1 failed, 4 fenced, 6 it is still
    running, 7 unresolved: then change nothing and do what is said.
    """
    from cli.remote import HERE, remote
    from cli.resolving import resolved
    from protocol.messages import LeaseRef

    hosts = [remote(url, ca, certificate, key, timeout) for url in host or (HERE,)]
    return await resolved(hosts, LeaseRef(sd, str(job)), generation, out)
