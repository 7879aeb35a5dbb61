"""A server for tests on a unix socket, and a client that may say anything."""

import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from host.wire.call import Call, Dispatch, Event
from host.wire.doors import Door, LoopbackDoor, loopback_doors, unix_door
from host.wire.limits import DEFAULT, Limits
from host.wire.server import Server
from protocol.address import Address, PlainAddress, UnixAddress
from protocol.jsonrpc import MethodNotFound
from protocol.stomp import Decoder, Frame, encode
from protocol.stomp import Limits as FrameLimits

WAIT = 20.0  # seconds until what was caused must be seen
CONNECT = b"CONNECT\naccept-version:1.2\nheart-beat:0,0\n\n\0"
SUBSCRIBE = b"SUBSCRIBE\ndestination:R\nack:auto\nid:s1\n\n\0"
END = b"DISCONNECT\nreceipt:end\n\n\0"


async def ping(call: Call) -> Any:
    if call.method == "Host.ping2":
        return True
    raise MethodNotFound(call.method)


@asynccontextmanager
async def serving(
    dispatch: Dispatch = ping,
    *,
    doors: Sequence[Door] = (),
    events: trio.MemoryReceiveChannel[Event] | None = None,
    limits: Limits = DEFAULT,
) -> AsyncGenerator[tuple[Server, Address]]:
    """Run a server for the body; its address is that of the first door, else a new unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        doors = doors or [await unix_door(str(Path(folder, "socket")))]
        server = Server(dispatch, doors, events=events, limits=limits)
        async with trio.open_nursery() as nursery:
            await nursery.start(server.serve)
            try:
                yield server, _address(doors[0])
            finally:
                nursery.cancel_scope.cancel()


def _address(door: Door) -> Address:
    if isinstance(door, LoopbackDoor):
        host, port = door.listener.socket.getsockname()[:2]
        return PlainAddress(host, port)
    return UnixAddress(door.name)


async def loopback() -> list[LoopbackDoor]:
    return await loopback_doors("127.0.0.1", 0, "monitor")


class Raw:
    """A connection of bytes. Nothing waits longer than WAIT."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._decoder = Decoder(FrameLimits(body=64 << 20))

    async def say(self, *data: bytes) -> None:
        with trio.fail_after(WAIT):
            await self.stream.send_all(b"".join(data))

    async def frame(self) -> Frame | None:
        """The next frame; None: the server has closed."""
        with trio.fail_after(WAIT):
            while (frame := self._decoder.next()) is None:
                try:
                    chunk = await self.stream.receive_some(1 << 16)
                except trio.BrokenResourceError:
                    return None
                if not chunk:
                    return None
                self._decoder.feed(bytes(chunk))
            return frame

    async def rest(self) -> list[Frame]:
        """All frames until the server closes."""
        found = []
        while (frame := await self.frame()) is not None:
            found.append(frame)
        return found

    async def all_after(self, *data: bytes) -> list[Frame]:
        """Say it, and that this is the end; all frames but the receipt for the end."""
        with suppress(trio.BrokenResourceError):
            await self.say(*data)
            await self.say(END)
        return [f for f in await self.rest() if f.headers.get("receipt-id") != "end"]


@asynccontextmanager
async def raw(address: Address, *first: bytes) -> AsyncGenerator[Raw]:
    if isinstance(address, UnixAddress):
        stream: trio.SocketStream = await trio.open_unix_socket(address.path)
    else:
        stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        client = Raw(stream)
        await client.say(*first)
        yield client


@asynccontextmanager
async def talking(address: Address, *more: bytes) -> AsyncGenerator[Raw]:
    """A raw client that has connected and subscribed to R."""
    async with raw(address, CONNECT, SUBSCRIBE, *more) as client:
        frame = await client.frame()
        assert frame is not None
        assert frame.command == "CONNECTED"
        yield client


def request(body: bytes, reply_to: str = "R", **headers: str) -> bytes:
    return encode(
        Frame(
            "SEND",
            {"destination": "jms.topic.vdsm_requests", "reply-to": reply_to, **headers},
            body,
        )
    )


PING = request(b'{"jsonrpc":"2.0","method":"Host.ping2","params":{},"id":"1"}')
PONG = b'{"jsonrpc": "2.0", "id": "1", "result": true}'
