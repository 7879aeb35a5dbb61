"""Errors as a client of REST sees them: a status, and oVirt's fault or our error object."""

import math
import uuid
from dataclasses import dataclass

import msgspec
import structlog
from starlette.responses import Response

from engine.rest import json, xml
from engine.rest.accept import Form
from engine.rest.element import Element
from engine.rest.refused import Refused
from protocol import errors
from protocol.errors import Error

log = structlog.get_logger()

# What no row says: the present state does not let it be done.
CONFLICT = 409
_STATUS: dict[type[Error], int] = {
    errors.BadParameter: 400,
    errors.NotSupported: 400,
    errors.Unauthorized: 401,
    errors.NotAllowed: 403,
    errors.NoSuchObject: 404,
    errors.TooManyRequests: 429,
    errors.DatabaseGone: 503,
    errors.EngineBusy: 503,
}
_TEXTS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    406: "Not Acceptable",
    409: "Operation Failed",
    413: "Request Too Large",
    415: "Unsupported Media Type",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
CODE = "leasehold-code"  # the header with the code: oVirt's fault has no place for it
PAUSE = 5  # seconds after which to ask again while the database is gone


@dataclass(frozen=True)
class Fault:
    """code, kind, data: as `Error.to_rpc` has them."""

    status: int
    code: int
    kind: str
    message: str
    data: dict[str, object]
    headers: dict[str, str]

    @property
    def reason(self) -> str:
        return _TEXTS.get(self.status, "Operation Failed")


def fault_of(error: BaseException) -> Fault:
    """Of an error that is not ours only a number is told, which stands in the log with the rest."""
    if isinstance(error, Refused):
        headers = _headers(error, error.status)
        return Fault(error.status, Error.code, "Refused", error.message, {}, headers)
    if isinstance(error, Error) and type(error) is not Error:
        status, told = _STATUS.get(type(error), CONFLICT), error.to_rpc()
        headers = _headers(error, status)
        return Fault(status, told["code"], told["kind"], str(error), told["data"], headers)
    number = uuid.uuid4().hex[:12]
    log.error("a request failed", error_id=number, exc_info=error)
    return Fault(500, Error.code, "Error", f"internal error {number}: see the log", {}, {})


def _headers(error: Exception, status: int) -> dict[str, str]:
    headers = {CODE: str(error.to_rpc()["code"])} if isinstance(error, Error) else {}
    if isinstance(error, errors.TooManyRequests):
        return headers | {"retry-after": str(math.ceil(error.seconds))}
    if status == 503:
        return headers | {"retry-after": str(PAUSE)}
    if status == 401:
        return headers | {"www-authenticate": 'Bearer realm="leasehold"'}
    return headers


def ovirt_fault(fault: Fault, form: Form) -> Response:
    """<fault><detail/><reason/></fault>."""
    element = Element("fault", fields={"detail": fault.message, "reason": fault.reason})
    body = xml.write(element) if form is Form.XML else json.write(element)
    return Response(body, fault.status, fault.headers, media_type=form)


def our_fault(fault: Fault) -> Response:
    """{"error": {code, kind, message, data}}: as the commands print it."""
    told = {"code": fault.code, "kind": fault.kind, "message": fault.message, "data": fault.data}
    body = msgspec.json.encode({"error": told})
    return Response(body, fault.status, fault.headers, media_type=Form.JSON)
