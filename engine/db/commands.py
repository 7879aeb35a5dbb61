"""Commands: what was asked for, and how far it is. Their journal is in `stages`."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, delete, exists, func, select, update

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import commands, leases, quarantine

State = Literal["running", "undoing", "succeeded", "failed", "aborted", "unresolved", "quarantined"]
ENDED = ("succeeded", "failed", "aborted")  # nothing of it is left to do
_NOUN = Noun(commands, "command")


@dataclass(frozen=True)
class Command:
    """spec: as its type says. facts: what its stages found, together. stage: the last that began.

    error: code, kind, message, data: why it failed. verdict: of its job. ended: None: it has not,
    or goes on again.
    """

    id: str
    type: str
    state: State
    spec: Mapping[str, Any]
    user: str
    created: float
    changed: float
    stage: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    host: str | None = None
    correlation: str | None = None
    abort_asked: bool = False
    error: Mapping[str, Any] | None = None
    verdict: Mapping[str, Any] | None = None
    ended: float | None = None


def get(c: Connection, id: str) -> Command:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Command, id)


def find(c: Connection, id: str) -> Command | None:
    return _NOUN.find(c, Command, id)


def search(
    c: Connection,
    *,
    id: str | None = None,
    states: Collection[str] | None = None,
    type: str | None = None,
    user: str | None = None,
    correlation: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Command]:
    """The newest first. states: any of them."""
    wanted = rows.where(
        commands, id=id, state=_several(states), type=type, user=user, correlation=correlation
    )
    query = rows.columns(commands, Command).where(*wanted)
    query = query.order_by(commands.c.created.desc(), commands.c.id.desc())
    return rows.rows(c, Command, rows.page(query, limit, offset))


def count(c: Connection, *, states: Collection[str] | None = None, type: str | None = None) -> int:
    return rows.counted(c, commands, rows.where(commands, state=_several(states), type=type))


def in_states(c: Connection, states: Collection[str]) -> list[Command]:
    """All of them, the oldest first."""
    query = rows.columns(commands, Command).where(commands.c.state.in_(list(states)))
    return rows.rows(c, Command, query.order_by(commands.c.created, commands.c.id))


def counts(c: Connection) -> dict[tuple[str, str], int]:
    """{(type, state): how many}."""
    table = commands
    query = select(table.c.type, table.c.state, func.count()).group_by(table.c.type, table.c.state)
    return {(type, state): number for type, state, number in c.execute(query)}


def correlated(c: Connection, user: str, correlation: str) -> list[Command]:
    """Those that a user began with that correlation id, the newest first."""
    return search(c, user=user, correlation=correlation)


def add(c: Connection, command: Command) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(c, asdict(command))


def note(c: Connection, id: str, facts: Mapping[str, Any], *, at: float) -> None:
    """More facts. Raises NoSuchObject (4400), BadParameter (1000): too many."""
    _NOUN.change(c, id, facts={**get(c, id).facts, **facts}, changed=at)


def move(
    c: Connection,
    id: str,
    state: State,
    *,
    expected: str,
    at: float,
    stage: str | None = None,
    facts: Mapping[str, Any] | None = None,
    error: Mapping[str, Any] | None = None,
    verdict: Mapping[str, Any] | None = None,
    host: str | None = None,
    ended: bool = False,
) -> None:
    """From the state `expected`, perhaps to the same. facts: more of them. Of the others None:
    they stay as they are. ended: it has, at `at`; else it has not.

    Raises NoSuchObject (4400), WrongState (4403).
    """
    given = {"stage": stage, "error": error, "verdict": verdict, "host": host}
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if facts:
        values["facts"] = {**get(c, id).facts, **facts}
    guard = update(commands).where(commands.c.id == id, commands.c.state == expected)
    values |= {"state": state, "changed": at, "ended": at if ended else None}
    if not c.execute(guard.values(**values)).rowcount:
        raise _NOUN.wrong(c, id, [expected])


def ask_abort(c: Connection, id: str, *, expected: Collection[str], at: float) -> None:
    """Raises NoSuchObject (4400); WrongState (4403): it is in none of these states."""
    guard = update(commands).where(commands.c.id == id, commands.c.state.in_(list(expected)))
    if not c.execute(guard.values(abort_asked=True, changed=at)).rowcount:
        raise _NOUN.wrong(c, id, expected)


def forget(c: Connection, before: float, *, limit: int = 1000) -> int:
    """Remove at most `limit` that ended before then, with their journal and jobs; how many.

    Those stay of which something is in quarantine, or a lease is not gone.
    """
    held = exists().where(quarantine.c.command == commands.c.id, quarantine.c.cleared.is_(None))
    leased = exists().where(leases.c.command == commands.c.id, leases.c.state != "gone")
    old = (
        select(commands.c.id)
        .where(commands.c.state.in_(ENDED), commands.c.ended < before, ~held, ~leased)
        .order_by(commands.c.created)
        .limit(limit)
    )
    ids = list(c.execute(old).scalars())
    for table, column in ((leases, leases.c.command), (quarantine, quarantine.c.command)):
        c.execute(delete(table).where(column.in_(ids)))
    c.execute(delete(commands).where(commands.c.id.in_(ids)))
    return len(ids)


def _several(states: Collection[str] | None) -> list[str] | None:
    return None if states is None else list(states)
