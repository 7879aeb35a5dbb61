"""The OpenAPI document, made of the same table that answers. GET /leasehold/api/v1/openapi.json.

oVirt's part has both forms; ours is JSON. Source: OpenAPI Specification 3.1.
"""

import functools
import re
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import msgspec

from engine.rest.api import Api
from engine.rest.operation import OURS, Answer, Call, Operation
from engine.rest.schema import ERROR, FAULT, FLAG, Schema

JSON, XML = "application/json", "application/xml"
_COUNT: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,4}$"}
_WORD: Schema = {"type": "string", "pattern": "^[a-z_]{1,32}$"}
_ID: Schema = {"type": "string", "format": "uuid"}

# What stands after the question mark, wherever an operation names it.
PARAMETERS: Mapping[str, tuple[Schema, str]] = {
    "search": (
        {"type": "string"},
        'NAME=VALUE, joined by `and`; `page N` at its end: `name="x" and status=ok page 2`',
    ),
    "max": (_COUNT, "how many at most"),
    "page": (_COUNT, "which of the pages of so many; 1 is the first"),
    "from": ({"type": "string", "pattern": "^[0-9]{1,18}$"}, "only what came after this one"),
    "async": (FLAG, "false: the answer comes when the command has ended"),
    "all": (FLAG, "true: also what was cleared"),
    "correlation_id": (
        {"type": "string", "pattern": "^[A-Za-z0-9_.:-]{1,64}$"},
        "the client's name for what belongs together; the same request with the same one is not"
        " done again",
    ),
    "state": (_WORD, "only those in this state"),
    "type": (_WORD, "only those of this type"),
    "host": (_ID, "only those of this host, by its id"),
    "command": (_ID, "only those of this command, by its id"),
}
_FAILURES = {
    "400": "something of the request is not what it has to be",
    "401": "no token, or one that is not valid",
    "403": "the role may not do this",
    "404": "there is no such thing",
    "406": "neither XML nor JSON is accepted",
    "409": "the present state does not let it be done",
    "413": "the body is too large",
    "415": "the body is neither XML nor JSON",
    "429": "too many requests: Retry-After says when to ask again",
    "503": "the database cannot be reached: Retry-After says when to ask again",
}


def document(operations: tuple[Operation, ...]) -> dict[str, Any]:
    types = _types(operations)
    paths: dict[str, Any] = {}
    for one in operations:
        path = re.sub(r"{(\w+):\w+}", r"{\1}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one, types.refs)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "leasehold engine",
            "version": version("leasehold"),
            "license": {"name": "GPL-2.0-or-later", "identifier": "GPL-2.0-or-later"},
        },
        "paths": paths,
        "components": {
            "schemas": types.schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


class _Types:
    """The schemas of our structures, and where each is found."""

    def __init__(self, kinds: list[Any]) -> None:
        refs, self.schemas = msgspec.json.schema_components(
            kinds, ref_template="#/components/schemas/{name}"
        )
        self.refs: dict[Any, Schema] = dict(zip(kinds, refs, strict=True))


def _types(operations: tuple[Operation, ...]) -> _Types:
    found = [kind for one in operations for kind in (one.takes, one.gives)]
    return _Types(list({kind: None for kind in found if _is_type(kind)}))


def _is_type(kind: Any) -> bool:
    return kind is not None and not isinstance(kind, dict)


def _operation(one: Operation, refs: Mapping[Any, Schema]) -> Schema:
    made: Schema = {
        "operationId": _name(one),
        "summary": one.about,
        "description": f"For the role {one.least}, and those above it.",
        "parameters": [*_in_path(one), *(_parameter(name, one) for name in one.query)],
        "responses": _responses(one, refs),
    }
    if one.takes is not None:
        schema = one.takes if isinstance(one.takes, dict) else refs[one.takes]
        made["requestBody"] = {
            "required": _is_required(one),
            "content": _content(one, schema, root=one.root),
        }
    return made


def _is_required(one: Operation) -> bool:
    if isinstance(one.takes, dict):
        return bool({"required", "anyOf"} & set(one.takes))
    assert one.takes is not None
    return any(field.required for field in msgspec.structs.fields(one.takes))


def _name(one: Operation) -> str:
    """Such as getDisksById: for programs that make clients of it."""
    words = re.sub(r"{(\w+)(:\w+)?}", r"by_\1", one.path).strip("/").split("/")
    inner = "_".join(words[2:] if one.is_ovirt else ["leasehold", *words[3:]]) or "api"
    return re.sub(r"\W", "_", f"{one.method.lower()}_{inner}")


def _in_path(one: Operation) -> list[Schema]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in re.findall(r"{(\w+)", one.path)
    ]


def _parameter(name: str, one: Operation) -> Schema:
    schema, about = PARAMETERS[name]
    if name == "search":
        words = "|".join(one.search)
        schema = {"type": "string", "pattern": f'^({words})="[A-Za-z0-9_.-]{{1,32}}"$'}
        about = f"{about}; of: {', '.join(one.search)}"
    return {"name": name, "in": "query", "schema": schema, "description": about}


def _responses(one: Operation, refs: Mapping[Any, Schema]) -> Schema:
    schema = refs[one.gives] if _is_type(one.gives) else one.gives or {}
    made: Schema = {
        str(status): {"description": "done", "content": _content(one, schema)}
        for status in one.status
    }
    fault = FAULT if one.is_ovirt else ERROR
    for status, text in _FAILURES.items():
        made[status] = {"description": text, "content": _content(one, fault)}
    return made


def _content(one: Operation, schema: Schema, root: str = "") -> Schema:
    if not one.is_ovirt:
        return {JSON: {"schema": schema}}
    named = {**schema, "xml": {"name": root}} if root else schema
    return {JSON: {"schema": schema}, XML: {"schema": named}}


@functools.cache
def _written() -> bytes:
    from engine.rest.resources import OPERATIONS  # noqa: PLC0415 # it is one of them itself

    return msgspec.json.encode(document(OPERATIONS))


async def get_document(api: Api, call: Call) -> Answer:
    return Answer(msgspec.Raw(_written()))


OPERATION = Operation(
    "GET", f"{OURS}/openapi.json", get_document, "This document.", gives={"type": "object"}
)
