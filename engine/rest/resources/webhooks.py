"""Webhooks: urls that events are delivered to. Their secrets go in and never come out."""

import re
from typing import Annotated
from uuid import uuid4

import msgspec
from msgspec import Meta
from sqlalchemy import Connection

from engine.db import webhooks
from engine.db.webhooks import Webhook
from engine.events import matches
from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.reading import path_id
from engine.rest.refused import Refused
from engine.webhook_urls import checked
from engine.webhooks import KINDS
from protocol.errors import BadParameter

MOST = 100  # webhooks
LEAST_SECRET = 16  # characters
MOST_KINDS = 50  # of events that one may ask for
_PATTERN = f"^({'|'.join(map(re.escape, KINDS))})$"
_Kind = Annotated[str, Meta(max_length=100, extra_json_schema={"pattern": _PATTERN})]
# What is surely one; engine/webhook_urls.py reads it.
_URL = "^https://[a-z]{1,20}[.]example[.](com|org)(/[A-Za-z0-9_.-]{0,40}){0,4}$"


class WebhookTold(msgspec.Struct, frozen=True):
    """events: the kinds that it is told of; none: all. signed: there is a secret."""

    id: str
    url: str
    events: list[str]
    active: bool
    signed: bool


class WebhooksTold(msgspec.Struct, frozen=True):
    webhooks: list[WebhookTold]


class NewWebhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """events: kinds, or "disk." for all that begin so; none: all. secret: signs each delivery
    (HMAC-SHA256); 16 characters at least."""

    url: Annotated[str, Meta(extra_json_schema={"pattern": _URL})]
    secret: Annotated[str, Meta(min_length=LEAST_SECRET, max_length=1000)] | None = None
    events: Annotated[list[_Kind], Meta(max_length=MOST_KINDS)] = []
    active: bool = True


def _told(row: Webhook) -> WebhookTold:
    return WebhookTold(row.id, row.url, list(row.events), row.active, row.signed)


async def list_webhooks(api: Api, call: Call) -> Answer:
    rows = await api.database.read(webhooks.all_webhooks)
    return Answer(WebhooksTold([_told(row) for row in rows]))


async def get_webhook(api: Api, call: Call) -> Answer:
    id = path_id(call, "webhook")
    return Answer(_told(await api.database.read(lambda c: webhooks.get(c, id))))


async def add_webhook(api: Api, call: Call) -> Answer:
    new = call.struct(NewWebhook)
    checked(new.url, api.config.webhooks)
    for one in new.events:
        if not any(matches(kind, [one]) for kind in KINDS):
            raise BadParameter("events", f"{one!r:.100} is delivered never: {', '.join(KINDS)} are")
    row = Webhook(str(uuid4()), new.url, tuple(new.events), new.active, new.secret is not None)

    def work(c: Connection) -> None:
        if len(webhooks.all_webhooks(c)) >= MOST:
            raise Refused(409, f"there are {MOST} webhooks already")
        webhooks.add(c, row, secret=new.secret)

    await api.admin(call).change("webhook", row.id, f"added webhook {row.id}", work)
    return Answer(_told(row), 201)


async def remove_webhook(api: Api, call: Call) -> Answer:
    id = path_id(call, "webhook")
    await api.admin(call).change(
        "webhook", id, f"removed webhook {id}", lambda c: webhooks.remove(c, id)
    )
    return Answer({})


_ALL = f"{OURS}/webhooks"
_ONE = f"{_ALL}/{{id}}"

OPERATIONS = (
    Operation("GET", _ALL, list_webhooks, "All webhooks.", "admin", gives=WebhooksTold),
    Operation(
        "POST",
        _ALL,
        add_webhook,
        "Have events delivered to a url.",
        "admin",
        takes=NewWebhook,
        gives=WebhookTold,
        status=(201,),
    ),
    Operation("GET", _ONE, get_webhook, "One webhook.", "admin", gives=WebhookTold),
    Operation("DELETE", _ONE, remove_webhook, "Remove it.", "admin", gives=dict),
)
