"""The copies on hosts, with the verdict on each; and the leases that the engine has made."""

from typing import Any

import msgspec

from engine.db import jobs, leases
from engine.db.jobs import Job
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.reading import path_id


class JobTold(msgspec.Struct, frozen=True):
    """A copy. state: running, done, failed, unresolved. progress: percent. rate: bytes per second.
    verdict: end, reason, action and the story of what was asked and found."""

    id: str
    command: str
    host: str
    lease_domain: str | None
    kind: str
    generation: int
    state: str
    progress: float | None
    bytes: int | None
    rate: float | None
    verdict: dict[str, Any] | None
    begun: float
    ended: float | None


class JobsTold(msgspec.Struct, frozen=True):
    jobs: list[JobTold]


class LeaseTold(msgspec.Struct, frozen=True):
    """state: creating, there, deleting, kept."""

    id: str
    domain: str
    command: str
    state: str


class LeasesTold(msgspec.Struct, frozen=True):
    leases: list[LeaseTold]


def _told(row: Job) -> JobTold:
    verdict = None if row.verdict is None else dict(row.verdict)
    return JobTold(
        row.id,
        row.command,
        row.host,
        row.lease_domain,
        row.kind,
        row.generation,
        row.state,
        row.progress,
        row.bytes,
        row.rate,
        verdict,
        row.begun,
        row.ended,
    )


async def list_jobs(api: Api, call: Call) -> Answer:
    query, most = call.query, call.query.max
    page = query.number("page") or 1
    found = await api.database.read(
        lambda c: jobs.search(
            c,
            state=query.get("state"),
            host=query.get("host"),
            command=query.get("command"),
            limit=most,
            offset=(page - 1) * most,
        )
    )
    return Answer(JobsTold([_told(row) for row in found]))


async def get_job(api: Api, call: Call) -> Answer:
    id = path_id(call, "job")
    return Answer(_told(await api.database.read(lambda c: jobs.get(c, id))))


async def list_leases(api: Api, call: Call) -> Answer:
    rows = await api.database.read(leases.all_leases)
    told = [LeaseTold(row.id, row.domain, row.command, row.state) for row in rows]
    return Answer(LeasesTold(told[: call.query.max]))


OPERATIONS = (
    Operation(
        "GET",
        f"{OURS}/jobs",
        list_jobs,
        "Copies on hosts, the last one first.",
        gives=JobsTold,
        query=("state", "host", "command", "max", "page"),
    ),
    Operation("GET", f"{OURS}/jobs/{{id}}", get_job, "One copy, with its verdict.", gives=JobTold),
    Operation(
        "GET",
        f"{OURS}/leases",
        list_leases,
        "The leases that the engine has made and not deleted yet.",
        gives=LeasesTold,
        query=("max",),
    ),
)
