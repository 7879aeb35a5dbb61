"""The connection to the agent of one host: kept up, made anew, and told about."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any, Never

import trio

from engine.capabilities import Capabilities, read_capabilities
from engine.host_states import LinkEvent, LinkState, moved
from protocol.address import Address
from protocol.client import CALL_TIME, CONNECT_TIME, Client, HostError, NoAnswer, connected
from protocol.errors import CannotConnect, ConnectionLost, Error, to_rpc

log = logging.getLogger(__name__)

WAIT = 10.0  # seconds that a call waits for a connection which was lost a moment ago
_HOPEFUL = (LinkState.CONNECTING, LinkState.UP)  # a call may wait for a connection


@dataclass(frozen=True)
class Times:
    """Seconds. grace: of silence, before a host is called silent. pauses: before the second try to
    connect, the third ...; then the last one. refresh: between two looks at the capabilities.
    first: that the engine waits at its start for hosts that do not answer."""

    grace: float = 60.0
    pauses: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
    refresh: float = 30.0
    connect: float = CONNECT_TIME
    call: float = CALL_TIME
    first: float = 5.0


@dataclass(frozen=True)
class Known:
    """What the engine knows of a host before it asks. address: asked for at each try; raises
    BadParameter: there is none now. seen: was it up ever?"""

    id: str
    name: str
    address: Callable[[], Address]
    seen: bool = False


# Gets the capabilities of the host each time that it tells them; returns why this machine is
# refused, "" when it is not.
Meet = Callable[[Capabilities], str]


class Refused(Exception):
    """Another machine answers at the address of the host."""


class HostLink:
    """`run` keeps the connection for as long as it runs.

    meet: see Meet. changed: called after each change of `state` or `reason`. heard: gets the events
    of the host, `|jobs|status|ID` and the info. None of them blocks or raises.
    Not thread safe: it belongs to the trio thread.
    """

    def __init__(
        self,
        known: Known,
        *,
        meet: Meet,
        changed: Callable[[], None] = lambda: None,
        heard: Callable[[str, Mapping[str, Any]], None] = lambda method, info: None,
        times: Times | None = None,
    ) -> None:
        self.known = known
        self.state = LinkState.CONNECTING
        self.reason = "it was not asked yet"  # why it is not up; "" when it is
        self.capabilities: Capabilities | None = None  # as told last
        self.tried = trio.Event()  # set when a connection was tried once
        self._meet = meet
        self._changed = changed
        self._heard = heard
        self._times = times or Times()
        self._client: Client | None = None
        self._closed = False
        self._seen = known.seen
        self._silent_since = self._answered = trio.current_time()
        self._moved = trio.Event()  # set, and made anew, at each change

    @property
    def connected(self) -> bool:
        """Would a call be sent now?"""
        return self._client is not None and not self._client.lost

    async def run(self) -> None:
        """Connect, and connect again, until it is cancelled; raises nothing else."""
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._age)
                await self._keep()
        finally:
            self._closed = True
            self._change(LinkEvent.LOST, "the engine asks it no more")

    async def call(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL_TIME,
        wait: float = WAIT,
        flow_id: str = "",
    ) -> Any:
        """The result of a verb.

        timeout: seconds for all of it. wait: of them, for a connection that is just being made.
        Raises HostError: the host's own answer; CannotConnect: nothing was asked; NoAnswer and
        ConnectionLost: whether it was done is not known.
        """
        deadline = trio.current_time() + timeout
        client = await self._met(min(wait, timeout))
        left = max(deadline - trio.current_time(), 0.0)
        return await self._exchange(client, method, params, left, flow_id)

    async def refresh(self) -> Capabilities:
        """Ask for the capabilities now. Raises as `call`; BadOutput (4118): nonsense."""
        client = await self._met(WAIT)
        try:
            return await self._ask(client)
        except Refused as e:
            raise CannotConnect(self.known.name, str(e)) from None

    # --- calls ----------------------------------------------------------------------------------

    async def _met(self, wait: float) -> Client:
        """The connection, as soon as there is one. Raises CannotConnect."""
        with trio.move_on_after(wait):
            while not self.connected and self.state in _HOPEFUL and not self._closed:
                await self._moved.wait()
        if self._client is None or not self.connected:
            raise CannotConnect(self.known.name, self.reason or "the connection was lost")
        return self._client

    async def _exchange(
        self,
        client: Client,
        method: str,
        params: Mapping[str, Any] | None,
        timeout: float,
        flow_id: str = "",
    ) -> Any:
        try:
            answer = await client.call(method, params, timeout=timeout, flow_id=flow_id)
        except HostError:
            self._answered = trio.current_time()
            raise
        self._answered = trio.current_time()
        return answer

    async def _ask(self, client: Client) -> Capabilities:
        """Raises as `call`, BadOutput, Refused."""
        answer = await self._exchange(client, "Host.getCapabilities", None, self._times.call)
        told = read_capabilities(answer, self.known.name)
        if reason := self._meet(told):
            raise Refused(reason)
        self.capabilities = told
        return told

    # --- the connection -------------------------------------------------------------------------

    async def _keep(self) -> None:
        pauses = self._pauses()
        while True:
            if await self._was_up():
                pauses = self._pauses()
            self.tried.set()
            await trio.sleep(next(pauses))

    def _pauses(self) -> Iterator[float]:
        return chain(self._times.pauses, repeat(self._times.pauses[-1]))

    async def _was_up(self) -> bool:
        """One connection, from the try to its end: was there one?"""
        try:
            await self._connection()
        except Refused as e:
            self._change(LinkEvent.REFUSED, str(e))
            return False
        except Exception as e:  # whatever one host does, the others go on
            if not isinstance(e, Error):
                log.exception("host %s: the connection failed unexpectedly", self.known.name)
            was_up = self.state is LinkState.UP
            self._change(LinkEvent.LOST, str(to_rpc(e)["message"]))
            return was_up

    async def _connection(self) -> Never:
        """Until it is lost. Raises Refused, and what `connected` and `_ask` raise."""
        address = self.known.address()
        async with connected(address, timeout=self._times.connect, events=True) as client:
            await self._ask(client)
            self._client, self._seen = client, True
            self._change(LinkEvent.CONNECTED, "")
            self.tried.set()
            try:
                await self._attend(client)
            finally:
                self._client = None
            raise ConnectionLost(str(address), 0, client.lost)

    async def _attend(self, client: Client) -> None:
        """Read events and look at the host again and again, until the connection is lost."""
        failure: Exception | None = None

        async def look() -> None:
            nonlocal failure
            try:
                await self._look(client)
            except Exception as e:  # raised below, without the group that a nursery makes
                failure = e
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            async for method, info in client.events:
                self._heard(method, info)
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _look(self, client: Client) -> None:
        """Raises what ends the connection: no call was answered for the grace, or nonsense was."""
        while True:
            await trio.sleep(self._times.refresh)
            try:
                await self._ask(client)
            except HostError as e:
                log.warning("host %s cannot tell what it can do: %s", self.known.name, e)
            except NoAnswer:
                if trio.current_time() - self._answered >= self._times.grace:
                    raise

    # --- the state ------------------------------------------------------------------------------

    async def _age(self) -> None:
        """A host that is silent for the grace is not waited for any more."""
        while True:
            waiting = self.state is LinkState.CONNECTING
            deadline = self._silent_since + self._times.grace if waiting else float("inf")
            with trio.CancelScope(deadline=deadline) as silence:
                await self._moved.wait()
            if silence.cancelled_caught:
                event = LinkEvent.SILENT if self._seen else LinkEvent.UNSEEN
                self._change(event, self.reason)

    def _change(self, event: LinkEvent, reason: str) -> None:
        """The only writer of `state`."""
        before = self.state, self.reason
        if before[0] is LinkState.UP:
            self._silent_since = trio.current_time()
        self.state, self.reason = moved(self.state, event), reason
        if (self.state, self.reason) == before:
            return
        log.info("host %s: %s -> %s %s", self.known.name, before[0], self.state, reason)
        was, self._moved = self._moved, trio.Event()
        was.set()
        self._changed()
