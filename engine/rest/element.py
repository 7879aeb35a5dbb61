"""What an answer says, before it is XML or JSON; and what a request said, whichever it was.

An Element has what oVirt's API has: an id, a place (href), and fields by name. Both forms follow
from it, so no resource knows in which of them it is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from protocol.errors import BadParameter

LONGEST_NUMBER = 20  # digits: what is longer is no size


@dataclass(frozen=True)
class Moment:
    """Seconds since the epoch: a date in XML, milliseconds in JSON."""

    at: float


@dataclass(frozen=True)
class Element:
    """fields: None is left out. A Many has an element around it, a tuple of elements has none."""

    tag: str
    id: str | None = None
    href: str | None = None
    fields: Mapping[str, "Value"] = field(default_factory=dict)
    rel: str | None = None


@dataclass(frozen=True)
class Many:
    """Elements of one tag: `disk` in `disks`."""

    tag: str
    items: tuple[Element, ...] = ()


Value: TypeAlias = str | int | float | bool | Moment | Element | Many | tuple[Element, ...] | None


def named(tag: str, id: str, base: str) -> Element:
    """A reference: only the id of the thing and where it is found."""
    return Element(tag, id, f"{base}/{id}")


def link(rel: str, href: str) -> Element:
    return Element("link", None, href, rel=rel)


def text_of(value: str | int | float | bool) -> str:
    """A scalar as both forms have it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


@dataclass(frozen=True)
class Node:
    """An element of a request. Attributes are children like others: `id` may stand as either."""

    tag: str
    text: str = ""
    children: tuple["Node", ...] = ()

    def child(self, tag: str) -> "Node | None":
        """Raises BadParameter (1000): there are several."""
        found = [one for one in self.children if one.tag == tag]
        if len(found) > 1:
            raise BadParameter(tag, "it stands there more than once")
        return found[0] if found else None

    def at(self, *path: str) -> "Node | None":
        """The child of a child ..."""
        node: Node | None = self
        for tag in path:
            node = node.child(tag) if node is not None else None
        return node

    def all(self, *path: str) -> Iterator["Node"]:
        """All children with the last tag of the path."""
        *outer, tag = path
        if (parent := self.at(*outer)) is not None:
            yield from (one for one in parent.children if one.tag == tag)

    def get(self, *path: str) -> str | None:
        """The text; None: it is not there, or empty."""
        node = self.at(*path)
        if node is None:
            return None
        if node.children:
            raise BadParameter(".".join(path), "it is no text")
        return node.text or None

    def number(self, *path: str) -> int | None:
        """A whole number, 0 or more."""
        text = self.get(*path)
        return None if text is None else whole(".".join(path), text)

    def flag(self, *path: str) -> bool | None:
        text = self.get(*path)
        return None if text is None else truth(".".join(path), text)


def whole(name: str, text: str) -> int:
    """Raises BadParameter (1000): no whole number, 0 or more."""
    if not (text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER):
        raise BadParameter(name, "it is no whole number, 0 or more")
    return int(text)


def truth(name: str, text: str) -> bool:
    """Raises BadParameter (1000): neither true nor false."""
    if text not in ("true", "false"):
        raise BadParameter(name, "it is neither true nor false")
    return text == "true"
