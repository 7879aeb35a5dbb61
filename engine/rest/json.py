"""JSON as oVirt has it: scalars are strings, dates are milliseconds, a list is under its tag."""

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.rest.element import Element, Many, Moment, Node, Value, text_of
from protocol.errors import BadParameter

MEDIA = "application/json"


def read(body: bytes, *, depth: int, elements: int) -> Node:
    """Raises BadParameter (1000), whose reason holds nothing of the body."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise BadParameter("body", "it is no JSON") from None
    if not isinstance(value, dict):
        raise BadParameter("body", "it is no JSON object")
    counted = _Counted(depth, elements)
    return counted.node("", value, 1)


class _Counted:
    """Values into nodes, within bounds."""

    def __init__(self, depth: int, elements: int) -> None:
        self._depth = depth
        self._left = elements

    def node(self, tag: str, value: Any, depth: int) -> Node:
        self._left -= 1
        if depth > self._depth or self._left < 0:
            raise BadParameter("body", "too many elements, or too many in each other")
        if isinstance(value, dict):
            inner = (pair for key, one in value.items() for pair in self._under(key, one, depth))
            return Node(tag, "", tuple(inner))
        return Node(tag, text_of(value))

    def _under(self, key: str, value: Any, depth: int) -> Iterator[Node]:
        """A list is several of that name. What has no meaning, a list in a list, is not read."""
        for one in value if isinstance(value, list) else [value]:
            if one is not None and not isinstance(one, list):
                yield self.node(key, one, depth + 1)


def write(element: Element) -> bytes:
    return msgspec.json.encode(_made(element))


def many(value: Many) -> bytes:
    """A list as the whole answer: {"disk": [...]}, or {} when it is empty."""
    return msgspec.json.encode(_list(value))


def _made(element: Element) -> dict[str, Any]:
    told = (("rel", element.rel), ("href", element.href), ("id", element.id))
    made: dict[str, Any] = {name: text for name, text in told if text is not None}
    fields = element.fields.items()
    return made | {name: _value(one) for name, one in fields if one is not None}


def _value(value: Value) -> Any:
    match value:
        case Element():
            return _made(value)
        case tuple():
            return [_made(one) for one in value]
        case Many():
            return _list(value)
        case Moment():
            return round(value.at * 1000)
        case None:
            return None
        case _:
            return text_of(value)


def _list(value: Many) -> dict[str, Any]:
    return {value.tag: [_made(one) for one in value.items]} if value.items else {}
