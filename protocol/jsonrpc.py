"""JSON-RPC 2.0: requests, replies, batches and notifications; pure, and ASCII on the wire.

Verbs take their parameters by name. An error object has `code` and `message`; one of ours also
`data`: its facts, and its class as `kind`. Source: docs/wire.md, and the specification of
JSON-RPC 2.0.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, TypeAlias

import msgspec

from protocol.errors import Error, to_rpc

VERSION = "2.0"
BATCH_LIMIT = 100
DEPTH = 64  # arrays and objects in each other
Id: TypeAlias = str | int | float | None


@dataclass(eq=False)
class ParseError(Error):
    """The body is no JSON."""

    code: ClassVar[int] = -32700
    text: ClassVar[str] = "the request is not JSON: {reason}"
    reason: str


@dataclass(eq=False)
class InvalidRequest(Error):
    """JSON, but not a request."""

    code: ClassVar[int] = -32600
    text: ClassVar[str] = "not a JSON-RPC 2.0 request: {reason}"
    reason: str


@dataclass(eq=False)
class MethodNotFound(Error):
    code: ClassVar[int] = -32601
    text: ClassVar[str] = "no such method: {method}"
    method: str


@dataclass(eq=False)
class InvalidParams(Error):
    """The parameters are not an object: verbs take them by name."""

    code: ClassVar[int] = -32602
    text: ClassVar[str] = "{method}: {reason}"
    method: str
    reason: str


@dataclass(eq=False)
class InternalError(Error):
    """The verb was run, but its answer cannot be sent."""

    code: ClassVar[int] = -32603
    text: ClassVar[str] = "{method}: no answer can be sent: {reason}"
    method: str
    reason: str


@dataclass(eq=False)
class Forbidden(Error):
    """The client has not the role that this needs; nothing was done."""

    code: ClassVar[int] = 4030
    text: ClassVar[str] = "{method} is not for the role {role}"
    method: str
    role: str


KINDS = (ParseError, InvalidRequest, MethodNotFound, InvalidParams, InternalError)


@dataclass(frozen=True)
class Request:
    """notification: nobody wants an answer. A null id is an id, and is answered."""

    method: str
    params: dict[str, Any]
    id: Id = None
    notification: bool = False


@dataclass(frozen=True)
class Refused:
    """What gets an error at once. id: null where none can be trusted."""

    error: Error
    id: Id = None
    notification: bool = False


@dataclass(frozen=True)
class Received:
    """The content of one message. array: the answers are sent as an array."""

    items: tuple[Request | Refused, ...]
    array: bool = False


@dataclass(frozen=True)
class Reply:
    """An answer. error: the error object, or None."""

    id: Id
    result: Any = None
    error: dict[str, Any] | None = None


@dataclass(frozen=True)
class Notification:
    method: str
    params: dict[str, Any]


def read(body: bytes, batch_limit: int = BATCH_LIMIT) -> Received:
    """Requests out of a body. Nothing is raised: what is wrong is a Refused.

    A batch of one is answered like a single request, with a bare object.
    """
    try:
        value = _parse(body)
    except ParseError as e:
        return Received((Refused(e),))
    if not isinstance(value, list):
        return Received((_request(value),))
    if not value:
        return Received((Refused(InvalidRequest("an empty batch")),))
    if len(value) > batch_limit:
        return Received((Refused(InvalidRequest(f"a batch of more than {batch_limit}")),))
    return Received(tuple(map(_request, value)), array=len(value) > 1)


def read_reply(body: bytes) -> tuple[Reply | Notification, ...]:
    """What a client gets: answers and notifications. Raises ParseError, InvalidRequest."""
    value = _parse(body)
    return tuple(map(_reply, value if isinstance(value, list) else [value]))


def request(method: str, params: Mapping[str, Any], id: Id) -> bytes:
    return text({"jsonrpc": VERSION, "method": method, "params": params, "id": id})


def notification(method: str, params: Mapping[str, Any]) -> bytes:
    return text({"jsonrpc": VERSION, "method": method, "params": params})


def result(id: Id, value: Any) -> bytes:
    """The answer of a verb. One that returns nothing says true: null crashes a Java client.

    Raises ValueError or TypeError: the value is not JSON.
    """
    return text({"jsonrpc": VERSION, "id": id, "result": True if value is None else value})


def failure(id: Id, error: BaseException) -> bytes:
    return text({"jsonrpc": VERSION, "id": id, "error": error_object(error)})


def error_object(error: BaseException) -> dict[str, Any]:
    """code, message, and for errors of ours data: the facts and the kind."""
    rpc = to_rpc(error)
    plain = {"code": rpc["code"], "message": rpc["message"]}
    if isinstance(error, KINDS):
        return plain
    return {**plain, "data": {**rpc["data"], "kind": rpc["kind"]}}


def answer(replies: Sequence[bytes], *, array: bool) -> bytes:
    """One body out of written replies; empty: nothing is to be sent."""
    return b"[" + b", ".join(replies) + b"]" if array and replies else b"".join(replies)


def text(value: Any) -> bytes:
    """As JSON in ASCII. Raises ValueError or TypeError: the value is not JSON."""
    try:
        return json.dumps(value, allow_nan=False).encode("ascii")
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _parse(body: bytes) -> Any:
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise ParseError("nested too deeply") from None
    except UnicodeError:
        raise ParseError("not UTF-8") from None
    except (msgspec.MsgspecError, ValueError) as e:
        raise ParseError(str(e)) from None
    if _is_deeper(value, DEPTH):
        # What can just be read could not be shown, nor written down, by who has more on the stack.
        raise ParseError("nested too deeply")
    return value


def _is_deeper(value: object, depth: int) -> bool:
    """Are there more levels than `depth`?"""
    level = [value]
    for _ in range(depth + 1):
        level = [one for one in level if isinstance(one, dict | list)]
        if not level:
            return False
        level = list(chain.from_iterable(map(_inner, level)))
    return True


def _inner(value: Any) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _request(value: Any) -> Request | Refused:
    if not isinstance(value, dict):
        return Refused(InvalidRequest("it is no object"))
    method, params = value.get("method"), value.get("params", {})
    if (reason := _wrong(value, params)) is not None:
        return Refused(InvalidRequest(reason))
    if not isinstance(method, str):
        return Refused(InvalidRequest("method is no text"))
    id, silent = value.get("id"), "id" not in value
    if params == []:
        params = {}
    if isinstance(params, list):
        return Refused(InvalidParams(method, "parameters go by name"), id, silent)
    return Request(method, params, id, silent)


def _wrong(value: dict[str, Any], params: Any) -> str | None:
    if value.get("jsonrpc") != VERSION:
        return "jsonrpc is not 2.0"
    if not isinstance(params, dict | list):
        return "params is no object"
    if not _is_id(value.get("id")):
        return "id is neither text nor number"
    return None


def _is_id(value: Any) -> bool:
    return value is None or (isinstance(value, str | int | float) and not isinstance(value, bool))


def _reply(value: Any) -> Reply | Notification:
    if not isinstance(value, dict):
        raise InvalidRequest("it is no object")
    method, params = value.get("method"), value.get("params", {})
    if isinstance(method, str) and isinstance(params, dict):
        return Notification(method, params)
    id, error = value.get("id"), value.get("error")
    if not _is_id(id) or ("result" in value) == ("error" in value):
        raise InvalidRequest("neither an answer nor a notification")
    if "error" in value and not isinstance(error, dict):
        raise InvalidRequest("error is no object")
    return Reply(id, value.get("result"), error)
