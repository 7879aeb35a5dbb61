"""The client of a host: answers, errors by their facts, and nothing that waits for ever."""

import json
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
import trio.testing

from protocol import client as module
from protocol.address import PlainAddress, TlsAddress, UnixAddress, parse
from protocol.client import Client, HostError, NoAnswer, connected
from protocol.errors import BadParameter, CannotConnect, ConnectionLost
from protocol.jsonrpc import failure, notification, result
from protocol.stomp import Decoder, Frame, encode
from tests.host.authority import Site, sites

__all__ = ["sites"]

WAIT = 20.0
CONNECTED = encode(Frame("CONNECTED", {"version": "1.2", "heart-beat": "0,0"}))
Answer = Callable[["Fake", Frame], Awaitable[None]]


class Fake:
    """A host that says what the test wants. frames: what it got, after the introduction."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.answers = ""

    async def send(self, body: bytes, destination: str = "") -> None:
        headers = {"destination": destination or self.answers, "subscription": "x"}
        await self.stream.send_all(encode(Frame("MESSAGE", headers, body)))


@asynccontextmanager
async def host(tmp_path: Path, answer: Answer, hello: bytes = CONNECTED) -> AsyncGenerator[str]:
    """Run a fake host for the body; `answer` gets each SEND."""

    async def serve(stream: trio.SocketStream) -> None:
        fake, decoder = Fake(stream), Decoder()
        try:
            async for chunk in stream:
                decoder.feed(bytes(chunk))
                while (frame := decoder.next()) is not None:
                    if frame.command == "CONNECT":
                        await stream.send_all(hello)
                    elif frame.headers.get("id") == "answers":
                        fake.answers = frame.headers["destination"]
                    elif frame.command == "SEND":
                        await answer(fake, frame)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    path = str(tmp_path / "host")
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(path)
        listening.listen()
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(listening)]
            await nursery.start(trio.serve_listeners, serve, listeners)
            yield path
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def talking(
    tmp_path: Path, answer: Answer, *, events: bool = False
) -> AsyncGenerator[Client]:
    async with host(tmp_path, answer) as path, connected(UnixAddress(path), events=events) as one:
        yield one


def asked(frame: Frame) -> tuple[str, str]:
    """id and method."""
    value = json.loads(frame.body)
    return value["id"], value["method"]


async def echo(fake: Fake, frame: Frame) -> None:
    id, method = asked(frame)
    flow = frame.headers.get("ovirtCorrelationId")
    await fake.send(result(id, [method, json.loads(frame.body)["params"], flow]))


async def silent(fake: Fake, frame: Frame) -> None:
    pass


async def test_a_call_gets_its_own_answer(tmp_path: Path) -> None:
    async with talking(tmp_path, echo) as one, trio.open_nursery() as nursery:

        async def call(n: int) -> None:
            assert await one.call(f"m{n}", {"n": n}, flow_id="f") == [f"m{n}", {"n": n}, "f"]

        for n in range(100):  # more than are in flight at a time
            nursery.start_soon(call, n)


async def test_an_error_has_code_kind_text_and_facts(tmp_path: Path) -> None:
    async def answer(fake: Fake, frame: Frame) -> None:
        id, method = asked(frame)
        data = {"kind": "NoSuchJob", "job_id": "j"}
        errors = {
            "ours": {"code": 66, "message": "no", "data": data},
            "plain": {"code": -32601, "message": "what"},
            "odd": {"data": 5},
        }
        await fake.send(json.dumps({"jsonrpc": "2.0", "id": id, "error": errors[method]}).encode())

    found = []
    async with talking(tmp_path, answer) as one:
        for method in ("ours", "plain", "odd"):
            with pytest.raises(HostError) as raised:
                await one.call(method)
            e = raised.value
            found.append((e.number, e.kind, str(e), e.data))
    assert found == [
        (66, "NoSuchJob", "no", {"job_id": "j"}),
        (-32601, "MethodNotFound", "what", {}),
        (100, "", "", {}),
    ]


async def test_a_call_that_is_not_answered_ends_and_the_next_one_works(tmp_path: Path) -> None:
    late = []

    async def answer(fake: Fake, frame: Frame) -> None:
        id, method = asked(frame)
        if method == "slow":
            late.append(id)
        else:
            await fake.send(result(late.pop(), "late"))
            await fake.send(result(id, "in time"))

    async with talking(tmp_path, answer) as one:
        with pytest.raises(NoAnswer, match=r"slow, in 0\.05 s"), trio.fail_after(4):
            await one.call("slow", timeout=0.05)
        assert await one.call("fast") == "in time"


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n\n\0",
        encode(Frame("ERROR", {"message": "you may not"})),
        encode(Frame("MESSAGE", {}, b"{nope")),
        encode(Frame("MESSAGE", {}, b"5")),
        b"",  # it closes
    ],
)
async def test_when_the_connection_is_lost_calls_end_and_new_ones_do_not_begin(
    tmp_path: Path, data: bytes
) -> None:
    async def answer(fake: Fake, frame: Frame) -> None:
        await (fake.stream.send_all(data) if data else fake.stream.aclose())

    with trio.fail_after(WAIT):
        async with talking(tmp_path, answer, events=True) as one:
            with pytest.raises(ConnectionLost, match=one.address.path):  # type: ignore[union-attr]
                await one.call("x", timeout=WAIT)
            assert one.lost
            with pytest.raises(CannotConnect):
                await one.call("x")
            assert [event async for event in one.events] == []


async def test_a_host_that_breaks_its_promise_of_heart_beats_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    hello = encode(Frame("CONNECTED", {"version": "1.2", "heart-beat": "1,0"}))
    async with host(tmp_path, silent, hello) as path, connected(UnixAddress(path)) as one:
        with pytest.raises(ConnectionLost, match="nothing came"):
            await one.call("x", timeout=WAIT)


async def test_heart_beats_are_sent_as_the_host_wants_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    heard = trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        data = b""
        async for chunk in stream:
            if not data:
                await stream.send_all(
                    encode(Frame("CONNECTED", {"version": "1.2", "heart-beat": "0,1"}))
                )
            data += chunk
            if data.endswith(b"\n\n\n"):
                heard.set()

    path = str(tmp_path / "host")
    with trio.socket.socket(trio.socket.AF_UNIX) as listening:
        await listening.bind(path)
        listening.listen()
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve, [trio.SocketListener(listening)])
            async with connected(UnixAddress(path)):
                with trio.fail_after(WAIT):
                    await heard.wait()
            nursery.cancel_scope.cancel()


async def test_events_come_until_too_many_are_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 3)

    async def answer(fake: Fake, frame: Frame) -> None:
        for n in range(5):
            await fake.send(notification("e", {"n": n}), "jms.queue.events")
        await fake.send(result(asked(frame)[0], True))

    async with talking(tmp_path, answer, events=True) as one:
        await one.call("x")
        got = [one.events.receive_nowait() for _ in range(3)]
        assert got == [("e", {"n": n}) for n in range(3)]
        assert one.events_lost == 2


async def test_an_error_of_the_body_passes_as_it_is(tmp_path: Path) -> None:
    async with host(tmp_path, echo) as path:
        with pytest.raises(ZeroDivisionError):
            async with connected(UnixAddress(path)):
                raise ZeroDivisionError


@pytest.mark.parametrize(
    "hello",
    [
        b"",
        b"nonsense\n\n\0",
        encode(Frame("ERROR", {"message": "you may not"})),
        encode(Frame("CONNECTED", {"version": "1.1"})),
        encode(Frame("RECEIPT", {"receipt-id": "1"})),
    ],
)
async def test_a_host_that_does_not_agree_is_no_connection(tmp_path: Path, hello: bytes) -> None:
    async with host(tmp_path, echo, hello) as path:
        with pytest.raises(CannotConnect):
            async with connected(UnixAddress(path), timeout=0.3):
                pass


async def begun_too_late(ours: trio.abc.Stream, host: trio.abc.Stream, *said: bytes) -> str:
    """Why there is no connection to a host that had closed it before we spoke."""
    for one in said:
        await host.send_all(one)
    await host.aclose()
    client = Client(ours, UnixAddress("/host"))
    try:
        with trio.fail_after(WAIT), pytest.raises(CannotConnect) as raised:
            await client.begin(events=True)
    finally:
        await trio.aclose_forcefully(ours)
    return str(raised.value)


REFUSED = encode(Frame("ERROR", {"message": "user 7 is not allowed here"}))


def pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    ours, host = trio.socket.socketpair()
    return trio.SocketStream(ours), trio.SocketStream(host)


async def test_who_is_refused_before_the_first_word_hears_why() -> None:
    ours, host = pair()
    assert "host says: user 7 is not allowed here" in await begun_too_late(ours, host, REFUSED)
    assert "it closes the connection" in await begun_too_late(*pair())


@pytest.mark.tools("openssl")
async def test_who_is_refused_over_tls_hears_why(sites: tuple[Site, Site]) -> None:
    ca, certificate, key = sites[0].files("engine")
    mine = ssl.create_default_context(cafile=ca)
    mine.load_cert_chain(certificate, key)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    server.load_cert_chain(*sites[0].files("host")[1:])
    server.verify_mode = ssl.CERT_REQUIRED
    plain, plain_host = pair()
    ours = trio.SSLStream(plain, mine, server_hostname="127.0.0.1", https_compatible=True)
    host = trio.SSLStream(plain_host, server, server_side=True, https_compatible=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ours.do_handshake)
        nursery.start_soon(host.do_handshake)
    assert "user 7 is not allowed here" in await begun_too_late(ours, host, REFUSED)


@dataclass
class Late(trio.abc.Stream):
    """A stream on which one hears only when nothing else goes on."""

    inner: trio.SocketStream

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        await trio.testing.wait_all_tasks_blocked()
        return await self.inner.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.inner.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.inner.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.inner.aclose()


async def test_a_connection_that_ends_while_we_speak_ends_for_the_reason_that_was_given() -> None:
    ours, host = pair()
    stream = Late(ours)
    client = Client(stream, UnixAddress("/host"))
    await host.send_all(CONNECTED + encode(Frame("ERROR", {"message": "no heart-beat came"})))
    await host.aclose()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        with trio.fail_after(WAIT), pytest.raises(ConnectionLost, match="no heart-beat came"):
            await client.call("x")
        nursery.cancel_scope.cancel()
    await trio.aclose_forcefully(stream)


async def test_where_nobody_listens_there_is_no_connection(tmp_path: Path) -> None:
    for address in (UnixAddress(str(tmp_path / "no")), PlainAddress("127.0.0.1", 1)):
        with pytest.raises(CannotConnect, match="cannot connect"):
            async with connected(address):
                pass


async def test_files_that_are_no_certificates_are_told() -> None:
    with pytest.raises(BadParameter, match="certificates"):
        async with connected(TlsAddress("127.0.0.1", 1, "/nowhere", "/nowhere", "/nowhere")):
            pass


TLS = {"ca": "a", "certificate": "c", "key": "k"}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:/run/x", UnixAddress("/run/x")),
        ("unix:///run/x", UnixAddress("/run/x")),
        ("tls://h1.example.com", TlsAddress("h1.example.com", 54321, "a", "c", "k")),
        ("tls://[::1]:7", TlsAddress("::1", 7, "a", "c", "k")),
        ("tcp://127.0.0.1:7/", PlainAddress("127.0.0.1", 7)),
    ],
)
def test_addresses_are_read(url: str, address: object) -> None:
    assert parse(url, **TLS) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "unix:",
        "unix:x",
        "host:7",
        "http://h",
        "tcp://10.0.0.1:7",
        "tcp://localhost:7",
        "tls://",
        "tls://h:x",
        "tls://h:99999",
        "tls://u@h",
        "tls://h/x",
        "tls://h?x",
        "tls://[::1",
    ],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(BadParameter, match="host"):
        parse(url, **TLS)


def test_tls_needs_files() -> None:
    with pytest.raises(BadParameter, match="certificate"):
        parse("tls://h", ca="a")


def test_a_failure_is_read_as_it_was_told() -> None:
    assert json.loads(failure("1", BadParameter("a", "b")))["error"]["data"]["kind"] == (
        "BadParameter"
    )
