"""A server of HTTP on trio whose connections are bounded: their number, their life, their end.

Hypercorn's own server lets in any number, for ever, and once it sends it cannot be cancelled: here
each connection has its socket taken away when its time is over.
"""

import logging
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from typing import TypeAlias

import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp

from protocol.errors import BadParameter
from protocol.settings import split_address

log = structlog.get_logger()

BACKLOG = 128
LAST_PORT = 65_535
HANDSHAKE = 10.0  # seconds

Stream: TypeAlias = "trio.SocketStream | trio.SSLStream[trio.SocketStream]"


@dataclass(frozen=True)
class Bounds:
    """connections: of more, the one that came first goes. header: bytes of the request line and the
    headers. patience: seconds for a whole request, and between two of one connection. life: seconds
    of a connection, whatever it does."""

    connections: int
    header: int
    patience: float
    life: float = inf


class Door:
    """Lets connections in to an application."""

    def __init__(self, application: ASGIApp, bounds: Bounds) -> None:
        self._application = ASGIWrapper(application)  # type: ignore[arg-type]
        self._bounds = bounds
        self._config = _config(bounds)
        self._context = WorkerContext(None)
        self._open: dict[trio.Event, None] = {}  # set: it has to go; in the order they came

    @property
    def connections(self) -> int:
        return len(self._open)

    async def close(self) -> None:
        """Have each connection go as soon as it has answered what it was asked."""
        await self._context.terminated.set()

    async def enter(self, stream: trio.SocketStream, context: ssl.SSLContext | None = None) -> None:
        """One connection, with TLS if there is a context. Nothing in it may end the server."""
        over = trio.Event()
        self._open[over] = None
        if len(self._open) > self._bounds.connections:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end, stream, over, nursery.cancel_scope)
                await self._talk(stream if context is None else _with_tls(stream, context))
                over.set()
        except* Exception as e:
            log.error("a connection failed", exc_info=e)
        finally:
            self._open.pop(over, None)

    async def _end(
        self, stream: trio.SocketStream, over: trio.Event, scope: trio.CancelScope
    ) -> None:
        try:
            with trio.move_on_after(self._bounds.life):
                await over.wait()
        finally:
            self._open.pop(over, None)
            _cut(stream.socket)  # wakes even one that is shielded from being cancelled
            scope.cancel()

    async def _talk(self, stream: Stream) -> None:
        await TCPServer(
            self._application,
            self._config,
            self._context,
            ConnectionState({}),
            stream,  # type: ignore[arg-type] # one without TLS will do
        )


def _with_tls(
    stream: trio.SocketStream, context: ssl.SSLContext
) -> "trio.SSLStream[trio.SocketStream]":
    return trio.SSLStream(stream, context, server_side=True, https_compatible=True)


def _cut(sock: trio.socket.SocketType) -> None:
    """Close it and forget what it has not sent; nothing, if it is closed. Source: socket(7)."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _config(bounds: Bounds) -> Config:
    made = Config()
    made.h11_max_incomplete_size = bounds.header
    made.h2_max_header_list_size = bounds.header
    made.h2_max_concurrent_streams = 1
    made.keep_alive_timeout = bounds.patience  # counts until a request is whole, too
    made.ssl_handshake_timeout = HANDSHAKE
    made.include_server_header = False
    made.errorlog = logging.getLogger("hypercorn")
    return made


async def listeners(address: str, setting: str) -> list[trio.SocketListener]:
    """address: HOST:PORT. Raises BadParameter (1000) of `setting`: nobody can listen there."""
    host, port = split_address(address)
    if port > LAST_PORT:
        raise BadParameter(setting, f"{address}: the last port is {LAST_PORT}")
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as e:
        raise BadParameter(setting, f"{address}: {e.strerror or e}") from None


def name(listener: trio.SocketListener) -> str:
    """HOST:PORT that it listens on."""
    host, port, *_ = listener.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
