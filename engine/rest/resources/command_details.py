"""Commands as they are: state, error, verdict, progress, steps; abort, resolve, clear."""

from dataclasses import asdict
from typing import Any

import msgspec

from engine.commands.table import TYPES
from engine.db import commands, stages
from engine.db.commands import Command
from engine.rest.api import Api
from engine.rest.command_steps import steps
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.reading import path_id
from engine.rest.settings import PAGE


class ProgressTold(msgspec.Struct, frozen=True):
    """percent: 0 to 100. bytes: of total_bytes. rate: bytes per second. eta: seconds left. None:
    not known."""

    percent: float | None = None
    bytes: int | None = None
    rate: float | None = None
    total_bytes: int | None = None
    eta: float | None = None


class StepTold(msgspec.Struct, frozen=True):
    """status: started, finished, failed, aborted, or unknown: it was given up."""

    name: str
    title: str
    status: str
    started: float
    ended: float | None
    error: str


class CommandTold(msgspec.Struct, frozen=True):
    """state: running, undoing, succeeded, failed, aborted, unresolved, quarantined. spec: what was
    asked for. verdict: of its job, with the story of how it was found. Times: seconds since the
    epoch. progress, steps: of one command that is asked for, not in a list."""

    id: str
    type: str
    state: str
    stage: str | None
    spec: dict[str, Any]
    host: str | None
    user: str
    correlation: str | None
    abort_asked: bool
    error: dict[str, Any] | None
    verdict: dict[str, Any] | None
    created: float
    changed: float
    ended: float | None
    progress: ProgressTold | None = None
    steps: list[StepTold] | None = None


class CommandsTold(msgspec.Struct, frozen=True):
    commands: list[CommandTold]


class Clear(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """by_hand: a person has removed what was left, and looked that nothing uses it."""

    by_hand: bool = False


def told(row: Command) -> CommandTold:
    return CommandTold(
        id=row.id,
        type=row.type,
        state=row.state,
        stage=row.stage,
        spec=dict(row.spec),
        host=row.host,
        user=row.user,
        correlation=row.correlation,
        abort_asked=row.abort_asked,
        error=None if row.error is None else dict(row.error),
        verdict=None if row.verdict is None else dict(row.verdict),
        created=row.created,
        changed=row.changed,
        ended=row.ended,
    )


async def command_told(api: Api, id: str) -> CommandTold:
    row, lines = await api.database.read(lambda c: (commands.get(c, id), stages.of_command(c, id)))
    kind, progress = TYPES.get(row.type), api.commands.progress(id)
    made = steps(id, kind.stages if kind is not None else (), lines)
    return msgspec.structs.replace(
        told(row),
        progress=None if progress is None else ProgressTold(**asdict(progress)),
        steps=[
            StepTold(one.name, one.title, one.status, one.started, one.ended, one.error)
            for one in made
        ],
    )


async def list_commands(api: Api, call: Call) -> Answer:
    state, most = call.query.get("state"), call.query.max
    page = call.query.number("page") or 1
    found = await api.database.read(
        lambda c: commands.search(
            c,
            states=None if state is None else (state,),
            type=call.query.get("type"),
            correlation=call.query.get("correlation_id"),
            limit=most,
            offset=(page - 1) * most,
        )
    )
    return Answer(CommandsTold([told(row) for row in found]))


async def get_command(api: Api, call: Call) -> Answer:
    return Answer(await command_told(api, path_id(call, "command")))


async def abort(api: Api, call: Call) -> Answer:
    id = path_id(call, "command")
    await api.commands.abort(id)
    return Answer(await command_told(api, id), 202)


async def resolve(api: Api, call: Call) -> Answer:
    id = path_id(call, "command")
    await api.commands.resolve(id)
    return Answer(await command_told(api, id), 202)


async def clear(api: Api, call: Call) -> Answer:
    id = path_id(call, "command")
    await api.commands.clear(id, by_hand=call.struct(Clear).by_hand)
    return Answer(await command_told(api, id), 202)


_ALL = f"{OURS}/commands"
_ONE = f"{_ALL}/{{id}}"

OPERATIONS = (
    Operation(
        "GET",
        _ALL,
        list_commands,
        f"Commands, the last one first, {PAGE} at once.",
        gives=CommandsTold,
        query=("state", "type", "correlation_id", "max", "page"),
    ),
    Operation("GET", _ONE, get_command, "One command with its steps.", gives=CommandTold),
    Operation(
        "POST",
        f"{_ONE}/abort",
        abort,
        "Ask it to end; it is undone then.",
        "operator",
        gives=CommandTold,
        status=(202,),
    ),
    Operation(
        "POST",
        f"{_ONE}/resolve",
        resolve,
        "Ask again what became of an unresolved command.",
        "operator",
        gives=CommandTold,
        status=(202,),
    ),
    Operation(
        "POST",
        f"{_ONE}/clear",
        clear,
        "Go on with what it has left; by_hand: a person has done that.",
        "operator",
        takes=Clear,
        gives=CommandTold,
        status=(202,),
    ),
)
