"""One thing that a client can ask for: a method, a path, who may, and what answers.

The operations of a resource are a table; the application and the OpenAPI document are made of it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from engine.rest.api import Api
from engine.rest.element import Element, Many, Node, truth, whole
from engine.rest.settings import LARGEST_PAGE, PAGE
from engine.roles import Role
from protocol.errors import BadParameter

OVIRT = "/ovirt-engine/api"
OURS = "/leasehold/api/v1"
Method: TypeAlias = Literal["GET", "POST", "PUT", "DELETE"]
LONGEST_QUERY = 4096  # characters of one parameter
S = TypeVar("S")


@dataclass(frozen=True)
class User:
    name: str
    role: str


@dataclass(frozen=True)
class Query:
    """The parameters after the question mark. All raise BadParameter (1000)."""

    pairs: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        found = [value for key, value in self.pairs if key == name]
        if len(found) > 1:
            raise BadParameter(name, "it stands there more than once")
        if found and (len(found[0]) > LONGEST_QUERY or "\0" in found[0]):
            raise BadParameter(name, "it is too long, or has a character that is none")
        return found[0] if found else None

    def number(self, name: str) -> int | None:
        text = self.get(name)
        return None if text is None else whole(name, text)

    def flag(self, name: str) -> bool | None:
        text = self.get(name)
        return None if text is None else truth(name, text.lower())

    @property
    def max(self) -> int:
        """How many of a list; oVirt takes a negative number for all."""
        text = self.get("max")
        if text is None or text.startswith("-"):
            return PAGE
        return min(whole("max", text), LARGEST_PAGE)


@dataclass(frozen=True)
class Call:
    """One request, read. path: the variables of it. node: of an oVirt body. raw: of one of ours.

    correlation: the client's name for what belongs together; "": none.
    """

    user: User
    path: Mapping[str, str]
    query: Query = Query()
    node: Node = field(default_factory=lambda: Node(""))
    raw: bytes = b""
    correlation: str = ""

    def struct(self, kind: type[S]) -> S:
        """The body of one of our resources. Raises BadParameter (1000)."""
        try:
            return msgspec.json.decode(self.raw or b"{}", type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            reason = str(e) if isinstance(e, msgspec.ValidationError) else "it is no JSON"
            raise BadParameter("body", reason) from None


@dataclass(frozen=True)
class Listed:
    """A list as the whole answer."""

    name: str
    items: Many


@dataclass(frozen=True)
class Answer:
    """body: of oVirt's API an Element or a list; of ours what msgspec writes."""

    body: Element | Listed | Any = None
    status: int = 200


Handler: TypeAlias = Callable[[Api, Call], Awaitable[Answer]]
Schema: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """path: with {id}. least: the role that it takes. about: one line, for the document.

    takes: the body; root: the tag of it in XML. gives: of the answer. For oVirt's API a schema of
    the JSON form; for ours a type of msgspec. query: names of parameters, in PARAMETERS of
    openapi.py. search: what can be searched for.
    """

    method: Method
    path: str
    handler: Handler
    about: str
    least: Role = "reader"
    takes: Schema | type | None = None
    root: str = ""
    gives: Schema | Any | None = None
    query: tuple[str, ...] = ()
    status: tuple[int, ...] = (200,)
    search: tuple[str, ...] = ()

    @property
    def is_ovirt(self) -> bool:
        return self.path.startswith(OVIRT)

    @property
    def action(self) -> str:
        """For the error of a user who may not."""
        return f"{self.method} {self.path}"
