"""The application: every operation of every resource behind one way in.

That way is: a place for the request, its rate, who it is, whether the role may, the body within
its bounds, the handler, the form of the answer. What goes wrong anywhere on it becomes a fault.
"""

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec
import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.rest import accept, json, limits, xml
from engine.rest.accept import Form
from engine.rest.api import Api
from engine.rest.auth import Sessions
from engine.rest.element import Node
from engine.rest.faults import Fault, fault_of, our_fault, ovirt_fault
from engine.rest.operation import OVIRT, Answer, Call, Listed, Operation, Query
from engine.rest.refused import Refused
from engine.rest.resources import OPERATIONS
from engine.rest.sso import sso_routes
from engine.roles import Role, allow
from protocol.errors import BadParameter

log = structlog.get_logger()

HEADERS = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_CORRELATION = re.compile(r"[A-Za-z0-9_.:@/+=-]{1,100}")


def application(api: Api, *, more: Sequence[BaseRoute] = ()) -> Starlette:
    """The whole interface, for a server.

    more: routes beside it, for every user that is logged in: events, metrics. Their requests are
    counted like others, and have `scope["user"]`.
    """
    door = Door(api)
    routes: list[BaseRoute] = [
        Route(path, door.endpoint(operations), methods=list(operations))
        for path, operations in _by_path(OPERATIONS).items()
    ]
    routes += [*sso_routes(api, door.sessions), *(door.guarded(one) for one in more)]
    made = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_fault, Exception: _any_fault},
    )
    made.router.redirect_slashes = False
    made.add_middleware(Gate, door=door)
    return made


def _by_path(operations: Sequence[Operation]) -> dict[str, dict[str, Operation]]:
    paths: dict[str, dict[str, Operation]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method] = one
    return paths


class Door:
    """What all requests of one application share."""

    def __init__(self, api: Api) -> None:
        config = api.config
        self.api = api
        self.sessions = Sessions(api)
        self.rate = limits.Rate(config.rate, config.burst, api.clock)
        self.inside = 0

    def endpoint(
        self, operations: dict[str, Operation]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            operation = operations.get(request.method) or operations["GET"]  # HEAD
            try:
                return await self._answered(operation, request)
            except (ClientDisconnect, HTTPException):
                raise
            except Exception as e:
                return fault_response(fault_of(e), request)

        return answer

    async def _answered(self, operation: Operation, request: Request) -> Response:
        form = (
            accept.wanted(request.headers, Form.XML)
            if operation.is_ovirt
            else accept.wanted(request.headers, Form.JSON, only=True)
        )
        user = await self.sessions.user_of(request.headers.get("authorization"))
        self.rate.take(f"user {user.name}")
        allow(user.role, operation.least, operation.action)
        query = Query(tuple(request.query_params.multi_items()))
        body = await limits.body(request, self.api.config.body_limit, self.api.config.body_seconds)
        call = Call(
            user,
            request.path_params,
            query,
            self._node(operation, request, body),
            body,
            correlation(request, query),
        )
        return rendered(await operation.handler(self.api, call), form, operation)

    def _node(self, operation: Operation, request: Request, body: bytes) -> Node:
        """The body of oVirt's API; an empty one where there is none."""
        if not body.strip():
            return Node(operation.root)
        form = accept.sent(request.headers)
        if not operation.is_ovirt:
            if form is not Form.JSON:
                raise Refused(415, "the body is to be application/json")
            return Node("")
        read = xml.read if form is Form.XML else json.read
        config = self.api.config
        node = read(body, depth=config.depth, elements=config.elements)
        if form is Form.XML and operation.root and node.tag != operation.root:
            raise BadParameter("body", f"it is to be <{operation.root}>")
        return node

    def guarded(self, route: BaseRoute) -> BaseRoute:
        """The same route for those who are logged in."""
        if not isinstance(route, Route):
            raise TypeError(f"{route} is no Route")
        route.app = Guard(route.app, self, "reader")
        return route


class Guard:
    """Lets in who has a token, with a role."""

    def __init__(self, app: ASGIApp, door: Door, least: Role) -> None:
        self._app = app
        self._door = door
        self._least = least

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        try:
            user = await self._door.sessions.user_of(request.headers.get("authorization"))
            allow(user.role, self._least, f"{scope['method']} {scope['path']}")
        except Exception as e:
            await fault_response(fault_of(e), request)(scope, receive, send)
            return
        scope["user"] = user
        await self._app(scope, receive, send)


class Gate:
    """Around everything: so many at once, so many a second from one address, headers."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *_HEADER_LINES]
            await send(message)

        request = Request(scope)
        try:
            self._enter(request)
        except Exception as e:
            await fault_response(fault_of(e), request)(scope, receive, send_with_headers)
            return
        self._door.inside += 1
        try:
            await self._app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("a client left before it was answered")
        finally:
            self._door.inside -= 1

    def _enter(self, request: Request) -> None:
        if self._door.inside >= self._door.api.config.at_once:
            raise Refused(503, "too many requests at once")
        self._door.rate.take(f"address {request.client.host if request.client else ''}")


_HEADER_LINES = [(name.encode(), value.encode()) for name, value in HEADERS.items()]


def correlation(request: Request, query: Query) -> str:
    """The client's name for what belongs together. Raises BadParameter (1000)."""
    given = query.get("correlation_id") or request.headers.get("correlation-id") or ""
    if given and not _CORRELATION.fullmatch(given):
        raise BadParameter("correlation_id", "1 to 100 letters, digits and _ . : @ / + = -")
    return given


def rendered(answer: Answer, form: Form, operation: Operation) -> Response:
    match answer.body:
        case Response():
            return answer.body
        case Listed(name, items):
            body = xml.many(name, items) if form is Form.XML else json.many(items)
        case _ if operation.is_ovirt:
            body = xml.write(answer.body) if form is Form.XML else json.write(answer.body)
        case _:
            body = msgspec.json.encode(answer.body)
            form = Form.JSON
    return Response(body, answer.status, media_type=form)


def fault_response(fault: Fault, request: Request) -> Response:
    """In the form of the part of the interface that was asked, and that the client reads."""
    if not request.url.path.startswith(OVIRT):
        return our_fault(fault)
    try:
        form = accept.wanted(request.headers, Form.XML)
    except Refused:
        form = Form.XML
    return ovirt_fault(fault, form)


async def _http_fault(request: Request, error: Exception) -> Response:
    """No such page, no such method there."""
    assert isinstance(error, HTTPException)
    fault = fault_of(Refused(error.status_code, str(error.detail)))
    response = fault_response(fault, request)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


async def _any_fault(request: Request, error: Exception) -> Response:
    return fault_response(fault_of(error), request)
