"""oVirt's single sign-on, as its SDK speaks it: a form for a token, JSON back."""

from urllib.parse import parse_qsl

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from engine.rest import limits
from engine.rest.api import Api
from engine.rest.auth import LONGEST, Sessions
from engine.rest.faults import fault_of
from protocol.errors import BadParameter

LOGIN = "/ovirt-engine/sso/oauth/token"
REVOKE = "/ovirt-engine/sso/oauth/revoke"
LOGOUT = "/ovirt-engine/services/sso-logout"
SCOPE = "ovirt-app-api"
LIMIT = 16 << 10  # bytes of a form
FIELDS = 20
FORM = "application/x-www-form-urlencoded"
_ERRORS = {400: "invalid_request", 401: "access_denied", 429: "slow_down"}


def sso_routes(api: Api, sessions: Sessions) -> list[Route]:
    async def login(request: Request) -> Response:
        try:
            form = await _form(request, api)
            if form.get("grant_type") != "password":
                raise BadParameter("grant_type", "it is not `password`")
            name, password = _field(form, "username"), _field(form, "password")
            address = request.client.host if request.client else ""
            issued = await sessions.login(name, password, address)
        except Exception as e:
            return _refused(e)
        # exp: milliseconds since the epoch, as oVirt has it.
        return _json(
            {
                "access_token": issued.token,
                "scope": SCOPE,
                "exp": str(round(issued.expires * 1000)),
                "token_type": "bearer",
            }
        )

    async def logout(request: Request) -> Response:
        try:
            await sessions.logout(_field(await _form(request, api), "token"))
        except Exception as e:
            return _refused(e)
        return _json({})

    return [
        Route(LOGIN, login, methods=["POST"]),
        Route(REVOKE, logout, methods=["POST"]),
        Route(LOGOUT, logout, methods=["POST"]),
    ]


async def _form(request: Request, api: Api) -> dict[str, str]:
    """Raises BadParameter (1000), Refused (413)."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise BadParameter("content-type", f"it is not {FORM}")
    body = await limits.body(request, LIMIT, api.config.body_seconds)
    try:
        pairs = parse_qsl(
            body.decode(), keep_blank_values=True, max_num_fields=FIELDS, errors="strict"
        )
    except ValueError:
        raise BadParameter("body", "it is no form") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise BadParameter("body", "a field stands there more than once")
    return form


def _field(form: dict[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value or "\0" in value or (name != "password" and len(value) > LONGEST):
        raise BadParameter(name, "it is missing, or cannot be one")
    return value


def _refused(error: Exception) -> Response:
    fault = fault_of(error)
    told = {
        "error": _ERRORS.get(fault.status, "server_error"),
        "error_code": _ERRORS.get(fault.status, "server_error"),
        "error_description": fault.message,
    }
    return _json(told, fault.status, fault.headers)


def _json(told: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(told), status, headers, media_type="application/json")
