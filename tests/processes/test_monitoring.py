"""HTTP for monitoring: real connections over loopback, some of them hostile."""

import json
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import wait_all_tasks_blocked

from host.health import Health
from host.metrics import Metrics
from processes.http_door import Door
from processes.monitoring import CONNECTIONS, HEADER_LIMIT, serve_http
from protocol.errors import BadParameter
from tests.faults.command import until
from tests.host.verbs.a_host import AHost, a_host
from tests.servers import LOOK, WAIT

SHORT = 0.3  # seconds, for what is to be over soon
GET = "GET {} HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[AHost]:
    async with a_host(tmp_path) as made:
        yield made


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        return json.loads(self.body)


class Client:
    """One connection. Nothing waits longer than WAIT."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._held = b""

    async def say(self, text: str | bytes) -> None:
        with trio.fail_after(WAIT):
            await self.stream.send_all(text.encode() if isinstance(text, str) else text)

    async def answer(self, *, body: bool = True) -> Answer:
        """The next answer; body: it has one, as its length says."""
        while b"\r\n\r\n" not in self._held:
            await self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *rest = head.decode().split("\r\n")
        headers = {key.lower(): value for key, _, value in (one.partition(": ") for one in rest)}
        length = int(headers["content-length"]) if body else 0
        while len(self._held) < length:
            await self._more()
        content, self._held = self._held[:length], self._held[length:]
        return Answer(int(first.split()[1]), headers, content)

    async def _more(self) -> None:
        with trio.fail_after(WAIT):
            chunk = await self.stream.receive_some(1 << 16)
        assert chunk, "it was closed"
        self._held += bytes(chunk)

    async def rest(self) -> bytes:
        """All that comes until the server closes."""
        with trio.fail_after(WAIT):
            try:
                while chunk := await self.stream.receive_some(1 << 16):
                    self._held += bytes(chunk)
            except trio.BrokenResourceError:
                pass
        return self._held


class Server:
    def __init__(self, address: str, scope: trio.CancelScope) -> None:
        self.address = address
        self.scope = scope

    @asynccontextmanager
    async def client(self) -> AsyncGenerator[Client]:
        name, _, port = self.address.rpartition(":")
        async with await trio.open_tcp_stream(name, int(port)) as stream:
            yield Client(stream)

    async def ask(self, text: str, *, body: bool = True) -> Answer:
        async with self.client() as client:
            await client.say(text)
            return await client.answer(body=body)

    async def get(self, path: str) -> Answer:
        return await self.ask(GET.format(path))


@asynccontextmanager
async def serving(host: AHost, **options: Any) -> AsyncGenerator[Server]:
    metrics, health = Metrics(host.host, fresh=0), Health(host.host, fresh=0)

    async def serve(task_status: trio.TaskStatus[list[str]]) -> None:
        await serve_http("127.0.0.1:0", metrics, health, task_status=task_status, **options)

    async with trio.open_nursery() as nursery:
        [address] = await nursery.start(serve)
        yield Server(address, nursery.cancel_scope)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def server(host: AHost) -> AsyncIterator[Server]:
    async with serving(host) as made:
        yield made


# --- pages ------------------------------------------------------------------------------------


async def test_metrics_can_be_scraped(host: AHost, server: Server) -> None:
    answer = await server.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=")
    families = {one.name: one for one in text_string_to_metric_families(answer.body.decode())}
    assert families["leasehold_queue_concurrency"].samples[0].value == 2
    host.host.agent.queue.concurrency = 9
    answer = await server.get("/metrics?name=x")
    assert b"leasehold_queue_concurrency 9.0\n" in answer.body


async def test_who_prefers_openmetrics_gets_that(server: Server) -> None:
    accept = "accept: application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3"
    answer = await server.ask(f"GET /metrics HTTP/1.1\r\nhost: x\r\n{accept}\r\n\r\n")
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert answer.body.endswith(b"# EOF\n")


async def test_health_is_told_with_a_status_that_a_load_balancer_understands(
    host: AHost, server: Server
) -> None:
    answer = await server.get("/health")
    assert (answer.status, answer.json["status"]) == (200, "ok")
    assert answer.headers["cache-control"] == "no-store"
    await host.call("Host.drain")
    answer = await server.get("/health")
    assert (answer.status, answer.json["status"]) == (200, "draining")
    assert answer.json["queue"]["draining"] is True
    host.host.journal.path.rename(host.folder / "away")
    answer = await server.get("/health")
    assert (answer.status, answer.json["status"]) == (503, "failing")
    assert str(host.folder) not in answer.body.decode()
    answer = await server.get("/health/live")
    assert (answer.status, answer.json) == (200, {"status": "ok"})
    (host.folder / "away").rename(host.host.journal.path)


@pytest.mark.parametrize("path", ["/", "/metrics/", "/health/", "/health/x", "//metrics", "/%00"])
async def test_there_are_no_other_pages(server: Server, path: str) -> None:
    answer = await server.get(path)
    assert answer.status == 404
    assert "location" not in answer.headers


@pytest.mark.parametrize("path", ["/metrics", "/health", "/health/live"])
async def test_head_gets_the_headers_alone(server: Server, path: str) -> None:
    async with server.client() as client:
        await client.say(f"HEAD {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await client.answer(body=False)
        assert answer.status == 200
        assert int(answer.headers["content-length"]) > 0
        assert await client.rest() == b""


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "X"])
async def test_nothing_can_be_changed(server: Server, method: str) -> None:
    answer = await server.ask(f"{method} /health HTTP/1.1\r\nhost: x\r\n\r\n")
    assert answer.status == 405


async def test_a_connection_can_be_used_again(server: Server) -> None:
    async with server.client() as client:
        for _ in range(3):
            await client.say(GET.format("/health/live") * 2)
            assert [(await client.answer()).status for _ in range(2)] == [200, 200]


async def test_the_server_says_nothing_about_its_make(server: Server) -> None:
    assert "server" not in (await server.get("/health/live")).headers


# --- attacks ----------------------------------------------------------------------------------


@pytest.mark.parametrize("half", ["", "GET /metrics HTTP/1.1\r\nhost: x\r\n", "G"])
async def test_half_a_request_is_dropped_in_time(host: AHost, half: str) -> None:
    async with serving(host, patience=SHORT) as server, server.client() as client:
        await client.say(half)
        assert await client.rest() == b""
        assert (await server.get("/health/live")).status == 200


async def test_a_request_that_drips_gets_no_more_time(host: AHost) -> None:
    async with serving(host, patience=SHORT) as server, server.client() as client:
        began = trio.current_time()
        with suppress(trio.BrokenResourceError):
            await client.say("GET /metrics HTTP/1.1\r\nhost: x\r\n")
            while trio.current_time() < began + WAIT:
                await client.say("a: b\r\n")
                await trio.sleep(SHORT / 5)
        assert trio.current_time() < began + WAIT / 2


async def test_an_idle_connection_is_closed(host: AHost) -> None:
    async with serving(host, patience=SHORT) as server, server.client() as client:
        await client.say(GET.format("/health/live"))
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@pytest.mark.parametrize(
    "head",
    [
        "GET /" + "x" * (1 << 20),
        "GET /metrics HTTP/1.1\r\nhost: x\r\na: " + "x" * (1 << 20),
        "GET /metrics HTTP/1.1\r\nhost: x\r\n" + "a: b\r\n" * (HEADER_LIMIT // 3),
    ],
    ids=["line", "header", "headers"],
)
async def test_a_huge_head_is_refused(host: AHost, head: str) -> None:
    async with serving(host, patience=3600) as server, server.client() as client:
        with suppress(trio.BrokenResourceError):
            await client.say(head)
        answer = await client.rest()
        assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 ")), answer
        assert (await server.get("/health/live")).status == 200


async def test_a_body_is_not_waited_for(server: Server) -> None:
    async with server.client() as client:
        await client.say("POST /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\nx")
        assert (await client.answer()).status == 405
        assert await client.rest() == b""
    async with server.client() as client:
        await client.say("GET /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        assert (await client.answer()).status == 200
        assert await client.rest() == b""


@asynccontextmanager
async def stuck(server: Server, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Client]:
    """One who asks for more than all buffers hold, and reads nothing of it.

    The server hangs in what it sends, from where Hypercorn lets nobody take it away.
    """
    monkeypatch.setattr(Metrics, "text", lambda self, accept: (b"x" * (64 << 20), "text/plain"))
    async with server.client() as client:
        await client.say(GET.format("/metrics"))
        with trio.fail_after(WAIT):
            await trio.lowlevel.wait_readable(client.stream.socket)
            await wait_all_tasks_blocked()
        yield client


def cut(client: Client) -> bool:
    """Has the other end closed, and forgotten what it had to send? Source: tcp(7), TCP_INFO."""
    closed = 7
    return client.stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == closed


async def test_who_reads_nothing_is_dropped_when_its_time_is_over(
    host: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(host, life=SHORT) as server, stuck(server, monkeypatch) as client:
        await until(lambda: cut(client))
        assert (await server.get("/health/live")).status == 200


async def test_nobody_keeps_the_server_from_being_stopped(
    host: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        serving(host) as server,
        server.client() as idle,
        server.client() as half,
        stuck(server, monkeypatch) as client,
    ):
        await half.say("GET /metrics HTT")
        await idle.say(GET.format("/health/live"))
        assert (await idle.answer()).status == 200
        with trio.CancelScope(shield=True), trio.fail_after(WAIT):
            server.scope.cancel()
            await idle.rest()
            await half.rest()
            while not cut(client):  # noqa: ASYNC110
                await trio.sleep(LOOK)


async def test_of_too_many_connections_the_oldest_goes(host: AHost) -> None:
    async with serving(host, patience=3600) as server, trio.open_nursery() as nursery:
        clients: list[Client] = []
        over = trio.Event()

        async def stay(task_status: trio.TaskStatus[None]) -> None:
            async with server.client() as client:
                await client.say("GET /health/live HTTP/1.1\r\n")
                clients.append(client)
                task_status.started()
                await over.wait()

        for _ in range(CONNECTIONS):
            await nursery.start(stay)
        assert (await server.get("/health/live")).status == 200
        assert await clients[0].rest() == b""
        await clients[-1].say("host: x\r\n\r\n")
        assert (await clients[-1].answer()).status == 200
        over.set()


NOISE = [
    b"\r\n" * 10,
    b"\0" * 1000,
    b"\xff\xfe" * 500,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 100,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0" + b"\0\x40\0\1\4\0\0\0\1" * 20,
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET  HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\nhost: y\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
    b"GET /\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\naccept: \xff\xfe\r\n\r\n",
    b"GET http://other/metrics HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /%ff%fe HTTP/1.1\r\nhost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nhost: x\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\nupgrade: h2c\r\nhttp2-settings: !!\r\n\r\n",
    b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100,
]


@pytest.mark.parametrize("noise", NOISE, ids=range(len(NOISE)))
async def test_whatever_comes_the_server_answers_others(host: AHost, noise: bytes) -> None:
    async with serving(host, patience=SHORT, life=1) as server:
        async with server.client() as client:
            with suppress(trio.BrokenResourceError):
                await client.say(noise)
                assert not (await client.rest()).startswith(b"HTTP/1.1 500")
        assert (await server.get("/metrics")).status == 200


async def test_a_page_that_fails_is_an_error_of_its_own(
    host: AHost, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Metrics, accept: str) -> Any:
        raise ZeroDivisionError("secret")

    with monkeypatch.context() as patched:
        patched.setattr(Metrics, "text", broken)
        answer = await server.get("/metrics")
        assert answer.status == 500
        assert b"secret" not in answer.body
    assert (await server.get("/metrics")).status == 200


async def test_a_connection_that_fails_does_not_end_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(self: Any, stream: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patched, structlog.testing.capture_logs() as lines:
        patched.setattr(Door, "_talk", broken)
        async with server.client() as client:
            assert await client.rest() == b""
    assert [line["event"] for line in lines] == ["a connection failed"]
    assert (await server.get("/metrics")).status == 200


# --- start ------------------------------------------------------------------------------------


async def serve_at(host: AHost, address: str) -> None:
    metrics, health = Metrics(host.host), Health(host.host)
    with trio.fail_after(WAIT):
        await serve_http(address, metrics, health)


async def test_a_port_that_is_taken_is_named_with_its_setting(host: AHost, server: Server) -> None:
    with pytest.raises(BadParameter) as caught:
        await serve_at(host, server.address)
    assert caught.value.name == "listen.metrics"
    assert caught.value.reason == f"{server.address}: Address already in use"


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "no-such-host.invalid:9", "192.0.2.1:9"])
async def test_an_address_that_is_none_is_named(host: AHost, address: str) -> None:
    with pytest.raises(BadParameter) as caught:
        await serve_at(host, address)
    assert caught.value.reason.startswith(f"{address}: ")


async def test_it_starts_again_at_once_on_the_port_of_a_former_life(host: AHost) -> None:
    async with serving(host) as server, server.client() as client:
        await client.say(GET.format("/health/live"))
        assert (await client.answer()).status == 200
        address = server.address
    metrics, health = Metrics(host.host), Health(host.host)
    started: Callable[..., Any] = serve_http
    async with trio.open_nursery() as nursery:
        assert await nursery.start(started, address, metrics, health) == [address]
        nursery.cancel_scope.cancel()
