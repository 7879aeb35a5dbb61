"""oVirt's jobs are our commands, its steps their stages: progress, type, and what went wrong."""

from engine.commands.run import Progress
from engine.commands.table import TYPES
from engine.db import commands, stages
from engine.db.commands import Command
from engine.rest import places
from engine.rest.api import Api
from engine.rest.command_steps import JOB_STATUS, Step, steps
from engine.rest.element import Element, Many, Moment, link, named
from engine.rest.operation import Answer, Call, Listed, Operation
from engine.rest.reading import path_id
from engine.rest.resources.begun import error_of
from engine.rest.schema import (
    ACTION_IN,
    DATE,
    FLAG,
    ID,
    LINKS,
    NUMBER,
    REFERENCE,
    TEXT,
    fields,
    many,
    one_of,
)
from engine.rest.search import parsed
from protocol.errors import NoSuchObject

SEARCH = ("id", "status", "correlation_id")
STATES = {
    status: tuple(state for state, found in JOB_STATUS.items() if found == status)
    for status in sorted(set(JOB_STATUS.values()))
}
BAD = ("failed", "quarantined", "unresolved", "aborted")


def job_element(row: Command) -> Element:
    href = f"{places.JOBS}/{row.id}"
    error = str(error_of(row)["message"]) if row.state in BAD else ""
    title = _title(row)
    return Element(
        "job",
        row.id,
        href,
        {
            "actions": Element("actions", fields={"link": (link("clear", f"{href}/clear"),)}),
            "link": (link("steps", f"{href}/steps"),),
            "description": f"{title}: {error}" if error else title,
            "status": JOB_STATUS[row.state],
            "auto_cleared": False,
            "external": False,
            "start_time": Moment(row.created),
            "last_updated": Moment(row.changed),
            "end_time": None if row.ended is None else Moment(row.ended),
            "owner": Element("user", fields={"user_name": row.user}),
            "correlation_id": row.correlation or None,
            "error": error or None,
        },
    )


def _title(row: Command) -> str:
    kind = TYPES.get(row.type)
    return (kind.title or row.type) if kind is not None else row.type


async def list_jobs(api: Api, call: Call) -> Answer:
    search, most = parsed(call.query.get("search"), SEARCH), call.query.max
    states = None if search["status"] is None else STATES.get(search["status"], ())
    found = await api.database.read(
        lambda c: commands.search(
            c,
            id=search["id"],
            states=states,
            correlation=search["correlation_id"],
            limit=most,
            offset=(search.page - 1) * most,
        )
    )
    return Answer(Listed("jobs", Many("job", tuple(map(job_element, found)))))


async def get_job(api: Api, call: Call) -> Answer:
    id = path_id(call, "job")
    return Answer(job_element(await api.database.read(lambda c: commands.get(c, id))))


async def clear_job(api: Api, call: Call) -> Answer:
    await api.commands.clear(path_id(call, "job"))
    return Answer(Element("action", fields={"status": "complete"}))


def step_element(job: str, step: Step, progress: Progress | None) -> Element:
    percent = progress.percent if progress is not None else None
    if step.status == "finished":
        percent = 100.0
    return Element(
        "step",
        step.id,
        f"{places.JOBS}/{job}/steps/{step.id}",
        {
            "name": step.name,
            "number": step.number,
            "type": step.kind,
            "status": step.status,
            "description": f"{step.title}: {step.error}" if step.error else step.title,
            "progress": int(percent or 0),
            "external": False,
            "start_time": Moment(step.started),
            "end_time": None if step.ended is None else Moment(step.ended),
            "job": named("job", job, places.JOBS),
            "error": step.error or None,
        },
    )


async def _steps(api: Api, call: Call) -> tuple[Element, ...]:
    id = path_id(call, "job")
    row, lines = await api.database.read(lambda c: (commands.get(c, id), stages.of_command(c, id)))
    kind = TYPES.get(row.type)
    made = steps(id, kind.stages if kind is not None else (), lines)
    progress = api.commands.progress(id)
    return tuple(
        step_element(id, one, progress if one.status == "started" else None) for one in made
    )


async def list_steps(api: Api, call: Call) -> Answer:
    return Answer(Listed("steps", Many("step", (await _steps(api, call))[: call.query.max])))


async def get_step(api: Api, call: Call) -> Answer:
    for one in await _steps(api, call):
        if one.id == call.path["step"].lower():
            return Answer(one)
    raise NoSuchObject("step", call.path["step"][:255])


_STATUS = one_of("started", "finished", "failed", "aborted", "unknown")
_JOB = fields(
    ("id", "href", "description", "status"),
    id=ID,
    href=TEXT,
    link=LINKS,
    description=TEXT,
    status=_STATUS,
    auto_cleared=FLAG,
    external=FLAG,
    start_time=DATE,
    last_updated=DATE,
    end_time=DATE,
    owner=fields((), user_name=TEXT),
    correlation_id=TEXT,
    error=TEXT,
)
_STEP = fields(
    ("id", "href", "type", "status", "progress"),
    id=ID,
    href=TEXT,
    name=TEXT,
    number=NUMBER,
    type=one_of("executing", "finalizing"),
    status=_STATUS,
    description=TEXT,
    progress=NUMBER,
    external=FLAG,
    start_time=DATE,
    end_time=DATE,
    job=REFERENCE,
    error=TEXT,
)
_ONE = f"{places.JOBS}/{{id}}"

OPERATIONS = (
    Operation(
        "GET",
        places.JOBS,
        list_jobs,
        "Jobs, the last one first; `search` by id, status or correlation_id.",
        gives=many("job", _JOB),
        query=("search", "max"),
        search=SEARCH,
    ),
    Operation("GET", _ONE, get_job, "One job.", gives=_JOB),
    Operation(
        "GET",
        f"{_ONE}/steps",
        list_steps,
        "The steps of a job that have begun.",
        gives=many("step", _STEP),
        query=("max",),
    ),
    Operation("GET", f"{_ONE}/steps/{{step}}", get_step, "One of them.", gives=_STEP),
    Operation(
        "POST",
        f"{_ONE}/clear",
        clear_job,
        "Go on with what an unresolved command has left.",
        "operator",
        takes=ACTION_IN,
        root="action",
        gives=fields((), status=TEXT),
    ),
)
