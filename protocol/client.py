"""A client of one host: calls and events over one connection. To connect again is the caller's.

    async with connected(UnixAddress("/run/leasehold/agent.sock")) as host:
        await host.call("Host.ping2")

Source: docs/wire.md.
"""

import itertools
import math
import ssl
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import trio

from protocol import jsonrpc, pem
from protocol.address import Address, TlsAddress, UnixAddress
from protocol.errors import CannotConnect, ConnectionLost
from protocol.jsonrpc import Notification, ParseError, Reply
from protocol.reported import Reported
from protocol.stomp import HEARTBEAT, BrokenFrame, Decoder, Frame, Limits, encode

REQUESTS = "jms.topic.vdsm_requests"
EVENTS = "jms.queue.events"
CONNECT_TIME = 10.0  # seconds
CALL_TIME = 30.0  # seconds
BEAT = 10.0  # seconds between heart-beats, ours and the host's
LAST_WORDS = 1.0  # seconds in which a host that lets us say no more may have said why
PATIENCE = 2  # times the host's interval until a silent one counts as gone
IN_FLIGHT = 32  # calls at a time; more wait here
BACKLOG = 1000  # events
CHUNK = 1 << 16
# A host answers with the jobs that it holds, which may be many.
LIMITS = Limits(body=64 << 20)

Event: TypeAlias = tuple[str, dict[str, Any]]


class HostError(Reported):
    """The host's answer is an error: `number` (the code), `kind`, `str()` of it, `data`."""

    @property
    def kind(self) -> str:
        """The name of its class; empty: the host did not say."""
        return str(self.rpc["kind"])

    @property
    def data(self) -> dict[str, Any]:
        """Its facts."""
        return dict(self.rpc["data"])


@dataclass(eq=False)
class NoAnswer(ConnectionLost):
    """No answer came in time: whether the verb was run is not known."""

    text: ClassVar[str] = "{tool}: no answer: {detail}"


@dataclass
class _Pending:
    done: trio.Event = field(default_factory=trio.Event)
    reply: Reply | None = None


class Client:
    """A connection that is up. `lost` says why it is no more."""

    def __init__(self, stream: trio.abc.Stream, address: Address) -> None:
        self.address = address
        self.lost = ""
        self.events_lost = 0  # because nobody read them
        self._stream = stream
        self._decoder = Decoder(LIMITS)
        self._answers = f"leasehold.answers.{uuid.uuid4()}"
        self._numbers = itertools.count(1)
        self._pending: dict[str, _Pending] = {}
        self._slots = trio.CapacityLimiter(IN_FLIGHT)
        self._beat = self._silence = math.inf
        self._outgoing, self._to_send = trio.open_memory_channel[bytes](0)
        self._to_events, self.events = trio.open_memory_channel[Event](BACKLOG)

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL_TIME,
        flow_id: str = "",
    ) -> Any:
        """Call a verb and return its result.

        timeout: seconds for all of it. Raises HostError: the host's own answer; NoAnswer and
        ConnectionLost: whether the verb was run is not known; CannotConnect: it was not, since the
        connection had been lost before.
        """
        if self.lost:
            raise CannotConnect(str(self.address), self.lost)
        with trio.move_on_after(timeout):
            async with self._slots:
                return _result(await self._exchange(method, params or {}, flow_id))
        raise NoAnswer(str(self.address), 0, f"{method}, in {timeout:g} s")

    async def _exchange(self, method: str, params: Mapping[str, Any], flow_id: str) -> Reply:
        id = str(next(self._numbers))
        headers = {"destination": REQUESTS, "content-type": "application/json"}
        headers["reply-to"] = self._answers
        if flow_id:
            headers["ovirtCorrelationId"] = flow_id
        frame = encode(Frame("SEND", headers, jsonrpc.request(method, params, id)))
        pending = self._pending[id] = _Pending()
        try:
            await self._outgoing.send(frame)
            await pending.done.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # see below
        finally:
            del self._pending[id]
        if pending.reply is None:
            raise ConnectionLost(str(self.address), 0, self.lost)
        return pending.reply

    async def begin(self, *, events: bool) -> None:
        """Introduce ourselves. Raises CannotConnect."""
        beats = f"{BEAT * 1000:.0f},{BEAT * 1000:.0f}"
        first = [
            Frame("CONNECT", {"accept-version": "1.2", "host": "leasehold", "heart-beat": beats}),
            Frame("SUBSCRIBE", {"destination": self._answers, "ack": "auto", "id": "answers"}),
        ]
        if events:
            first.append(Frame("SUBSCRIBE", {"destination": EVENTS, "ack": "auto", "id": "events"}))
        answer = await self._introduced(b"".join(map(encode, first)))
        if answer.command != "CONNECTED" or answer.headers.get("version") != "1.2":
            raise CannotConnect(str(self.address), _reason(answer))
        self._agree(answer.headers.get("heart-beat", ""))

    async def _introduced(self, words: bytes) -> Frame:
        """Say the words, and hear the first frame of the host, which may not let us say them."""
        outcome: Frame | Exception
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._say, words)
            try:
                outcome = await self._first()
            except (CannotConnect, BrokenFrame, trio.BrokenResourceError) as e:
                outcome = e  # raised below, without the group that a nursery makes
                nursery.cancel_scope.cancel()
        if isinstance(outcome, Frame):
            return outcome
        raise outcome

    async def _say(self, words: bytes) -> None:
        with suppress(trio.BrokenResourceError):  # what it has said before is still there
            await self._stream.send_all(words)

    async def _first(self) -> Frame:
        """It listens from the start: a TLS stream on which a send failed is not read again."""
        while (frame := self._decoder.next()) is None:
            chunk = await self._stream.receive_some(CHUNK)
            if not chunk:
                raise CannotConnect(str(self.address), "it closes the connection")
            self._decoder.feed(bytes(chunk))
        return frame

    def _agree(self, beats: str) -> None:
        sends, wants, *_ = [*(int(n) if n.isdecimal() else 0 for n in beats.split(",")), 0, 0]
        if sends:
            self._silence = max(sends / 1000, BEAT) * PATIENCE
        if wants:
            self._beat = max(wants / 1000, BEAT) / 2

    async def run(self) -> None:
        """Read and write until it is cancelled or the connection is lost; raises nothing."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write)
                nursery.start_soon(self._read, nursery.cancel_scope)
        finally:
            self._lose("closed")

    async def _write(self) -> None:
        """One task writes, so that a call that is given up leaves no half frame behind."""
        try:
            while True:
                data = HEARTBEAT
                with trio.move_on_after(self._beat):
                    data = await self._to_send.receive()
                await self._stream.send_all(data)
        except trio.BrokenResourceError:
            await trio.sleep(LAST_WORDS)  # cut short by the reader, who may hear the reason
            self._lose("the connection broke")
        except trio.ClosedResourceError:
            self._lose("the connection was closed")

    async def _read(self, scope: trio.CancelScope) -> None:
        try:
            while not self.lost:
                while (frame := self._decoder.next()) is not None:
                    self._take(frame)
                with trio.fail_after(self._silence):
                    chunk = await self._stream.receive_some(CHUNK)
                if not chunk:
                    self._lose("the host closed the connection")
                self._decoder.feed(bytes(chunk))
        except trio.TooSlowError:
            self._lose(f"nothing came for {self._silence:g} s")
        except BrokenFrame as e:
            self._lose(f"broken frame: {e}")
        except (ParseError, jsonrpc.InvalidRequest) as e:
            self._lose(str(e))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as e:
            self._lose(f"the connection broke: {e.__cause__ or e}")
        scope.cancel()

    def _take(self, frame: Frame) -> None:
        if frame.command == "ERROR":
            self._lose(_reason(frame))
        if frame.command != "MESSAGE":
            return
        for message in jsonrpc.read_reply(frame.body):
            if isinstance(message, Notification):
                self._tell((message.method, message.params))
            elif isinstance(message.id, str) and (pending := self._pending.get(message.id)):
                pending.reply = message
                pending.done.set()

    def _tell(self, event: Event) -> None:
        try:
            self._to_events.send_nowait(event)
        except trio.WouldBlock:
            self.events_lost += 1
        except trio.BrokenResourceError:
            pass  # nobody listens

    def _lose(self, reason: str) -> None:
        if self.lost:
            return
        self.lost = reason
        self._to_send.close()
        self._to_events.close()
        for pending in self._pending.values():
            pending.done.set()


@asynccontextmanager
async def connected(
    address: Address, *, timeout: float = CONNECT_TIME, events: bool = False
) -> AsyncGenerator[Client]:
    """Connect for the body. events: fill `Client.events`, of which the newest are lost unread.

    A connection that is lost does not end the body: its calls fail. timeout: seconds until the
    host has answered. Raises CannotConnect; BadParameter: a file of the certificates is no good.
    """
    client = await _connect(address, timeout, events=events)
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.run)
        try:
            yield client
        except Exception as e:  # passed on below, without the group that a nursery makes
            error = e
        finally:
            await _close(client)
            nursery.cancel_scope.cancel()
    if error is not None:
        raise error


async def _connect(address: Address, timeout: float, *, events: bool) -> Client:
    with trio.move_on_after(timeout):
        stream = await _open(address)
        client = Client(stream, address)
        try:
            await client.begin(events=events)
        except (trio.BrokenResourceError, BrokenFrame, CannotConnect) as e:
            await trio.aclose_forcefully(stream)
            reason = e.reason if isinstance(e, CannotConnect) else str(e.__cause__ or e)
            raise CannotConnect(str(address), _explained(address, reason)) from None
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return client
    raise CannotConnect(str(address), f"no answer in {timeout:g} s")


async def _close(client: Client) -> None:
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(client._stream)


async def _open(address: Address) -> trio.abc.Stream:
    try:
        if isinstance(address, UnixAddress):
            return await trio.open_unix_socket(address.path)
        if isinstance(address, TlsAddress):
            return await trio.open_ssl_over_tcp_stream(
                address.host, address.port, ssl_context=_context(address), https_compatible=True
            )
        return await trio.open_tcp_stream(address.host, address.port)
    except OSError as e:
        raise CannotConnect(str(address), str(e)) from None


def _explained(address: Address, reason: str) -> str:
    """A host that refuses our certificate cannot say so: the connection just ends."""
    if not isinstance(address, TlsAddress):
        return reason
    from cryptography import x509  # noqa: PLC0415 - it takes longer than the connection does

    ours = x509.load_pem_x509_certificate(Path(address.certificate).read_bytes())
    now = datetime.now(UTC)
    if now > ours.not_valid_after_utc:
        state = f"has expired on {ours.not_valid_after_utc:%Y-%m-%d}"
    elif now < ours.not_valid_before_utc:
        state = f"is not valid before {ours.not_valid_before_utc:%Y-%m-%d}: look at the clock"
    else:
        return reason
    return f"the certificate {address.certificate} {state} ({reason})"


def _context(address: TlsAddress) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    pem.trust(made, address.ca)
    pem.show(made, address.certificate, address.key)
    return made


def _result(reply: Reply) -> Any:
    if reply.error is None:
        return reply.result
    data = reply.error.get("data")
    facts = dict(data) if isinstance(data, Mapping) else {}
    code = reply.error.get("code")
    number = code if isinstance(code, int) else HostError.code
    known = {error.code: error.__name__ for error in jsonrpc.KINDS}
    rpc = {
        "code": number,
        "kind": str(facts.pop("kind", known.get(number, ""))),
        "message": str(reply.error.get("message", "")),
        "data": facts,
    }
    raise HostError(rpc)


def _reason(frame: Frame) -> str:
    """What an ERROR frame says; of the peer's words no more than a line."""
    said = frame.headers.get("message") or frame.body[:200].decode(errors="replace")
    return f"the host says: {said[:200]}" if frame.command == "ERROR" else "it speaks no STOMP 1.2"
