"""An agent that says what the test wants, on a real socket and in the real protocol."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from protocol.address import UnixAddress
from protocol.client import EVENTS
from protocol.jsonrpc import failure, notification, result
from protocol.stomp import Decoder, Frame, encode

HELLO = encode(Frame("CONNECTED", {"version": "1.2", "heart-beat": "0,0"}))
SILENT = object()  # in the place of an answer: none comes
UUID = "00000000-0000-4000-8000-000000000001"


def capabilities(uuid: str = UUID, **other: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": "a",
        "stores": ["embedded"],
        "connector_info": {"host": "a"},
        "limits": {"concurrency": 4},
        **other,
    }


class Each(list[Any]):
    """Answers, one for each call; the last one stays."""


@dataclass
class StandIn:
    """answers: by method, a value, an exception, SILENT, Each, or a function of the parameters.

    asked: methods with their parameters, in the order in which they came.
    """

    path: str
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    connections: int = 0
    refuses: bool = False  # connections
    streams: list[trio.SocketStream] = field(default_factory=list)
    sending: trio.Lock = field(default_factory=trio.Lock)

    def __post_init__(self) -> None:
        self.answers.setdefault("Host.getCapabilities", capabilities())

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(self.path)

    @property
    def url(self) -> str:
        return f"unix:{self.path}"

    def of(self, method: str) -> list[dict[str, Any]]:
        return [params for asked, params in self.asked if asked == method]

    async def drop(self) -> None:
        """Close all connections."""
        for stream in self.streams:
            await trio.aclose_forcefully(stream)
        self.streams.clear()

    async def tell(self, method: str, params: dict[str, Any]) -> None:
        """Send an event to all."""
        frame = Frame("MESSAGE", {"destination": EVENTS, "subscription": "events"},
                      notification(method, params))  # fmt: skip
        for stream in self.streams:
            await self._send(stream, encode(frame))

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        if self.refuses:
            await stream.aclose()
            return
        self.streams.append(stream)
        try:
            async with trio.open_nursery() as nursery:
                await self._read(stream, nursery)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            pass

    async def _read(self, stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        decoder, reply_to = Decoder(), ""
        async for chunk in stream:
            decoder.feed(bytes(chunk))
            while (frame := decoder.next()) is not None:
                if frame.command == "CONNECT":
                    await self._send(stream, HELLO)
                elif frame.command == "SUBSCRIBE" and frame.headers.get("id") == "answers":
                    reply_to = frame.headers["destination"]
                elif frame.command == "SEND":
                    nursery.start_soon(self._answer, stream, reply_to, json.loads(frame.body))

    async def _answer(self, stream: trio.SocketStream, to: str, request: dict[str, Any]) -> None:
        method, params = request["method"], request.get("params") or {}
        self.asked.append((method, params))
        answer = self.answers.get(method, True)
        if isinstance(answer, Each):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        try:
            if callable(answer):
                answer = await answer(params)
        except Exception as e:
            answer = e
        if answer is SILENT:
            return
        if isinstance(answer, Exception):
            body = failure(request["id"], answer)
        else:
            body = result(request["id"], answer)
        frame = Frame("MESSAGE", {"destination": to, "subscription": "x"}, body)
        await self._send(stream, encode(frame))

    async def _send(self, stream: trio.SocketStream, data: bytes) -> None:
        async with self.sending:  # answers are ready when they are, and an event at any time
            await stream.send_all(data)


@asynccontextmanager
async def stand_in(folder: Path, name: str = "a", **answers: Any) -> AsyncGenerator[StandIn]:
    """It listens for the body. answers: by method, with `_` for the dot."""
    made = StandIn(
        str(folder / name), {key.replace("_", ".", 1): value for key, value in answers.items()}
    )
    async with listening(made):
        yield made


@asynccontextmanager
async def listening(made: StandIn) -> AsyncGenerator[None]:
    Path(made.path).unlink(missing_ok=True)
    with trio.socket.socket(trio.socket.AF_UNIX) as socket:
        await socket.bind(made.path)
        socket.listen()
        async with trio.open_nursery() as nursery:
            listeners = [trio.SocketListener(socket)]
            await nursery.start(trio.serve_listeners, made.serve, listeners)
            yield
            nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition."""
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110 - it has no event
            await trio.sleep(0.005)
