"""One connection: frames in, calls out, answers and events back. It trusts nothing that comes."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog
import trio

from host.wire import dialect
from host.wire.budget import Budget
from host.wire.call import Peer
from host.wire.calling import Caller
from host.wire.limits import Limits
from host.wire.outbox import Outbox, Stalled
from host.wire.subscriptions import Refused, Subscriptions
from protocol import jsonrpc
from protocol.jsonrpc import Received
from protocol.stomp import BrokenFrame, Decoder, Frame

log = structlog.stdlib.get_logger("host.wire")

CHUNK = 1 << 16  # bytes that are read at once
PATIENCE = 2  # times its promised interval until a silent client is dropped
HASTE = 0.5  # of the interval that a client wants, until we send a heart-beat


@dataclass(frozen=True)
class Shared:
    """What the sessions of a server share.

    calls: calls run here, so that one that has begun goes on when its client leaves. slots: of all
    sessions together.
    """

    caller: Caller
    calls: trio.Nursery
    slots: trio.Semaphore
    budget: Budget
    limits: Limits


class Leave(Exception):
    """The connection ends when what waits for the client is sent. The text is for the log."""


class Session:
    """A client that was let in. `run` it in a task of its own; it closes no stream."""

    def __init__(self, stream: trio.abc.Stream, peer: Peer, shared: Shared) -> None:
        self.peer = peer
        self.reason = ""
        self._stream = stream
        self._shared = shared
        self._limits = shared.limits
        self._scope = trio.CancelScope()
        self._reading = trio.CancelScope()
        self._account = shared.budget.account(self.end)
        self._outbox = Outbox(shared.limits, self._account.change)
        self._sent = trio.Event()
        self._slots = trio.Semaphore(shared.limits.in_flight)
        self._in_flight = 0
        self._idle = trio.Event()
        self._subscriptions = Subscriptions(shared.limits.subscriptions)
        self._decoder = Decoder(shared.limits.frame_size)
        self._connected = False
        self._silence = math.inf  # seconds without a byte until it is dropped
        self._frame_since = math.inf
        self._half = 0  # bytes of half a frame that the account knows of

    @property
    def outbox(self) -> Outbox:
        return self._outbox

    @property
    def held(self) -> int:
        """Bytes of half a frame."""
        return self._decoder.held

    @property
    def subscriptions(self) -> int:
        return len(self._subscriptions)

    @property
    def in_flight(self) -> int:
        """Requests, a batch counting as one, that were begun and not answered."""
        return self._in_flight

    async def run(self) -> None:
        """Talk until one of both leaves; `reason` says why it ended."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._pump)
                    await self._listen()
                    nursery.cancel_scope.cancel()
        finally:
            self._forget()

    def _forget(self) -> None:
        """Keep nothing of what was said: we are in cycles, which are collected late."""
        self._outbox.clear()
        self._decoder.clear()
        self._account.close()

    def end(self, reason: str) -> None:
        """Let it go at once. The first reason counts."""
        self.reason = self.reason or reason
        self._scope.cancel()

    def stop(self) -> None:
        """Read nothing more; answer what was begun, within a bound; then leave."""
        self._reading.cancel()

    def tell(self, destination: str, body: bytes) -> None:
        """Send a body to those of its subscriptions that want it."""
        for id in self._subscriptions.of(destination):
            self._put(dialect.message(destination, id, body))

    def _put(self, frame: bytes) -> None:
        if not self._outbox.put(frame):
            self.end("it reads too slowly")

    async def _pump(self) -> None:
        try:
            await self._outbox.pump(self._stream)
        except Stalled:
            self.end("it reads nothing")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.end("connection lost")
        self._sent.set()

    async def _listen(self) -> None:
        try:
            with self._reading:
                await self._frames()
            await self._until_idle()
            raise Leave("the server stops")
        except Leave as e:
            self.reason = self.reason or str(e)
            await self._farewell()
        except trio.BrokenResourceError:
            self.reason = self.reason or "connection lost"

    async def _frames(self) -> None:
        await self._receive(trio.current_time() + self._limits.handshake, "it says nothing")
        while True:
            taken = 0
            while (frame := self._next()) is not None:
                await self._take(frame)
                taken += 1
            self._account_for_half(taken)
            await self._receive(*self._deadline())

    def _next(self) -> Frame | None:
        try:
            return self._decoder.next()
        except BrokenFrame as e:
            raise self._error(f"broken frame: {e}") from None

    async def _receive(self, deadline: float, reason: str) -> None:
        """Feed the decoder. Raises Leave when nothing came in time, or nothing comes any more."""
        with trio.CancelScope(deadline=deadline) as scope:
            chunk = await self._stream.receive_some(CHUNK)
        if scope.cancelled_caught:
            raise self._error(reason)
        if not chunk:
            self._outbox.close()  # nobody is there to read it
            self.end("the client has left")
            await trio.sleep_forever()
        self._decoder.feed(bytes(chunk))

    def _deadline(self) -> tuple[float, str]:
        silent = trio.current_time() + self._silence, "no heart-beat came"
        return min(silent, (self._frame_since + self._limits.frame, "half a frame came"))

    def _account_for_half(self, taken: int) -> None:
        """Half a frame is kept, but not for ever."""
        if not self._decoder.inside:
            self._frame_since = math.inf
        elif taken or self._frame_since == math.inf:
            self._frame_since = trio.current_time()
        self._account.change(self._decoder.held - self._half)
        self._half = self._decoder.held

    async def _take(self, frame: Frame) -> None:
        if frame.command == "SEND":
            await self._send(frame)
        elif frame.command in ("CONNECT", "STOMP"):
            return self._connect(frame)
        elif frame.command == "SUBSCRIBE":
            self._subscribe(frame)
        elif frame.command == "UNSUBSCRIBE":
            self._subscriptions.remove(frame.headers.get("id", ""))
        elif frame.command == "DISCONNECT":
            await self._disconnect(frame)
        else:
            raise self._error("this command is not served", frame)
        self._receipt(frame)

    def _connect(self, frame: Frame) -> None:
        if self._connected:
            raise self._error("connected already", frame)
        if not dialect.speaks(frame.headers.get("accept-version", "")):
            raise self._error("version unsupported: 1.2 is spoken here", frame)
        promised, wanted = dialect.heart_beats(frame.headers.get("heart-beat", ""))
        self._connected = True
        self._put(dialect.connected(promised, wanted))
        if promised:
            self._silence = promised / 1000 * PATIENCE
        if wanted:
            self._outbox.beat(wanted / 1000 * HASTE)

    def _subscribe(self, frame: Frame) -> None:
        try:
            self._subscriptions.add(
                frame.headers.get("id", ""), frame.headers.get("destination", "")
            )
        except Refused as e:
            raise self._error(str(e), frame) from None

    async def _disconnect(self, frame: Frame) -> None:
        if "receipt" in frame.headers:  # it says that all before was done
            await self._until_idle()
            self._receipt(frame)
        raise Leave("the client disconnects")

    def _receipt(self, frame: Frame) -> None:
        if "receipt" in frame.headers:
            self._put(dialect.receipt(frame.headers["receipt"]))

    async def _send(self, frame: Frame) -> None:
        destination = frame.headers.get("destination", "")
        if dialect.is_request(destination):
            return await self._request(frame)
        # To itself only: no client can tell another what looks like an event of ours.
        ids = list(self._subscriptions.of(destination))
        if not ids:
            raise self._error("nobody has subscribed to this destination", frame)
        for id in ids:
            self._put(dialect.forwarded(frame, id))

    async def _request(self, frame: Frame) -> None:
        """Begin it; when too many have begun, wait, and let the client wait with what follows."""
        await self._slots.acquire()
        try:
            await self._shared.slots.acquire()
        except BaseException:
            self._slots.release()
            raise
        received = jsonrpc.read(frame.body, self._limits.batch)
        flow_id = frame.headers.get(dialect.FLOW_ID, "")[: dialect.FLOW_ID_LIMIT]
        reply_to = frame.headers.get("reply-to", "")
        self._account.change(len(frame.body))
        self._in_flight += 1
        done = self._finished(len(frame.body))
        self._shared.calls.start_soon(self._answer, received, flow_id, reply_to, done)

    def _finished(self, size: int) -> Callable[[], None]:
        def finished() -> None:
            self._slots.release()
            self._shared.slots.release()
            self._account.change(-size)
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

        return finished

    async def _answer(
        self, received: Received, flow_id: str, reply_to: str, done: Callable[[], None]
    ) -> None:
        try:
            body = await self._shared.caller.answer(received, self.peer, flow_id)
            if body:
                self.tell(reply_to, body)
        except Exception:
            log.exception("an answer could not be sent", flow_id=flow_id)
        finally:
            done()

    async def _until_idle(self) -> None:
        with trio.move_on_after(self._limits.closing):
            while self._in_flight:
                self._idle = trio.Event()
                await self._idle.wait()

    def _error(self, reason: str, frame: Frame | None = None) -> Leave:
        self._outbox.put(dialect.error(reason, frame))
        self._outbox.close()
        return Leave(reason)

    async def _farewell(self) -> None:
        """Send what waits, then let the client close first: else the system may throw it away."""
        self._outbox.close()
        with trio.move_on_after(self._limits.farewell), suppress(trio.BrokenResourceError):
            await self._sent.wait()
            if isinstance(self._stream, trio.abc.HalfCloseableStream):
                await self._stream.send_eof()
            while await self._stream.receive_some(CHUNK):
                pass
