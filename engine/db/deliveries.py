"""Deliveries: one event that one webhook is to be told of, until it has heard it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import deliveries

State = Literal["waiting", "sent", "failed"]
MOVES = {"waiting": (), "sent": ("waiting",), "failed": ("waiting",)}
_NOUN = Noun(deliveries, "delivery", MOVES)


@dataclass(frozen=True)
class Delivery:
    """event: JSON. tries: so far. next_at: when it is due."""

    id: int
    webhook: str
    event: Mapping[str, Any]
    state: State
    tries: int
    next_at: float
    last_error: str | None


def get(c: Connection, id: int) -> Delivery:
    """Raises NoSuchObject (4400)."""
    found = rows.first(c, Delivery, _ALL.where(deliveries.c.id == id))
    if found is None:
        raise _NOUN.missing(str(id))
    return found


def add(c: Connection, webhook: str, event: Mapping[str, Any], *, at: float) -> int:
    """Due at `at`; its id."""
    values = {"webhook": webhook, "event": event, "state": "waiting", "tries": 0, "next_at": at}
    key = c.execute(deliveries.insert().values(**values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def due(c: Connection, now: float, *, limit: int = rows.PAGE) -> list[Delivery]:
    """Those whose time has come, the one that is due longest first."""
    table = deliveries
    query = _ALL.where(table.c.state == "waiting", table.c.next_at <= now)
    return rows.rows(c, Delivery, rows.page(query.order_by(table.c.next_at, table.c.id), limit, 0))


def next_due(c: Connection) -> float | None:
    """When the next one is; None: none waits."""
    table = deliveries
    query = select(func.min(table.c.next_at)).where(table.c.state == "waiting")
    return c.execute(query).scalar()


def of_webhook(c: Connection, webhook: str, *, limit: int = rows.PAGE) -> list[Delivery]:
    """The newest first."""
    query = _ALL.where(deliveries.c.webhook == webhook).order_by(deliveries.c.id.desc())
    return rows.rows(c, Delivery, rows.page(query, limit, 0))


def waiting(c: Connection, webhook: str) -> int:
    wanted = rows.where(deliveries, webhook=webhook, state="waiting")
    return rows.counted(c, deliveries, wanted)


def sent(c: Connection, id: int) -> None:
    """Raises NoSuchObject (4400), WrongState (4403)."""
    tries = deliveries.c.tries + 1
    _NOUN.move(c, id, "sent", ("waiting",), tries=tries, last_error=None)


def failed(c: Connection, id: int, error: str, *, again_at: float | None) -> None:
    """again_at: None: it is given up. Raises NoSuchObject (4400), WrongState (4403)."""
    values: dict[str, Any] = {"tries": deliveries.c.tries + 1, "last_error": error[:1000]}
    if again_at is None:
        _NOUN.move(c, id, "failed", ("waiting",), **values)
    else:
        _NOUN.move(c, id, "waiting", ("waiting",), next_at=again_at, **values)


def forget(c: Connection, before: float) -> int:
    """Those that were due before then and do not wait; how many."""
    table = deliveries
    old = delete(table).where(table.c.state.in_(("sent", "failed")), table.c.next_at < before)
    return c.execute(old).rowcount


_ALL = rows.columns(deliveries, Delivery)
