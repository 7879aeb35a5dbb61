"""Requests that begin a command: once for each correlation id, and waited for if asked to."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from engine.commands.specs import new_id
from engine.db import commands
from engine.db.commands import Command
from engine.rest import places
from engine.rest.api import Api
from engine.rest.element import Element, named
from engine.rest.operation import Call
from protocol.errors import BadParameter
from protocol.reported import Reported

S = TypeVar("S", bound=msgspec.Struct)
PENDING, COMPLETE = "pending", "complete"
SUCCEEDED = "succeeded"
ACTIVE = ("running", "undoing")


@dataclass(frozen=True)
class Begun(Generic[S]):
    """spec: of the command that works on it, which may be that of an earlier request."""

    id: str
    spec: S


async def begun(api: Api, call: Call, name: str, spec: S) -> Begun[S]:
    """Begin a command, or find the one that the same request with the same correlation id began.

    The ids that the engine chooses are none of the request. Raises what Commands.start does, and
    BadParameter (1000): the correlation id was used for another one of that type.
    """
    waits(call)  # a wish that makes no sense is told before anything is done
    if not call.correlation:
        return Begun(await api.commands.start(name, spec, user=call.user.name), spec)
    async with api.turn:  # or the same two at once would both find nothing
        for one in await api.database.read(
            lambda c: commands.correlated(c, call.user.name, call.correlation)
        ):
            if one.type == name:
                return _same(one, spec)
        id = await api.commands.start(name, spec, user=call.user.name, correlation=call.correlation)
    return Begun(id, spec)


def _same(command: Command, spec: S) -> Begun[S]:
    earlier = msgspec.convert(command.spec, type(spec))
    if asked(earlier) != asked(spec):
        raise BadParameter("correlation_id", f"it is that of command {command.id}, another request")
    return Begun(command.id, earlier)


def asked(spec: msgspec.Struct) -> dict[str, object]:
    """What a client asked for, without the ids that were chosen for it."""
    return {
        one.name: getattr(spec, one.name)
        for one in msgspec.structs.fields(spec)
        if one.default_factory is not new_id
    }


def waits(call: Call) -> bool:
    """async=false, in the query or in the action. Raises BadParameter (1000)."""
    wished = call.query.flag("async")
    return (call.node.flag("async") if wished is None else wished) is False


async def ended(api: Api, call: Call, begun: Begun[S]) -> str:
    """PENDING at once; with async=false COMPLETE, or PENDING when it takes too long.

    Raises Reported: it was waited for, and failed.
    """
    if not waits(call):
        return PENDING
    row = await api.commands.wait(begun.id, api.config.action_seconds)
    if row.state == SUCCEEDED:
        return COMPLETE
    if row.state in ACTIVE:
        return PENDING
    raise Reported(error_of(row))


def error_of(row: Command) -> dict[str, object]:
    """code, kind, message, data: why a command has not succeeded."""
    if row.error is not None:
        return dict(row.error)
    message = f"command {row.id} is {row.state}"
    return {"code": 100, "kind": "Error", "message": message, "data": {}}


def action(begun: Begun[S], status: str, disk: str | None = None) -> Element:
    """The answer to an action: oVirt's, with the job that says how it goes on."""
    return Element(
        "action",
        begun.id,
        fields={
            "disk": None if disk is None else named("disk", disk, places.DISKS),
            "job": named("job", begun.id, places.JOBS),
            "status": status,
        },
    )
