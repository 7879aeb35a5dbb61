"""Events as a stream: over real HTTP, with a real audit log."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import pytest
import trio
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from engine.db import audit
from engine.db.database import Database
from engine.db.secrets import Key
from engine.events import ROOM, Bus, Event
from engine.rest.faults import fault_of, our_fault
from engine.sse import PATH, Stream, text_of
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
async def served(folder: Path, **settings: Any) -> AsyncGenerator[Site]:
    async with (
        Database.opened(f"sqlite:///{folder}/e.sqlite", key=Key.random()) as database,
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
