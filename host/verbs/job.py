"""Job.*: one job, or pages of them."""

from typing import Annotated, Any
from uuid import UUID

import msgspec

from host import local
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from jobs.job import Job
from jobs.registry import PAGE
from jobs.status import Status
from protocol.errors import JobNotActive, JobNotDone, NoSuchJob

PAGE_LIMIT = 1000


class JobId(Params, frozen=True):
    job_id: UUID


class List(Params, frozen=True):
    """With job_ids there are no pages."""

    job_type: str | None = None
    statuses: tuple[Status, ...] = ()
    job_ids: tuple[str, ...] = ()
    offset: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=PAGE_LIMIT)] = PAGE


async def info(host: ThisHost, params: JobId, flow_id: str) -> dict[str, Any]:
    """Tell everything that is known of one job."""
    [found] = await _described(host, [host.agent.registry.get(str(params.job_id))])
    return found


async def list_(host: ThisHost, params: List, flow_id: str) -> dict[str, Any]:
    """Tell everything that is known of jobs, in the order in which they came."""
    registry = host.agent.registry
    if params.job_ids:
        ids = [one.lower() for one in params.job_ids]
        chosen = registry.list(params.job_type, ids)
        page = [job for job in chosen if not params.statuses or job.status in params.statuses]
        return {"jobs": await _described(host, page), "next": None}
    # One more than asked for tells whether there are more.
    found = registry.page(
        offset=params.offset,
        limit=params.limit + 1,
        job_type=params.job_type,
        statuses=params.statuses,
    )
    more = len(found) > params.limit
    return {
        "jobs": await _described(host, list(found[: params.limit])),
        "next": params.offset + params.limit if more else None,
    }


async def abort(host: ThisHost, params: JobId, flow_id: str) -> None:
    """Ask a job to stop; its status tells whether it did."""
    job_id = str(params.job_id)
    if host.updates.has(job_id):
        host.agent.registry.abort(job_id)
    else:
        await host.agent.abort(job_id)


async def delete(host: ThisHost, params: JobId, flow_id: str) -> None:
    """Forget a job that has ended."""
    await host.agent.delete(str(params.job_id))


async def _described(host: ThisHost, jobs: list[Job]) -> list[dict[str, Any]]:
    """What a job is, beside its state: its two ends as they were asked for, and its result."""
    # Copied here, where they do not change: the journal is read in another thread.
    rows = [{**job.info(), **(job.result or {})} for job in jobs]
    return await local.run(_with_endpoints, host, rows)


def _with_endpoints(host: ThisHost, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**row, **_endpoints(host, row["id"])} for row in rows]


def _endpoints(host: ThisHost, job_id: str) -> dict[str, Any]:
    try:
        spec = host.journal.folder(job_id).spec()
    except (OSError, msgspec.MsgspecError):  # not of a worker, or just forgotten
        return {}
    return {"source": spec.source, "destination": spec.destination, "flow_id": spec.flow_id}


FACTS = (
    "id, status, description, job_type, and where known: progress (percent), error (code, kind,"
    " message, data), bytes, total_bytes, rate (bytes/s), eta (s), stage, created, started, ended"
    " (seconds since the epoch), source, destination, flow_id; when done also virtual_size,"
    " seconds, verified, path_taken, or generation and legality of an updated volume"
)

VERBS = (
    Verb("Job.info", JobId, info, FACTS, reads=True, errors=(NoSuchJob,)),
    Verb(
        "Job.list",
        List,
        list_,
        "jobs: as Job.info returns them; next: the offset of the next page, or null",
        reads=True,
    ),
    Verb("Job.abort", JobId, abort, "true", errors=(NoSuchJob, JobNotActive)),
    Verb("Job.delete", JobId, delete, "true", errors=(NoSuchJob, JobNotDone)),
)
