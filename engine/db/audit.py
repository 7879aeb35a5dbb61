"""The audit log: what was done, by whom. Also the events that clients may read later."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import Connection, delete, func, select

from engine.db import rows
from engine.db.schema import audit
from protocol.errors import NoSuchObject

Severity = Literal["normal", "warning", "error", "alert"]


@dataclass(frozen=True)
class Entry:
    """id: 1, 2, 3 ... in the order in which they were committed; some may be missing.

    kind, object: what it is about: "disk", and its id. text: for people. user: "" is the engine.
    """

    id: int
    at: float
    severity: Severity
    code: int
    user: str
    correlation: str | None
    kind: str
    object: str
    text: str


def add(
    c: Connection,
    *,
    at: float,
    severity: Severity,
    code: int,
    user: str,
    correlation: str | None,
    kind: str,
    object: str,
    text: str,
) -> int:
    """Its id."""
    values = {
        "at": at,
        "severity": severity,
        "code": code,
        "user": user,
        "correlation": correlation,
        "kind": kind,
        "object": object,
        "text": text,
    }
    key = c.execute(audit.insert().values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def get(c: Connection, id: int) -> Entry:
    """Raises NoSuchObject (4400)."""
    found = rows.first(c, Entry, rows.columns(audit, Entry).where(audit.c.id == id))
    if found is None:
        raise NoSuchObject("event", str(id))
    return found


def search(
    c: Connection,
    *,
    after: int | None = None,
    severity: str | None = None,
    correlation: str | None = None,
    user: str | None = None,
    kind: str | None = None,
    object: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Entry]:
    """The newest first. after: only those with larger ids."""
    wanted = rows.where(
        audit, severity=severity, correlation=correlation, user=user, kind=kind, object=object
    )
    if after is not None:
        wanted.append(audit.c.id > after)
    query = rows.columns(audit, Entry).where(*wanted).order_by(audit.c.id.desc())
    return rows.rows(c, Entry, rows.page(query, limit, offset))


def since(c: Connection, after: int, *, limit: int = rows.PAGE) -> list[Entry]:
    """Those with larger ids, the oldest first. Writes are one after the other, so none comes later
    with a smaller id."""
    query = rows.columns(audit, Entry).where(audit.c.id > after).order_by(audit.c.id)
    return rows.rows(c, Entry, rows.page(query, limit, 0))


def last_id(c: Connection) -> int:
    """0: there is none."""
    last: int = c.execute(select(func.coalesce(func.max(audit.c.id), 0))).scalar_one()
    return last


def forget(c: Connection, before: float, *, limit: int = 10_000) -> int:
    """Remove at most `limit` from before then; how many. Ids are not given again."""
    old = select(audit.c.id).where(audit.c.at < before).order_by(audit.c.id).limit(limit)
    return c.execute(delete(audit).where(audit.c.id.in_(old))).rowcount
