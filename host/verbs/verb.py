"""What a verb is, and how its parameters are read."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from host.this_host import ThisHost
from protocol.errors import BadParameter, Error
from protocol.messages import decode

# The handler is called with the host, its decoded parameters, and the flow id of the call.
Handler: TypeAlias = Callable[[ThisHost, Any, str], Awaitable[Any]]


class Params(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters of a verb by name; those that are not known are skipped."""


class Nothing(Params, frozen=True):
    """A verb without parameters."""


@dataclass(frozen=True)
class Verb:
    """reads: a monitoring client may call it. task: it returns the id of a task.

    errors: those that are told to the caller, beside BadParameter. result: what it returns, for
    people. differs: from the verb of vdsm of this name, None: vdsm has none of this name.
    """

    name: str
    params: type[Params]
    handler: Handler
    result: str
    reads: bool = False
    task: bool = False
    errors: tuple[type[Error], ...] = ()
    differs: str | None = None

    @property
    def about(self) -> str:
        return (self.handler.__doc__ or "").strip()


def decoded(verb: Verb, data: Any) -> Any:
    """The parameters of a call. Raises BadParameter (1000), which names the one that is wrong."""
    try:
        return decode(data, verb.params, name="params")
    except BadParameter as e:
        raise BadParameter(_field(e.reason), e.reason) from None


def _field(reason: str) -> str:
    """The parameter that an error of msgspec is about."""
    place = re.search(r" - at `\$\.?([^`]*)`", reason)
    path = place[1] if place else ""
    if missing := re.search(r"missing required field `(\w+)`", reason):
        path = f"{path}.{missing[1]}".lstrip(".")
    return path or "params"
