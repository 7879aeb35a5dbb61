"""Events as a stream of HTTP: GET /leasehold/api/v1/events, as text/event-stream.

What stands in the audit log is sent with its id, as "audit.added". It is read from the database, so
nothing of it is lost, and who comes again with Last-Event-ID hears what was between. It is read a
page at a time, the next one when the last was sent: a listener costs no more than that, however far
behind it is. A database that is gone is waited for. All other events are hints without an id:
"job.progress", "disk.changed"; a reader that is too slow loses some and is told so by
"events.lost". Source of the format: HTML Living Standard, server-sent events.
"""

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from engine.db import audit
from engine.db.database import Database
from engine.events import Bus, Event, matches
from protocol.errors import TooManyRequests

PATH = "/leasehold/api/v1/events"
AUDIT = "audit.added"
HEART_BEAT = 15.0  # seconds
LIFE = 3600.0  # seconds; who comes again has to show a token that is still good
AGAIN = 3000  # milliseconds after which a client comes again
PAGE = 100  # rows of the audit log that are read at once, and held by one listener


@dataclass
class Stream:
    """Who listens is told until `over` is set. most: listeners at once."""

    database: Database
    bus: Bus
    most: int = 100
    over: trio.Event = field(default_factory=trio.Event)
    heart_beat: float = HEART_BEAT
    life: float = LIFE
    listening: int = 0

    def route(self, refused: Callable[[Exception, Request], Response]) -> Route:
        """refused: the answer to a request that failed."""

        async def endpoint(request: Request) -> Response:
            try:
                since = last_id(request)
                if self.listening >= self.most:
                    raise TooManyRequests(60)
                if since is None:
                    since = await self.database.read(audit.last_id)
            except Exception as e:
                return refused(e, request)
            return Told(self, since, frozenset(request.query_params.getlist("kind")))

        return Route(PATH, endpoint, methods=["GET"])


class Told(Response):
    """The stream of one listener."""

    def __init__(self, stream: Stream, since: int, kinds: frozenset[str]) -> None:
        super().__init__()
        self._stream = stream
        self._log = Log(stream.database, since)
        self._kinds = kinds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._stream.listening += 1
        try:
            await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
            with trio.move_on_after(self._stream.life):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_left, receive, nursery.cancel_scope)
                    nursery.start_soon(_over, self._stream.over, nursery.cancel_scope)
                    out = Out(send, self._stream.heart_beat)
                    nursery.start_soon(out.beat)
                    await self._tell(out)
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._stream.listening -= 1

    async def _tell(self, out: "Out") -> None:
        with self._stream.bus.subscribed() as heard:
            await out.put(f"retry: {AGAIN}\n\n")
            await self._catch_up(out)
            while True:
                told = await heard.receive()
                if told.id is not None:
                    await self._catch_up(out)
                await out.put(self._text(replace(told, id=None)))

    async def _catch_up(self, out: "Out") -> None:
        """With the audit log, for those who want to hear of it."""
        if not matches(AUDIT, self._kinds):
            return
        async with aclosing(self._log.new()) as new:
            async for event in new:
                await out.put(text_of(event))

    def _text(self, event: Event) -> str:
        return text_of(event) if matches(event.kind, self._kinds) else ""


class Out:
    """The way to one listener. Some task tells, and when it has nothing to tell, `beat` does."""

    def __init__(self, send: Send, heart_beat: float) -> None:
        self._send = send
        self._heart_beat = heart_beat
        self._last = trio.current_time()
        self._turn = trio.Lock()

    async def put(self, text: str) -> None:
        if text:
            async with self._turn:
                await self._sent(text)

    async def beat(self) -> None:
        """Show that the stream lives, until cancelled."""
        while True:
            await trio.sleep_until(self._last + self._heart_beat)
            async with self._turn:
                if trio.current_time() >= self._last + self._heart_beat:
                    await self._sent(": alive\n\n")

    async def _sent(self, text: str) -> None:
        body = {"type": "http.response.body", "body": text.encode(), "more_body": True}
        await self._send(body)
        self._last = trio.current_time()


async def _left(receive: Receive, scope: trio.CancelScope) -> None:
    """Until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _over(over: trio.Event, scope: trio.CancelScope) -> None:
    await over.wait()
    scope.cancel()


HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # of a proxy
]


class Log:
    """What is new in the audit log, for one reader. Ids rise in the order of the commits."""

    def __init__(self, database: Database, since: int) -> None:
        self._database = database
        self._last = since

    async def new(self) -> AsyncGenerator[Event]:
        """What was added since, the oldest first; what is added meanwhile, too."""
        while rows := await self._page():
            for row in rows:
                self._last = row.id
                yield _event(row)
            if len(rows) < PAGE:
                return

    async def _page(self) -> list[audit.Entry]:
        last = self._last
        return await self._database.read(
            lambda c: audit.since(c, last, limit=PAGE), patience=math.inf
        )


def _event(row: audit.Entry) -> Event:
    facts: dict[str, Any] = msgspec.to_builtins(row)
    return Event(row.id, row.at, AUDIT, row.object, facts)


def text_of(event: Event) -> str:
    """One event as the stream has it; JSON has no line ends."""
    told = {"at": event.at, "object": event.object, "data": event.data}
    number = "" if event.id is None else f"id: {event.id}\n"
    kind = "".join(c for c in event.kind if c.isprintable())
    return f"{number}event: {kind}\ndata: {msgspec.json.encode(told).decode()}\n\n"


def last_id(request: Request) -> int | None:
    """The last event that the client has heard; None: it wants new ones only."""
    text = request.headers.get("last-event-id") or request.query_params.get("last_event_id") or ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
