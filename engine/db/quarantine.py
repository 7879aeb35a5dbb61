"""Quarantine: what is kept, as nobody knows whether it is still used, or how to be rid of it."""

from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection, update

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import quarantine

Kind = Literal["volume", "attachment", "lease", "snapshot"]
_NOUN = Noun(quarantine, "thing in quarantine")


@dataclass(frozen=True)
class Quarantined:
    """id: the same for the same thing of the same command. object: its id; of an attachment the
    volume's, and host is not None. reason: why. action: what an operator does. cleared: when it
    was; None: it is kept still."""

    id: str
    kind: str
    object: str
    domain: str
    host: str | None
    command: str
    reason: str
    action: str
    at: float
    cleared: float | None = None


def get(c: Connection, id: str) -> Quarantined:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Quarantined, id)


def search(
    c: Connection,
    *,
    all: bool = False,
    kind: str | None = None,
    command: str | None = None,
    host: str | None = None,
    domain: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Quarantined]:
    """The newest first. all: also what was cleared."""
    table = quarantine
    wanted = rows.where(table, kind=kind, command=command, host=host, domain=domain)
    if not all:
        wanted.append(table.c.cleared.is_(None))
    query = rows.columns(table, Quarantined).where(*wanted)
    query = query.order_by(table.c.at.desc(), table.c.id.desc())
    return rows.rows(c, Quarantined, rows.page(query, limit, offset))


def count(c: Connection, *, all: bool = False) -> int:
    wanted = [] if all else [quarantine.c.cleared.is_(None)]
    return rows.counted(c, quarantine, wanted)


def put(c: Connection, row: Quarantined) -> None:
    """In; if it is there already, with this reason from now on."""
    values = asdict(row)
    there = update(quarantine).where(quarantine.c.id == row.id)
    if not c.execute(there.values(**values)).rowcount:
        _NOUN.add(c, values)


def clear(c: Connection, id: str, *, at: float) -> bool:
    """Out; False: it is not in."""
    held = update(quarantine).where(quarantine.c.id == id, quarantine.c.cleared.is_(None))
    return bool(c.execute(held.values(cleared=at)).rowcount)
