"""Schemas of oVirt's JSON form, in the part that is served: what the OpenAPI document shows.

What a client sends may have more: it is not read. Scalars are strings; of what is sent numbers and
truths may be bare.
"""

from typing import Any, TypeAlias

Schema: TypeAlias = dict[str, Any]

TEXT: Schema = {"type": "string"}
ID: Schema = {"type": "string", "format": "uuid"}
# An id that a client chooses.
ID_OF: Schema = {
    "type": "string",
    "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
}
NUMBER: Schema = {"type": "string", "pattern": "^[0-9]{1,20}$"}
SIGNED: Schema = {"type": "string", "pattern": "^-?[0-9]{1,20}$"}
FLAG: Schema = {"type": "string", "enum": ["true", "false"]}
DATE: Schema = {"type": "integer", "description": "milliseconds since the epoch"}

# What is sent. As engine/names.py checks it.
NAME_IN: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": 255,
    "pattern": r"^[A-Za-z0-9_][A-Za-z0-9_.+@:#-]*( [A-Za-z0-9_.+@:#()-]+)*$",
}
TEXT_IN: Schema = {"type": "string", "maxLength": 4000, "pattern": "^[ -~]*$"}
ID_IN: Schema = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
SIZE_IN: Schema = {"type": "string", "pattern": "^[1-9][0-9]{0,17}$"}
FLAG_IN: Schema = FLAG


def one_of(*words: str) -> Schema:
    return {"type": "string", "enum": list(words)}


def fields(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """An element. A name that is a word of Python ends with _."""
    named = {name.rstrip("_"): schema for name, schema in properties.items()}
    made: Schema = {"type": "object", "properties": named}
    return made | {"required": list(required)} if required else made


def many(tag: str, schema: Schema) -> Schema:
    """A list: {"disk": [...]}; {} when it is empty."""
    return fields((), **{tag: {"type": "array", "items": schema}})


def just_one(tag: str, schema: Schema) -> Schema:
    """A list that has to have one element."""
    items = {"type": "array", "items": schema, "minItems": 1, "maxItems": 1}
    return fields((tag,), **{tag: items})


LINK = fields(("rel", "href"), rel=TEXT, href=TEXT)
LINKS: Schema = {"type": "array", "items": LINK}
ACTIONS = fields((), link=LINKS)
REFERENCE = fields(("id", "href"), id=ID, href=TEXT)
# What another thing is named by, in a request: its id or its name.
NAMED_IN: Schema = {
    **fields((), id=ID_IN, name=ID_IN),
    "anyOf": [{"required": ["id"]}, {"required": ["name"]}],
}

FAULT = fields(("reason", "detail"), reason=TEXT, detail=TEXT)
ERROR = fields(
    ("error",),
    error=fields(
        ("code", "kind", "message", "data"),
        code={"type": "integer"},
        kind=TEXT,
        message=TEXT,
        data={"type": "object"},
    ),
)
ACTION_IN = fields((), async_=FLAG_IN)
ACTION = fields(
    ("status",),
    id=ID,
    status=one_of("pending", "complete", "failed"),
    disk=REFERENCE,
    job=REFERENCE,
)
