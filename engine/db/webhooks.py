"""Webhooks: urls that are told of events. What is to be told them is in `deliveries`."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from engine.db import secrets
from engine.db.rows import Noun
from engine.db.schema import webhooks

_NOUN = Noun(webhooks, "webhook")


@dataclass(frozen=True)
class Webhook:
    """events: the kinds that it is told of. signed: it has a secret, which is told nobody."""

    id: str
    url: str
    events: tuple[str, ...]
    active: bool = True
    signed: bool = False


def get(c: Connection, id: str) -> Webhook:
    """Raises NoSuchObject (4400)."""
    row = c.execute(select(webhooks).where(webhooks.c.id == id)).first()
    if row is None:
        raise _NOUN.missing(id)
    return _webhook(row)


def all_webhooks(c: Connection) -> list[Webhook]:
    return [_webhook(row) for row in c.execute(select(webhooks).order_by(webhooks.c.id))]


def secret(c: Connection, id: str) -> str | None:
    """By which what it is told is signed. Raises NoSuchObject (4400)."""
    get(c, id)
    sealed = c.execute(select(webhooks.c.secret).where(webhooks.c.id == id)).scalar()
    found: str | None = secrets.unseal(c, sealed, _place(id))
    return found


def add(c: Connection, webhook: Webhook, secret: str | None = None) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(
        c,
        {
            "id": webhook.id,
            "url": webhook.url,
            "events": webhook.events,
            "active": webhook.active,
            "secret": secrets.seal(c, secret, _place(webhook.id)),
        },
    )


def set_active(c: Connection, id: str, active: bool) -> None:
    """Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, active=active)


def remove(c: Connection, id: str) -> None:
    """With what is still to be told it. Raises NoSuchObject (4400)."""
    _NOUN.remove(c, id)


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(row.id, row.url, tuple(row.events), row.active, row.secret is not None)


def _place(id: str) -> str:
    return f"webhooks.secret of {id}"
