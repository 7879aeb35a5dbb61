"""The server: lets clients in, gives them a session each, and tells them of events."""

import ssl
import time
from collections.abc import Collection, Sequence

import structlog
import trio

from host.wire import dialect
from host.wire.budget import Budget
from host.wire.call import READING, Dispatch, Event, Peer
from host.wire.calling import Caller
from host.wire.doors import Door
from host.wire.limits import DEFAULT, Limits
from host.wire.session import Session, Shared
from host.wire.tls import NotAdmitted
from protocol import jsonrpc

log = structlog.stdlib.get_logger("host.wire")

# What a handshake ends with when the other end does not want, or cannot.
_FAILED = (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError, OSError)


class Server:
    """Serve the verbs behind `dispatch` to who comes through `doors`.

    events: what is told to everybody who has subscribed to events. reading: the methods that
    monitors may call.
    """

    def __init__(
        self,
        dispatch: Dispatch,
        doors: Sequence[Door],
        *,
        events: trio.MemoryReceiveChannel[Event] | None = None,
        limits: Limits = DEFAULT,
        reading: Collection[str] = READING,
    ) -> None:
        self._caller = Caller(dispatch, reading, limits.outbox)
        self._doors = doors
        self._events = events
        self._limits = limits
        self._budget = Budget(limits.memory)
        self._sessions: set[Session] = set()
        self._entering: dict[trio.CancelScope, None] = {}  # in the order in which they came
        self._accepting = trio.CancelScope()
        self._stopping = trio.Event()
        self._empty = trio.Event()

    @property
    def sessions(self) -> frozenset[Session]:
        return frozenset(self._sessions)

    @property
    def memory(self) -> int:
        """Bytes that clients make us keep, all together."""
        return self._budget.total

    def stop(self) -> None:
        """Let nobody in any more, answer what was begun, within a bound, and end `serve`."""
        self._stopping.set()

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`. Cancelled, it ends at once, and so do calls that were begun."""
        async with trio.open_nursery() as calls:
            async with trio.open_nursery() as nursery:
                slots = trio.Semaphore(self._limits.in_flight_total)
                shared = Shared(self._caller, calls, slots, self._budget, self._limits)
                nursery.start_soon(self._accept, shared, nursery)
                if self._events is not None:
                    nursery.start_soon(self._tell, self._events)
                task_status.started()
                await self._stopping.wait()
                await self._close()
                nursery.cancel_scope.cancel()
            calls.cancel_scope.cancel()

    async def _accept(self, shared: Shared, nursery: trio.Nursery) -> None:
        try:
            with self._accepting:
                async with trio.open_nursery() as doors:
                    for door in self._doors:
                        doors.start_soon(self._open, door, shared, nursery)
        finally:
            for door in self._doors:
                door.close()

    async def _open(self, door: Door, shared: Shared, nursery: trio.Nursery) -> None:
        async def enter(stream: trio.SocketStream) -> None:
            await self._enter(door, stream, shared)

        await trio.serve_listeners(enter, [door.listener], handler_nursery=nursery)

    async def _close(self) -> None:
        self._accepting.cancel()
        for scope in self._entering:
            scope.cancel()
        for session in self._sessions:
            session.stop()
        with trio.move_on_after(self._limits.closing + self._limits.farewell):
            while self._sessions:
                self._empty = trio.Event()
                await self._empty.wait()

    async def _enter(self, door: Door, stream: trio.SocketStream, shared: Shared) -> None:
        """One connection, from its first byte to its end. Nothing in it may end the server."""
        open_stream: trio.abc.Stream = stream
        try:
            admitted = await self._admit(door, stream)
            if admitted is not None:
                open_stream, peer = admitted
                await self._talk(door, open_stream, peer, shared)
        except Exception:
            log.exception("a connection failed", door=door.name)
        finally:
            with trio.move_on_after(self._limits.farewell, shield=True):
                await open_stream.aclose()

    async def _admit(
        self, door: Door, stream: trio.SocketStream
    ) -> tuple[trio.abc.Stream, Peer] | None:
        """Find out who it is. None: it may not come in, or did not say in time."""
        with trio.move_on_after(self._limits.handshake) as scope:
            self._entering[scope] = None
            try:
                self._make_room()
                opened = await door.open(stream)
                return opened, await self._peer(door, opened)
            except NotAdmitted as e:
                log.warning("refused", door=door.name, reason=str(e))
                return None
            except _FAILED as e:
                log.info("refused", door=door.name, reason=str(e.__cause__ or e))
                return None
            finally:
                self._entering.pop(scope, None)
        log.info("refused", door=door.name, reason="it did not say who it is")
        return None

    def _make_room(self) -> None:
        """Of too many that have not said who they are, the oldest goes: an honest one is fast."""
        if len(self._entering) > self._limits.entering:
            oldest = next(iter(self._entering))
            del self._entering[oldest]  # else it would go for all that come in the same moment
            oldest.cancel()

    async def _peer(self, door: Door, stream: trio.abc.Stream) -> Peer:
        """Raises NotAdmitted, once the client was told why."""
        try:
            peer = door.peer(stream)
            if len(self._sessions) >= self._limits.connections:
                raise NotAdmitted("too many connections")
        except NotAdmitted as e:
            await stream.send_all(dialect.error(str(e)))
            await stream.aclose()
            raise
        return peer

    async def _talk(self, door: Door, stream: trio.abc.Stream, peer: Peer, shared: Shared) -> None:
        session = Session(stream, peer, shared)
        self._sessions.add(session)
        log.info("connected", door=door.name, peer=peer.name, role=peer.role)
        try:
            if self._stopping.is_set():
                session.stop()
            await session.run()
        finally:
            self._sessions.remove(session)
            if not self._sessions:
                self._empty.set()
            log.info("left", door=door.name, peer=peer.name, reason=session.reason)

    async def _tell(self, events: trio.MemoryReceiveChannel[Event]) -> None:
        """Events are hints: one that cannot be sent is left out."""
        async for method, params in events:
            stamped = {**params, "notify_time": time.monotonic_ns() // 1_000_000}
            try:
                body = jsonrpc.notification(method, stamped)
            except (TypeError, ValueError):
                log.exception("an event is no JSON", method=method)
                continue
            for session in tuple(self._sessions):
                session.tell(dialect.EVENTS, body)
