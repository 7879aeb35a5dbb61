"""`leasehold lease`: the leases of a storage domain, and what they say about jobs."""

from typing import Annotated, Literal
from uuid import UUID

import typer

from cli.command import command, group, stoppable
from cli.output import Output
from cli.parameters import LeaseId, Sd, Store, checked_lease

app = group(
    "lease",
    "Create, look at, fence, delete and repair leases.",
    example="lease list 1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef",
)

DOMAIN = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
EXAMPLE = f"{DOMAIN} 5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
JOB = "--job-id 5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"

Status = Literal["PENDING", "FAILED", "SUCCEEDED", "FENCED"]


@command(app, "create", example=f"lease create {EXAMPLE} {JOB} --generation 0")
@stoppable
async def create(
    out: Output,
    sd: Sd,
    lease: LeaseId,
    *,
    job_id: Annotated[
        UUID | None, typer.Option(help="Write the record of this job, PENDING, into the lease.")
    ] = None,
    generation: Annotated[
        int | None, typer.Option(min=0, max=999, help="The generation of that job; default: 0.")
    ] = None,
    store: Store = "auto",
) -> None:
    """Create a lease. The same call again is no error while the job is PENDING."""
    from cli.lease_text import place
    from cli.opening import store_of, writer
    from leases import verbs
    from protocol.errors import BadParameter
    from protocol.messages import JobMetadata
    from protocol.record import JobStatus

    if generation is not None and job_id is None:
        raise BadParameter("--generation", "it is that of a job: give --job-id too")
    checked_lease(lease)
    metadata = None
    if job_id is not None:
        metadata = JobMetadata(
            job_id=job_id, generation=generation or 0, job_status=JobStatus.PENDING
        )
    made = await verbs.create(
        await store_of(str(sd), store, change_index=True), lease, metadata, **await writer()
    )
    out.result(place(made), f"created lease {lease} at {made.path}, offset {made.offset}")


@command(app, "info", example=f"lease info {EXAMPLE}")
@stoppable
async def info(out: Output, sd: Sd, lease: LeaseId, store: Store = "auto") -> None:
    """Show where a lease is."""
    from cli.lease_text import place
    from cli.opening import store_of
    from leases import verbs

    checked_lease(lease)
    facts = place(await verbs.info(await store_of(str(sd), store), lease))
    out.result(facts, "\n".join(f"{key + ':':9} {value}" for key, value in facts.items()))


@command(app, "status", example=f"lease status {EXAMPLE} --json")
@stoppable
async def status(out: Output, sd: Sd, lease: LeaseId, store: Store = "auto") -> None:
    """Show who holds a lease and, when it is free, what it says about its job.

    Nothing is acquired: asking does not disturb the job.
    """
    from cli.lease_text import status_object, status_text
    from cli.opening import store_of
    from leases import verbs

    checked_lease(lease)
    found = await verbs.status(await store_of(str(sd), store), lease)
    out.result(status_object(found), status_text(lease, found))


@command(app, "fence", example=f"lease fence {EXAMPLE} {JOB} --generation 0")
@stoppable
async def fence(
    out: Output,
    sd: Sd,
    lease: LeaseId,
    *,
    job_id: Annotated[UUID, typer.Option(help="The job that the lease is believed to be of.")],
    generation: Annotated[
        int, typer.Option(min=0, max=999, help="The generation that it is believed to have.")
    ],
    status: Annotated[
        Status, typer.Option(help="The job status that it is believed to have.")
    ] = "PENDING",
    store: Store = "auto",
) -> None:
    """End a job whose host is gone: its lease says FENCED from then on.

    Refused while the lease is held, and when its record is not the expected one.
    """
    from cli.opening import store_of, writer
    from leases import verbs
    from protocol.record import Expectation, JobStatus, next_generation

    checked_lease(lease)
    expected = Expectation(str(job_id), generation, JobStatus(status))
    await verbs.fence(await store_of(str(sd), store), lease, expected, **await writer())
    facts = {
        "sd_id": str(sd),
        "lease_id": lease,
        "job_id": str(job_id),
        "job_status": JobStatus.FENCED.value,
        "generation": next_generation(generation),
    }
    out.result(facts, f"fenced job {job_id}: its generation is {facts['generation']} now")


@command(app, "delete", example=f"lease delete {EXAMPLE}")
@stoppable
async def delete(
    out: Output,
    sd: Sd,
    lease: LeaseId,
    *,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Hide a lease that is held; its place is used again once it is free."
        ),
    ] = False,
    store: Store = "auto",
) -> None:
    """Delete a lease. One that does not exist is no error; one that is held is."""
    from cli.opening import store_of
    from leases import verbs

    checked_lease(lease)
    await verbs.delete(await store_of(str(sd), store, change_index=True), lease, force=force)
    out.done({"sd_id": str(sd), "lease_id": lease}, f"deleted lease {lease}")


@command(app, "list", example=f"lease list {DOMAIN}")
@stoppable
async def list_(out: Output, sd: Sd, store: Store = "auto") -> None:
    """List the leases of a storage domain: owners, job status and generation of each."""
    from cli.lease_text import line, summary
    from cli.opening import store_of
    from leases import verbs

    opened = await store_of(str(sd), store)
    rows = [
        {
            "lease_id": lease_id,
            "offset": offset,
            "updating": updating,
            **({} if updating else await summary(opened, lease_id)),
        }
        for lease_id, offset, updating in await verbs.leases(opened)
    ]
    out.result({"leases": rows}, "\n".join(map(line, rows)) or "no leases")


@command(app, "rebuild", example=f"lease rebuild {DOMAIN}")
@stoppable
async def rebuild(out: Output, sd: Sd, *, store: Store = "auto") -> int:
    """Repair a damaged lease volume: its index by its leases, and the other way round.

    Running copies go on, and what they hold is left as it is: the result names it.
    """
    import time

    from cli.exits import FAILED, OK
    from cli.lease_text import rebuilt_object, rebuilt_text
    from cli.opening import store_of
    from leases import verbs

    opened = await store_of(str(sd), store, change_index=True)
    done = await verbs.rebuild(opened, now=int(time.time()))
    out.result(rebuilt_object(str(sd), done), rebuilt_text(done))
    return FAILED if done.failed else OK
