"""What could not be taken away, and is kept until a person has looked; and how it is cleared."""

from collections.abc import Iterable
from dataclasses import asdict

import msgspec
from sqlalchemy import Connection

from engine.db import called, quarantine
from engine.db.quarantine import Quarantined
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.resources.command_details import Clear, CommandTold, command_told
from protocol.errors import NoSuchObject

LONGEST = 512


class KeptTold(msgspec.Struct, frozen=True):
    """kind: volume, attachment, lease, snapshot. object: its id; of an attachment the volume's.
    domain, host: ids; what they are called now, where there still are such.

    reason: why it is kept. action: what a person does. cleared: null: it is kept still.
    """

    id: str
    kind: str
    object: str
    domain: str
    domain_name: str | None
    host: str | None
    host_name: str | None
    command: str
    reason: str
    action: str
    at: float
    cleared: float | None


class QuarantineTold(msgspec.Struct, frozen=True):
    quarantine: list[KeptTold]


def _told(c: Connection, rows: Iterable[Quarantined]) -> list[KeptTold]:
    domains, hosts = called.every_domain(c), called.every_host(c)
    return [
        KeptTold(
            **asdict(row),
            domain_name=domains.get(row.domain),
            host_name=None if row.host is None else hosts.get(row.host),
        )
        for row in rows
    ]


async def list_kept(api: Api, call: Call) -> Answer:
    every, most = call.query.flag("all") or False, call.query.max
    page = call.query.number("page") or 1
    told = await api.database.read(
        lambda c: _told(c, quarantine.search(c, all=every, limit=most, offset=(page - 1) * most))
    )
    return Answer(QuarantineTold(told))


def _id(call: Call) -> str:
    id = call.path["id"]
    if len(id) > LONGEST or not id.isprintable():
        raise NoSuchObject("quarantine", id[:255])
    return id


async def get_kept(api: Api, call: Call) -> Answer:
    (told,) = await api.database.read(lambda c: _told(c, [quarantine.get(c, _id(call))]))
    return Answer(told)


async def clear(api: Api, call: Call) -> Answer:
    """By its command: what of it rests on what is cleared with it."""
    row = await api.database.read(lambda c: quarantine.get(c, _id(call)))
    await api.commands.clear(row.command, by_hand=call.struct(Clear).by_hand)
    return Answer(await command_told(api, row.command), 202)


_ALL = f"{OURS}/quarantine"

OPERATIONS = (
    Operation(
        "GET",
        _ALL,
        list_kept,
        "What is kept; `all`: also what was cleared.",
        gives=QuarantineTold,
        query=("all", "max", "page"),
    ),
    Operation("GET", f"{_ALL}/{{id}}", get_kept, "One of it.", gives=KeptTold),
    Operation(
        "POST",
        f"{_ALL}/{{id}}/clear",
        clear,
        "Try again to take away all that its command has left; by_hand: a person has done that.",
        "operator",
        takes=Clear,
        gives=CommandTold,
        status=(202,),
    ),
)
