"""Webhooks: what stands in the audit log is delivered to the urls that asked for it.

The log is read with a position that is kept in the database together with the deliveries made of
it, so nothing is lost over a crash; something may come twice, with the same Leasehold-Delivery. A
delivery that fails is tried again with longer and longer pauses, and given up in the end.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
import trio
from sqlalchemy import Connection

from engine.commands.telling import ENDED
from engine.config import Webhooks as Settings
from engine.db import audit, commands, deliveries, positions, webhooks
from engine.db.audit import Entry
from engine.db.database import Database
from engine.db.deliveries import Delivery
from engine.events import Bus, matches
from engine.webhook_posts import post, signature
from engine.webhook_urls import Rules
from protocol.errors import Error

log = structlog.get_logger()

READER = "webhooks"
PAGE = 200  # rows of the log that are read at once
ROUND = 30.0  # seconds; somebody else may have changed the clock
MOST = 10_000  # deliveries of one webhook that wait; what comes then is not delivered
KEPT = 7 * 86400.0  # seconds that one which has ended is kept
COMMAND = "command"
OBJECTS = (COMMAND, "disk", "domain", "host", "user", "webhook")  # of the rows in the audit log
KINDS = (f"{COMMAND}.ended", *(f"{one}.changed" for one in OBJECTS))

Post = Callable[[str, dict[str, str], bytes], Awaitable[str]]


@dataclass(frozen=True)
class Pauses:
    """Seconds before a try. tries: at most."""

    first: float
    most: float
    tries: int

    def after(self, tries: int) -> float | None:
        """tries: that have failed. None: it is given up."""
        if tries >= self.tries:
            return None
        return float(min(self.most, self.first * 2.0 ** min(tries - 1, 30)))


class Webhooks:
    """`run` delivers, for as long as it runs. post: why it failed, "" if it did not."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        settings: Settings,
        *,
        clock: Callable[[], float] = time.time,
        post: Post | None = None,
    ) -> None:
        self._database = database
        self._bus = bus
        self._settings = settings
        self._pauses = Pauses(settings.pause, settings.pause_most, settings.tries)
        self._clock = clock
        self._post = post or self._posted
        self._new = trio.Event()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._repeated, self._take, self._told)
            nursery.start_soon(self._repeated, self._deliver, self._due)

    async def _repeated(
        self, work: Callable[[], Awaitable[bool]], wait: Callable[[], Awaitable[None]]
    ) -> None:
        """work: whether there is more to do at once. A database that is gone is waited for."""
        while True:
            try:
                more = await work()
            except Error as e:
                log.warning("webhooks wait", reason=str(e))
                await trio.sleep(ROUND)
                continue
            if not more:
                await wait()

    # --- from the log to deliveries -------------------------------------------------------------

    async def _take(self) -> bool:
        taken, made = await self._database.write(self._taken)
        if made:
            self._new.set()
        return taken >= PAGE

    def _taken(self, c: Connection) -> tuple[int, int]:
        """Rows that were read, and deliveries that were made."""
        position = positions.get(c, READER)
        if position is None:  # what was before there were webhooks is told nobody
            positions.put(c, READER, audit.last_id(c))
            return 0, 0
        rows = audit.since(c, position, limit=PAGE)
        if not rows:
            return 0, 0
        hooks = [one for one in webhooks.all_webhooks(c) if one.active]
        room = {one.id: MOST - deliveries.waiting(c, one.id) for one in hooks}
        made = 0
        for row in rows if hooks else ():
            event = event_of(c, row)
            for one in hooks:
                if matches(event["event"], one.events) and room[one.id] > 0:
                    deliveries.add(c, one.id, event, at=self._clock())
                    room[one.id] -= 1
                    made += 1
        positions.put(c, READER, rows[-1].id)
        return len(rows), made

    async def _told(self) -> None:
        with self._bus.subscribed(room=1) as heard, trio.move_on_after(ROUND):
            while (await heard.receive()).id is None:
                pass

    # --- from deliveries to urls ----------------------------------------------------------------

    async def _deliver(self) -> bool:
        self._new = trio.Event()
        now, most = self._clock(), self._settings.at_once
        rows = await self._database.read(lambda c: deliveries.due(c, now, limit=most))
        async with trio.open_nursery() as nursery:
            for row in rows:
                nursery.start_soon(self._try, row)
        return bool(rows)

    async def _due(self) -> None:
        def look(c: Connection) -> float | None:
            deliveries.forget(c, self._clock() - KEPT)
            return deliveries.next_due(c)

        new = self._new
        at = await self._database.write(look)
        wait = ROUND if at is None else min(ROUND, max(0.0, at - self._clock()))
        with trio.move_on_after(wait):
            await new.wait()

    async def _try(self, row: Delivery) -> None:
        try:
            hook, secret = await self._database.read(
                lambda c: (webhooks.get(c, row.webhook), webhooks.secret(c, row.webhook))
            )
            body = msgspec.json.encode(row.event)
            failure = await self._post(hook.url, self._headers(row, body, secret), body)
            await self._database.write(lambda c: self._noted(c, row, failure))
        except Error as e:  # it was removed meanwhile, or the database is gone: it comes again
            log.info("a delivery was not noted", delivery=row.id, reason=str(e))

    def _noted(self, c: Connection, row: Delivery, failure: str) -> None:
        if not failure:
            deliveries.sent(c, row.id)
            return
        pause = self._pauses.after(row.tries + 1)
        again = None if pause is None else self._clock() + pause
        deliveries.failed(c, row.id, failure, again_at=again)

    def _headers(self, row: Delivery, body: bytes, secret: str | None) -> dict[str, str]:
        made = {
            "content-type": "application/json",
            "leasehold-event": str(row.event["event"]),
            "leasehold-delivery": str(row.id),
        }
        if secret is not None:
            made["leasehold-signature"] = signature(secret, int(self._clock()), body)
        return made

    async def _posted(self, url: str, headers: dict[str, str], body: bytes) -> str:
        rules = Rules(self._settings.plain, self._settings.private)
        return await post(url, headers, body, rules=rules, timeout=self._settings.timeout)


def event_of(c: Connection, row: Entry) -> Mapping[str, Any]:
    """What a receiver is told. id: of the row: it tells the order. command: as it is by now."""
    command = commands.find(c, row.object) if row.kind == COMMAND else None
    told: dict[str, Any] = {"event": kind_of(row), **msgspec.to_builtins(row)}
    if command is not None:
        told["command"] = {
            "id": command.id,
            "type": command.type,
            "state": command.state,
            "stage": command.stage,
            "spec": command.spec,
            "error": command.error,
        }
    return told


def kind_of(row: Entry) -> str:
    """ "command.ended", else the kind of the object with ".changed"."""
    ended = row.kind == COMMAND and row.code in ENDED.values()
    return f"{COMMAND}.ended" if ended else f"{row.kind}.changed"
