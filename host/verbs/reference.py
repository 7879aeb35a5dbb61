"""docs/verbs.md, made from the table of verbs: `python -m host.verbs.reference > docs/verbs.md`."""

import json
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec

from host.verbs.examples import EXAMPLES
from host.verbs.table import VERBS
from host.verbs.verb import Params, Verb

HEAD = """\
# Verbs

What the agent of a host does for its clients, by JSON-RPC over STOMP. This page is made from the
code by `python -m host.verbs.reference`; a test compares, and runs the examples as one session,
from top to bottom.

- Parameters go by name; those that a verb does not know are skipped. A wrong one is refused with
  `BadParameter` (1000), which names it; nothing was done then.
- A verb that returns nothing returns `true`.
- A verb that returns a **task** has finished before it answers; what it was called with is
  checked before there is a task. How it ended, its error included, tells `Task.getStatus`. The
  last 1000 tasks are kept.
- A client with the role *monitor* may call the verbs that are marked so, and gets `Forbidden`
  (4030) for the others.
- Beside the errors that are listed, any verb may give those of the storage domain and the lease
  volume that it works on, and 100 for what nobody expected. [Failures](failures.md) says what to
  do about each.
- An endpoint of a copy is described in [formats](formats.md#messages); the kinds of url in
  [formats](formats.md#urls). The path of an external endpoint counts by where it really leads: it
  must lie in a directory that the configuration of the host allows, or be a block device in one
  of its device folders. The same holds for the socket of an `nbd+unix` url, and for the `conf`
  and `keyring` of an `rbd` url.
- Of a job every move is told as the event `|jobs|status|ID`, with what `Host.getJobs` tells of
  it.

Names, parameters and results of verbs that vdsm has as well are those of vdsm's published
interface; where they differ, it is said.
"""

_NAMES: dict[Any, str] = {
    UUID: "UUID",
    str: "text",
    int: "integer",
    float: "number",
    bool: "true or false",
    NoneType: "null",
}


def text() -> str:
    """The whole page."""
    names = list(EXAMPLES)
    index = "".join(f"| [{name}](#{_anchor(name)}) | {_summary(VERBS[name])} |\n" for name in names)
    parts = [HEAD, "\n| verb | what it does |\n|---|---|\n", index]
    return "".join([*parts, *("\n" + "".join(_section(VERBS[name])) for name in names)])


def _section(verb: Verb) -> Iterator[str]:
    yield f"## {verb.name}\n\n{_words(verb.about)}\n\n"
    if verb.reads:
        yield "For monitors too.\n\n"
    if rows := list(_rows(verb.params)):
        yield "| parameter | type | default |\n|---|---|---|\n"
        yield from rows
        note = _words(verb.params.__doc__ or "")
        yield f"\n{note}\n\n" if note and verb.params.__doc__ != Params.__doc__ else "\n"
    else:
        yield "No parameters.\n\n"
    yield f"- Result: {verb.result}.\n"
    if verb.errors:
        yield f"- Errors: {', '.join(f'`{one.__name__}` {one.code}' for one in verb.errors)}.\n"
    yield f"- vdsm: {_difference(verb)}.\n"
    example = EXAMPLES[verb.name]
    yield f"\n```json\n{_call(verb.name, example.params)}\n{_json(example.result)}\n```\n"


def _difference(verb: Verb) -> str:
    if verb.differs is None:
        return "has no such verb"
    return verb.differs or "the same"


def _summary(verb: Verb) -> str:
    first = _words(verb.about.split("\n\n", maxsplit=1)[0]).split(". ")[0].rstrip(".")
    return f"{first}{'; a task' if verb.task else ''}"


def _rows(kind: type[msgspec.Struct]) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        default = "" if field.required else f"`{json.dumps(_plain(field.default))}`"
        yield f"| `{field.name}` | {_type(hints[field.name])} | {default} |\n"


def _plain(value: Any) -> Any:
    """As JSON has it."""
    return msgspec.to_builtins(value)


def _type(hint: Any) -> str:
    """A type, for people."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is not None:
        return _GENERIC[origin](arguments)
    if issubclass(hint, Enum):
        return " or ".join(f"`{json.dumps(one.value)}`" for one in hint)
    if issubclass(hint, msgspec.Struct):
        return f"object: {', '.join(_fields(hint))}"
    return _NAMES[hint]


def _described(arguments: tuple[Any, ...]) -> str:
    """What a type says of itself."""
    metas = [one for one in arguments[1:] if isinstance(one, msgspec.Meta)]
    return next((one.description for one in metas if one.description), "")


def _either(arguments: tuple[Any, ...]) -> str:
    return ", or ".join(map(_type, arguments))


_GENERIC: dict[Any, Callable[[tuple[Any, ...]], str]] = {
    Annotated: lambda arguments: (
        _described(arguments) or _type(arguments[0]) + _range(arguments[1:])
    ),
    Union: _either,
    UnionType: _either,
    Literal: lambda arguments: " or ".join(f"`{json.dumps(one)}`" for one in arguments),
    tuple: lambda arguments: f"list of {_type(arguments[0])}",
    dict: lambda arguments: "[endpoint](formats.md#messages)",
}


def _fields(kind: type[msgspec.Struct]) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    for field in msgspec.structs.fields(kind):
        optional = "" if field.required else f", default {json.dumps(_plain(field.default))}"
        yield f"`{field.name}` ({_type(hints[field.name])}{optional})"


def _range(metas: tuple[Any, ...]) -> str:
    limits = [one for one in metas if isinstance(one, msgspec.Meta)]
    least = next((one.ge for one in limits if one.ge is not None), None)
    most = next((one.le for one in limits if one.le is not None), None)
    if least is not None and most is not None:
        return f" {least} to {most}"
    return "" if least is None else f", at least {least}"


def _call(name: str, params: dict[str, Any]) -> str:
    return json.dumps({"jsonrpc": "2.0", "method": name, "params": params, "id": 1}, indent=1)


def _json(result: Any) -> str:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}, indent=1)


def _words(text: str) -> str:
    """Paragraphs, each in one line."""
    return "\n\n".join(" ".join(part.split()) for part in text.strip().split("\n\n"))


def _anchor(name: str) -> str:
    return name.lower().replace(".", "")


if __name__ == "__main__":
    sys.stdout.write(text())
