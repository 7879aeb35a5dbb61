"""Events as a stream: over real HTTP, with a real audit log."""

import json
import re
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import trio
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from engine.db import audit
from engine.db.audit import since
from engine.db.database import PATIENCE, Database
from engine.db.secrets import Key
from engine.events import ROOM, Bus, Event
from engine.rest.faults import fault_of, our_fault
from engine.sse import PAGE, PATH, Stream, Told, text_of
from processes.http_door import Bounds, Door, listeners, name
from tests.servers import WAIT

HEART_BEAT = 0.05  # seconds


@dataclass
class Site:
    """url: of the stream."""

    database: Database
    bus: Bus
    stream: Stream
    url: str

    async def log(self, text: str) -> int:
        """Write into the audit log, and tell of it."""

        def work(c: Connection) -> int:
            return audit.add(
                c,
                at=1.0,
                severity="normal",
                code=1,
                user="u",
                correlation=None,
                kind="disk",
                object="d1",
                text=text,
            )

        row = await self.database.write(work)
        self.bus.tell("disk.changed", "d1", {"text": text}, id=row)
        return row

    @asynccontextmanager
    async def heard(self, query: str = "", **headers: str) -> AsyncGenerator["Heard"]:
        """A client that listens already."""
        url = urlsplit(self.url)
        async with await trio.open_tcp_stream(str(url.hostname), url.port or 0) as stream:
            told = "".join(
                f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items()
            )
            head = f"GET {url.path}{query} HTTP/1.0\r\nhost: x\r\n{told}\r\n"
            await stream.send_all(head.encode())
            made = Heard(stream)
            first, *more = [line async for line in until_empty(made)]
            assert " 200 " in first
            assert "content-type: text/event-stream; charset=utf-8" in more
            assert "cache-control: no-store" in more
            assert await made.line() == "retry: 3000"
            assert await made.line() == ""
            yield made


@dataclass
class Heard:
    stream: trio.SocketStream
    rest: bytes = b""

    async def line(self) -> str | None:
        """The next one; None: the stream has ended."""
        with trio.fail_after(WAIT):
            while b"\n" not in self.rest:
                if not (more := await self.stream.receive_some(65536)):
                    assert self.rest == b""
                    return None
                self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line.decode().rstrip("\r")

    async def next(self) -> tuple[str | None, str, Any]:
        """Id, kind and data of the next event."""
        fields: dict[str, str] = {}
        while (line := await self.line()) or not fields:
            assert line is not None
            key, _, value = line.partition(": ")
            if key:  # not of a heart-beat
                fields[key] = value
        return fields.get("id"), fields["event"], json.loads(fields["data"])["data"]


async def until_empty(heard: Heard) -> AsyncGenerator[str]:
    while line := await heard.line():
        yield line


@asynccontextmanager
async def served(folder: Path, patience: float = PATIENCE, **settings: Any) -> AsyncGenerator[Site]:
    url = f"sqlite:///{folder}/e.sqlite"
    async with (
        Database.opened(url, key=Key.random(), patience=patience) as database,
        trio.open_nursery() as nursery,
    ):
        bus = Bus()
        stream = Stream(database, bus, **{"heart_beat": HEART_BEAT, **settings})
        door = Door(Starlette(routes=[stream.route(refused)]), Bounds(100, 8192, WAIT))
        doors = await listeners("127.0.0.1:0", "x")
        nursery.start_soon(trio.serve_listeners, door.enter, doors)
        yield Site(database, bus, stream, f"http://{name(doors[0])}{PATH}")
        nursery.cancel_scope.cancel()


def refused(error: Exception, request: Request) -> Response:
    return our_fault(fault_of(error))


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with served(tmp_path) as made:
        yield made


async def until_listening(site: Site, number: int) -> None:
    with trio.fail_after(WAIT):
        while site.stream.listening != number or site.bus.listeners != number:  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_what_is_logged_comes_with_its_id_and_hints_come_without(site: Site) -> None:
    before = await site.log("before")
    async with site.heard() as client:
        await until_listening(site, 1)
        row = await site.log("now")
        assert row > before
        number, kind, data = await client.next()
        assert (number, kind, data["text"]) == (str(row), "audit.added", "now")
        assert await client.next() == (None, "disk.changed", {"text": "now"})
        site.bus.tell("job.progress", "c1", {"percent": 12.5})
        assert await client.next() == (None, "job.progress", {"percent": 12.5})


async def test_who_comes_again_hears_what_was_between(site: Site) -> None:
    rows = [await site.log(str(number)) for number in range(1200)]  # more than are read at once
    async with site.heard(last_event_id=str(rows[9])) as client:
        found = [await client.next() for _ in rows[10:]]
        assert [number for number, _, _ in found] == [str(row) for row in rows[10:]]
        await site.log("after")
        assert (await client.next())[2]["text"] == "after"
    async with site.heard(f"?last_event_id={rows[-1]}") as client:
        assert (await client.next())[2]["text"] == "after"


@dataclass
class Reading:
    """A listener, and what was read of the log for it. most: rows that were read and not sent."""

    site: Site
    seen: list[int] = field(default_factory=list)
    read: int = 0
    most: int = 0
    beats: int = 0
    faults: int = 0  # of the reads after the first page
    more: int = 0  # rows that are to be added while older ones are sent
    stuck: trio.Event | None = None

    def since(self, c: Connection, after: int, *, limit: int = 1) -> list[audit.Entry]:
        """In the place of audit.since."""
        if self.read and self.faults:
            self.faults -= 1
            gone = sqlite3.OperationalError("gone")
            gone.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise OperationalError("select", None, gone)
        rows = since(c, after, limit=limit)
        assert len(rows) <= limit
        self.read += len(rows)
        self.most = max(self.most, self.read - len(self.seen))
        return rows

    async def send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        text = message.get("body", b"").decode()
        self.beats += text == ": alive\n\n"
        self.seen += [int(number) for number in re.findall("^id: ([0-9]+)$", text, re.M)]
        if self.more and text.startswith("id: "):
            self.more -= 1
            await self.site.log("meanwhile")
        if self.stuck is not None and self.seen:
            await self.stuck.wait()

    async def run(self, last: int, kinds: frozenset[str] = frozenset()) -> None:
        """Listen, until it is cancelled."""
        await Told(self.site.stream, last, kinds)({}, trio.sleep_forever, self.send)


@asynccontextmanager
async def reading(
    site: Site, monkeypatch: pytest.MonkeyPatch, rows: int, **how: Any
) -> AsyncGenerator[tuple[Reading, list[int]]]:
    """A listener that is `rows` behind, and their ids."""
    ids = [await site.log(str(number)) for number in range(rows)]
    made = Reading(site, **how)
    monkeypatch.setattr(audit, "since", made.since)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run, 0)
        with trio.fail_after(WAIT):
            yield made, ids
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(WAIT):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.005)


async def test_of_a_long_log_no_more_is_held_than_a_page(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with reading(site, monkeypatch, 5 * PAGE + 7) as (listener, ids):
        await until(lambda: len(listener.seen) >= len(ids))
        assert listener.seen == ids
        assert listener.most <= PAGE


async def test_what_is_added_while_a_long_log_is_read_comes_once_and_in_order(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = PAGE + 50
    async with reading(site, monkeypatch, 2 * PAGE, more=more) as (listener, ids):
        await until(lambda: len(listener.seen) >= len(ids) + more)
        last = await site.log("last")
        await until(lambda: listener.seen[-1] == last)
        assert listener.seen == [*ids, *range(ids[-1] + 1, last + 1)]
        assert listener.most <= PAGE


async def test_for_a_listener_that_takes_nothing_no_second_page_is_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = trio.Event()
    async with reading(site, monkeypatch, 3 * PAGE, stuck=stuck) as (listener, ids):
        await until(lambda: bool(listener.seen))
        await site.log("more")  # it is told of that, too
        assert (listener.read, len(listener.seen)) == (PAGE, 1)
        stuck.set()
        await until(lambda: len(listener.seen) == len(ids) + 1)


async def test_a_database_that_is_gone_for_a_while_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the stream shows meanwhile that it lives."""
    async with (
        served(tmp_path, patience=0.0) as site,
        reading(site, monkeypatch, 3 * PAGE, faults=8) as (listener, ids),
    ):
        await until(lambda: len(listener.seen) == PAGE)
        beats = listener.beats
        await until(lambda: len(listener.seen) >= len(ids))
        assert listener.faults == 0
        assert listener.beats > beats
        last = await site.log("last")
        await until(lambda: listener.seen[-1] == last)
        assert listener.seen == [*ids, last]


async def test_who_does_not_want_the_log_has_none_of_it_read(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [await site.log(str(number)) for number in range(3)]
    listener = Reading(site)
    monkeypatch.setattr(audit, "since", listener.since)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.run, 0, frozenset({"job."}))
        await until(lambda: listener.beats > 0)
        assert await site.log("more") > ids[-1]
        site.bus.tell("job.progress", "c1")
        beats = listener.beats
        await until(lambda: listener.beats > beats)
        assert (listener.read, listener.seen) == (0, [])
        nursery.cancel_scope.cancel()


async def test_nothing_of_the_log_is_lost_when_hints_are(site: Site) -> None:
    async with site.heard("?kind=audit.&kind=events.lost") as client:
        await until_listening(site, 1)
        row = await site.log("early")
        assert (await client.next())[0] == str(row)
        for _ in range(ROOM + 10):  # nothing is sent between: this task never waits
            site.bus.tell("job.progress", "c1")
        kind, data = (await client.next())[1:]
        # The event of the row may still be there, though the row was sent.
        assert (kind, data) in [("events.lost", {"lost": lost}) for lost in (10, 11)]
        rows = [await site.log(str(number)) for number in range(3)]
        assert [(await client.next())[0] for _ in rows] == [str(row) for row in rows]


async def test_only_the_kinds_that_were_asked_for_are_sent(site: Site) -> None:
    async with site.heard("?kind=job.&kind=host.changed") as client:
        await until_listening(site, 1)
        await site.log("not wanted")
        site.bus.tell("host.changed", "h1", {"n": 1})
        site.bus.tell("job.progress", "c1", {"n": 2})
        assert [(await client.next())[1] for _ in "ab"] == ["host.changed", "job.progress"]


async def test_a_silent_stream_shows_that_it_lives(site: Site) -> None:
    async with site.heard() as client:
        assert await client.line() == ": alive"


async def test_a_client_that_leaves_is_forgotten(site: Site) -> None:
    async with site.heard():
        await until_listening(site, 1)
    await until_listening(site, 0)


async def test_of_too_many_the_next_is_told_to_come_later(tmp_path: Path) -> None:
    async with served(tmp_path, most=1) as site, site.heard():
        async with httpx.AsyncClient(trust_env=False) as client:
            answer = await client.get(site.url)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "60")


@pytest.mark.parametrize("ends", ["over", "life"])
async def test_a_stream_ends_in_good_order(tmp_path: Path, ends: str) -> None:
    life = 0.2 if ends == "life" else 3600.0
    async with served(tmp_path, life=life) as site, site.heard() as client:
        if ends == "over":
            await until_listening(site, 1)
            site.stream.over.set()
        while (line := await client.line()) is not None:
            assert line in ("", ": alive")


@pytest.mark.parametrize("text", ["x", "-1", "1e3", "9" * 40, "٣", ""])
async def test_a_last_event_that_is_none_is_no_last_event(site: Site, text: str) -> None:
    await site.log("before")
    async with site.heard(f"?last_event_id={quote(text)}") as client:
        await until_listening(site, 1)
        await site.log("now")
        assert (await client.next())[2]["text"] == "now"


def test_nothing_in_an_event_can_be_taken_for_another() -> None:
    hostile = "x\n\nevent: y\ndata: {}\n\n"
    text = text_of(Event(1, 0.0, hostile, hostile, {hostile: hostile}))
    assert text.count("\n") == 4
    assert text.startswith("id: 1\nevent: xevent: ydata: {}\ndata: {")
