"""Deliveries: from a real audit log to a real receiver, with failures between."""

import hashlib
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from sqlalchemy import Connection
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from engine import webhooks as deliverer
from engine.config import Webhooks as Settings
from engine.db import audit, deliveries, positions, webhooks
from engine.db.database import Database
from engine.db.deliveries import Delivery
from engine.db.secrets import Key
from engine.db.webhooks import Webhook
from engine.events import Bus
from engine.webhook_posts import post, signature
from engine.webhook_urls import Rules
from engine.webhooks import Pauses, Webhooks
from processes.http_door import Bounds, Door, listeners, name
from protocol.settings import Seconds
from tests.servers import WAIT

SECRET = "a secret of sixteen"
SETTINGS = Settings(
    pause=Seconds(0.01), pause_most=Seconds(0.02), tries=3, plain=True, private=True
)
OPEN = Rules(plain=True, private=True)


@dataclass
class Receiver:
    """answers: what is answered to the next requests; then 200."""

    url: str = ""
    answers: list[Response] = field(default_factory=list)
    got: list[tuple[dict[str, str], Any]] = field(default_factory=list)

    async def hook(self, request: Request) -> Response:
        body = await request.body()
        self.got.append((dict(request.headers), body))
        return self.answers.pop(0) if self.answers else Response("ok")


@asynccontextmanager
async def receiving() -> AsyncGenerator[Receiver]:
    made = Receiver()
    application = Starlette(routes=[Route("/hook", made.hook, methods=["POST"])])
    async with trio.open_nursery() as nursery:
        doors = await listeners("127.0.0.1:0", "x")
        door = Door(application, Bounds(10, 8192, WAIT))
        nursery.start_soon(trio.serve_listeners, door.enter, doors)
        made.url = f"http://{name(doors[0])}/hook"
        yield made
        nursery.cancel_scope.cancel()


@dataclass
class Site:
    database: Database
    bus: Bus
    receiver: Receiver

    async def hook(self, *events: str, secret: str | None = SECRET, id: str = "w1") -> None:
        row = Webhook(id, self.receiver.url, events)
        await self.database.write(lambda c: webhooks.add(c, row, secret))

    async def log(self, text: str, kind: str = "disk") -> int:
        def work(c: Connection) -> int:
            return audit.add(
                c,
                at=1.0,
                severity="normal",
                code=20010,
                user="u",
                correlation=None,
                kind=kind,
                object="d1",
                text=text,
            )

        row = await self.database.write(work)
        self.bus.tell(f"{kind}.changed", "d1", id=row)
        return row

    @asynccontextmanager
    async def delivering(self, **options: Any) -> AsyncGenerator[None]:
        async with trio.open_nursery() as nursery:
            made = Webhooks(self.database, self.bus, SETTINGS, **options)
            nursery.start_soon(made.run)
            # From here on what is logged is delivered.
            await until(self.database, lambda c: positions.get(c, deliverer.READER) is not None)
            yield
            nursery.cancel_scope.cancel()

    async def rows(self) -> list[Delivery]:
        return await self.database.read(lambda c: deliveries.of_webhook(c, "w1"))

    async def got(self, number: int) -> list[Any]:
        """The events, once there are so many."""
        with trio.fail_after(WAIT):
            while len(self.receiver.got) < number:  # noqa: ASYNC110
                await trio.sleep(0.01)
        return [json.loads(body) for _, body in self.receiver.got]

    async def settled(self, number: int) -> list[Delivery]:
        """The deliveries, once so many have ended."""
        with trio.fail_after(WAIT):
            while True:
                ended = [row for row in await self.rows() if row.state != "waiting"]
                if len(ended) >= number:
                    return ended
                await trio.sleep(0.01)


async def until(database: Database, true: Callable[[Connection], bool]) -> None:
    with trio.fail_after(WAIT):
        while not await database.read(true):  # noqa: ASYNC110
            await trio.sleep(0.01)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncGenerator[Site]:
    async with (
        Database.opened(f"sqlite:///{tmp_path}/e.sqlite", key=Key.random()) as database,
        receiving() as receiver,
    ):
        yield Site(database, Bus(), receiver)


async def test_what_is_logged_is_delivered_once_and_signed(site: Site) -> None:
    await site.log("before there was anybody to tell")
    async with site.delivering():
        await site.hook()
        row = await site.log("now")
        [event] = await site.got(1)
        assert (event["event"], event["id"], event["text"]) == ("disk.changed", row, "now")
        headers, body = site.receiver.got[0]
        assert headers["leasehold-event"] == "disk.changed"
        at, _, found = headers["leasehold-signature"].removeprefix("t=").partition(",v1=")
        made = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256)
        assert found == made.hexdigest()
        [delivery] = await site.settled(1)
        assert (delivery.state, delivery.tries) == ("sent", 1)
        assert headers["leasehold-delivery"] == str(delivery.id)
    assert len(site.receiver.got) == 1


async def test_without_a_secret_nothing_is_signed(site: Site) -> None:
    async with site.delivering():
        await site.hook(secret=None)
        await site.log("now")
        await site.got(1)
    assert "leasehold-signature" not in site.receiver.got[0][0]


async def test_only_the_wanted_kinds_are_delivered(site: Site) -> None:
    async with site.delivering():
        await site.hook("command.ended", "host.")
        for kind in ("disk", "command", "host"):
            await site.log(kind, kind)
        assert [one["event"] for one in await site.got(2)] == ["command.ended", "host.changed"]


async def test_a_webhook_that_is_not_active_is_told_nothing(site: Site) -> None:
    async with site.delivering():
        await site.hook()
        await site.database.write(lambda c: webhooks.set_active(c, "w1", False))
        await site.log("unheard")
        await until(site.database, lambda c: positions.get(c, "webhooks") == audit.last_id(c))
        await site.database.write(lambda c: webhooks.set_active(c, "w1", True))
        await site.log("heard")
        assert [one["text"] for one in await site.got(1)] == ["heard"]


async def test_a_failure_is_tried_again_with_the_same_number(site: Site) -> None:
    site.receiver.answers = [Response(status_code=500), RedirectResponse("/elsewhere")]
    async with site.delivering():
        await site.hook()
        await site.log("now")
        assert len(await site.got(3)) == 3
        [row] = await site.settled(1)
        assert (row.state, row.tries, row.last_error) == ("sent", 3, None)
    assert len({headers["leasehold-delivery"] for headers, _ in site.receiver.got}) == 1


async def test_in_the_end_it_is_given_up_and_the_next_one_is_delivered(site: Site) -> None:
    site.receiver.answers = [Response(status_code=503) for _ in range(3)]
    async with site.delivering():
        await site.hook()
        await site.log("lost")
        [row] = await site.settled(1)
        assert (row.state, row.tries) == ("failed", 3)
        assert row.last_error == "it answered with status 503"
        await site.log("heard")
        assert [one["text"] for one in await site.got(4)][-1] == "heard"


async def test_what_was_not_delivered_when_the_engine_ended_is_delivered_after_it(
    site: Site,
) -> None:
    async def hangs(url: str, headers: dict[str, str], body: bytes) -> str:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    begun = trio.Event()
    await site.hook()
    async with site.delivering(post=hangs):
        await site.log("first")
        with trio.fail_after(WAIT):
            await begun.wait()
    await site.log("while nobody delivered")
    async with site.delivering():
        texts = [one["text"] for one in await site.got(2)]
        assert sorted(texts) == ["first", "while nobody delivered"]
        await site.settled(2)


async def test_of_one_that_is_never_reached_so_many_wait_and_no_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuses(url: str, headers: dict[str, str], body: bytes) -> str:
        return "no"

    monkeypatch.setattr(deliverer, "MOST", 3)
    await site.database.write(lambda c: positions.put(c, "webhooks", 0))
    await site.hook()
    for number in range(8):
        await site.log(str(number))
    async with site.delivering(post=refuses):
        await until(site.database, lambda c: positions.get(c, "webhooks") == audit.last_id(c))
        assert len(await site.rows()) == 3


async def test_a_webhook_that_was_removed_is_told_nothing_any_more(site: Site) -> None:
    async def removes(url: str, headers: dict[str, str], body: bytes) -> str:
        await site.database.write(lambda c: webhooks.remove(c, "w1"))
        removed.set()
        return ""

    removed = trio.Event()
    async with site.delivering(post=removes):
        await site.hook()
        await site.log("now")
        with trio.fail_after(WAIT):
            await removed.wait()
        await site.hook(id="w2")
        await site.log("later")
        await until(site.database, lambda c: positions.get(c, "webhooks") == audit.last_id(c))


def test_pauses_grow_up_to_a_bound_and_end() -> None:
    pauses = Pauses(5.0, 60.0, 6)
    assert [pauses.after(n) for n in range(1, 7)] == [5.0, 10.0, 20.0, 40.0, 60.0, None]
    assert Pauses(5.0, 3600.0, 10_000).after(9_999) == 3600.0


# --- one delivery --------------------------------------------------------------------------------


async def posted(url: str, timeout: float = WAIT, rules: Rules = OPEN) -> str:
    return await post(url, {}, b"{}", rules=rules, timeout=timeout)


async def test_an_address_that_is_not_allowed_is_never_connected_to(site: Site) -> None:
    assert "of this machine" in await posted(site.receiver.url, rules=Rules(plain=True))
    assert site.receiver.got == []


async def test_a_redirect_is_not_followed(site: Site) -> None:
    site.receiver.answers = [RedirectResponse(site.receiver.url)]
    assert await posted(site.receiver.url) == "it answered with status 307"
    assert len(site.receiver.got) == 1


async def silent(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def endless(stream: trio.SocketStream) -> None:
    await stream.receive_some(65536)
    await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n\r\n")
    while True:
        await stream.send_all(b"x" * 65536)


async def no_http(stream: trio.SocketStream) -> None:
    await stream.send_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")


# httpx does not end what it sends a body with, when the answer comes too early.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("handler", "timeout", "said"),
    [(silent, 0.2, "no answer in 0.2 s"), (endless, WAIT, ""), (no_http, WAIT, "ProtocolError")],
)
async def test_a_receiver_cannot_hold_us_up(
    handler: Callable[[trio.SocketStream], Awaitable[None]], timeout: float, said: str
) -> None:
    async def enter(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            await handler(stream)

    async with trio.open_nursery() as nursery:
        doors = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, enter, doors)
        found = await posted(f"http://{name(doors[0])}/", timeout)
        assert said in found
        assert bool(said) == bool(found)
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_a_failure_with_its_reason() -> None:
    assert "ConnectError" in await posted("http://127.0.0.1:1/")
    assert await posted("https://no-such-name.invalid/") != ""


def test_the_signature_is_of_time_and_body() -> None:
    assert signature("k", 1, b"x") != signature("k", 2, b"x") != signature("k", 2, b"y")
    assert signature("k", 1, b"x").startswith("t=1,v1=")
