"""HTTP for monitoring: GET /metrics, /health, /health/live. Nothing there is secret.

Who asks is not asked who he is. So everything is bounded: the size of a request, the time it
takes, the connections and how long each lives.
"""

from collections.abc import Mapping
from typing import Any, Protocol

import msgspec
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from processes.http_door import Bounds, Door, listeners, name

CONNECTIONS = 32
HEADER_LIMIT = 8192
PATIENCE = 10.0
LIFE = 60.0
HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Metrics(Protocol):
    """What Prometheus is told."""

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All metrics, and their content type, as far as possible one that is accepted."""


class Report(Protocol):
    """well: does the service do what it is there for? facts: as JSON has them."""

    @property
    def status(self) -> str: ...

    @property
    def well(self) -> bool: ...

    @property
    def facts(self) -> Mapping[str, Any]: ...


class Health(Protocol):
    """Is the service well?"""

    async def report(self) -> Report: ...


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
    doors = await listeners(address, "listen.metrics")
    bounds = Bounds(CONNECTIONS, HEADER_LIMIT, patience, life)
    door = Door(_application(metrics, health), bounds)
    task_status.started([name(one) for one in doors])
    await trio.serve_listeners(door.enter, doors)


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
