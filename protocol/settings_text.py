"""A configuration as TOML: the effective one, and the default with a comment on each setting."""

import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import msgspec

from protocol.settings import Rate, Seconds, Section, sections
from protocol.settings_file import UNITS_OF_TIME
from protocol.sizes import UNITS

WIDTH = 98


def effective(config: msgspec.Struct) -> str:
    """What is in effect; read again, it is the same. What is not set stands as a comment."""
    names = sections(type(config))
    return "\n".join("\n".join(_section(config, name)) + "\n" for name in names)


def commented(default: msgspec.Struct, head: str) -> str:
    """All settings with their defaults, as comments, below the head; for a new file."""
    return head + "".join(
        "\n" + "\n".join(_section(default, name, explained=True)) + "\n"
        for name in sections(type(default))
    )


def _section(config: msgspec.Struct, name: str, *, explained: bool = False) -> Iterator[str]:
    section: Section = getattr(config, name)
    if explained:
        yield f"# {(type(section).__doc__ or '').splitlines()[0]}"
    yield f"[{name}]"
    for key, hint in get_type_hints(type(section), include_extras=True).items():
        value = getattr(section, key)
        if explained:
            yield from textwrap.wrap(_description(hint), WIDTH, **_COMMENT)
        if value is None:
            yield f"# {key} ="
        else:
            yield f"{'# ' if explained else ''}{key} = {written(value)}"


_COMMENT: Any = {"initial_indent": "# ", "subsequent_indent": "# "}


def written(value: Any) -> str:
    """A value in TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Rate | Seconds):
        return _rate(value) if isinstance(value, Rate) else _time(value)
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{written(k)} = {written(v)}' for k, v in value.items())} }}"
    if isinstance(value, tuple):
        return f"[{', '.join(map(written, value))}]"
    return str(value)


def _rate(rate: int) -> str:
    """With a unit when that says the same."""
    unit = ""
    for larger in UNITS:
        if rate % 1024:
            break
        rate, unit = rate // 1024, larger
    return f'"{rate}{unit}"' if unit else str(rate)


def _time(seconds: Seconds) -> str:
    """With the largest unit of which it is a whole number."""
    for unit, length in reversed(UNITS_OF_TIME.items()):
        if seconds and not seconds % length:
            return f'"{int(seconds // length)}{unit}"'
    return f"{float(seconds):.9f}".rstrip("0").rstrip(".")


def _character(one: str) -> str:
    if one in '"\\':
        return f"\\{one}"
    return one if one.isprintable() else f"\\U{ord(one):08x}"


def _description(hint: Any) -> str:
    if get_origin(hint) is not Annotated:
        return ""
    about = [one.description for one in get_args(hint) if isinstance(one, msgspec.Meta)]
    return next((text for text in about if text), "")
