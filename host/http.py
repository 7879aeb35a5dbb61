"""HTTP for monitoring: GET /metrics, /health, /health/live. Nothing there is secret.

Who asks is not asked who he is. So everything is bounded: the size of a request, the time it
takes, the connections and how long each lives.
"""

import logging
import socket
import struct
from contextlib import suppress

import msgspec
import structlog
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from host.config import split_address
from host.health import Health
from host.metrics import Metrics
from protocol.errors import BadParameter

log = structlog.get_logger()

BACKLOG = 64
LAST_PORT = 65_535
CONNECTIONS = 32  # of more, the one that came first goes
HEADER_LIMIT = 8192  # bytes of the request line and the headers
PATIENCE = 10.0  # seconds for a whole request, and between two of one connection
LIFE = 60.0  # seconds of a connection, whatever it does
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


async def serve_http(
    address: str,
    metrics: Metrics,
    health: Health,
    *,
    patience: float = PATIENCE,
    life: float = LIFE,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled, which waits for nobody. It starts with the addresses it listens on.

    address: HOST:PORT as `listen.metrics` has it. Raises BadParameter (1000): nobody can listen
    there.
    """
    listeners = await _listeners(address)
    door = _Door(_application(metrics, health), patience, life)
    task_status.started([_name(one) for one in listeners])
    await trio.serve_listeners(door.enter, listeners)


def _application(metrics: Metrics, health: Health) -> Starlette:
    async def all_metrics(request: Request) -> Response:
        text, content_type = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={**HEADERS, "content-type": content_type})

    async def whole(request: Request) -> Response:
        report = await health.report()
        facts = {"status": report.status, **report.facts}
        return _json(facts, 200 if report.well else 503)

    async def live(request: Request) -> Response:
        return _json({"status": "ok"}, 200)  # the loop turns, or nobody would answer

    pages = {"/metrics": all_metrics, "/health": whole, "/health/live": live}
    made = Starlette(routes=[Route(path, page, methods=["GET"]) for path, page in pages.items()])
    made.router.redirect_slashes = False
    return made


def _json(facts: object, status: int) -> Response:
    return Response(
        msgspec.json.encode(facts), status, HEADERS, media_type="application/json; charset=utf-8"
    )


class _Door:
    """Lets connections in. Hypercorn's own server lets in any number, for ever, and once it sends
    it cannot be cancelled: here each has its socket taken away when its time is over."""

    def __init__(self, application: Starlette, patience: float, life: float) -> None:
        self._application = ASGIWrapper(application)  # type: ignore[arg-type]
        self._config = _config(patience)
        self._life = life
        self._open: dict[trio.Event, None] = {}  # set: it has to go; in the order they came

    async def enter(self, stream: trio.SocketStream) -> None:
        """One connection. Nothing in it may end the server."""
        over = trio.Event()
        self._open[over] = None
        if len(self._open) > CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.set()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end, stream, over, nursery.cancel_scope)
                await self._talk(stream)
                over.set()
        except* Exception as e:
            log.error("a connection for metrics failed", exc_info=e)
        finally:
            self._open.pop(over, None)

    async def _end(
        self, stream: trio.SocketStream, over: trio.Event, scope: trio.CancelScope
    ) -> None:
        try:
            with trio.move_on_after(self._life):
                await over.wait()
        finally:
            self._open.pop(over, None)
            _cut(stream.socket)  # wakes even one that is shielded from being cancelled
            scope.cancel()

    async def _talk(self, stream: trio.SocketStream) -> None:
        await TCPServer(
            self._application,
            self._config,
            WorkerContext(None),
            ConnectionState({}),
            stream,  # type: ignore[arg-type] # one without TLS will do
        )


def _cut(sock: trio.socket.SocketType) -> None:
    """Close it and forget what it has not sent; nothing, if it is closed. Source: socket(7)."""
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def _config(patience: float) -> Config:
    made = Config()
    made.h11_max_incomplete_size = HEADER_LIMIT
    made.h2_max_header_list_size = HEADER_LIMIT
    made.h2_max_concurrent_streams = 1
    made.keep_alive_timeout = patience  # counts until a request is whole, too
    made.include_server_header = False
    made.errorlog = logging.getLogger("hypercorn")
    return made


async def _listeners(address: str) -> list[trio.SocketListener]:
    host, port = split_address(address)
    if port > LAST_PORT:
        raise BadParameter("listen.metrics", f"{address}: the last port is {LAST_PORT}")
    try:
        return await trio.open_tcp_listeners(port, host=host, backlog=BACKLOG)
    except OSError as e:
        raise BadParameter("listen.metrics", f"{address}: {e.strerror or e}") from None


def _name(listener: trio.SocketListener) -> str:
    host, port, *_ = listener.socket.getsockname()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
