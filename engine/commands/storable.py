"""What others have said, so that a database takes it: a host or adapter may say anything.

A command that could not write down why it failed would stand still.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

LONGEST = 8000  # characters of a text
LARGEST = 128 << 10  # bytes of a value, as JSON
_DEPTH = 32


def text(said: str) -> str:
    """Without NUL and lone surrogates, and not too long."""
    return (
        said[:LONGEST].replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()
    )


def data(said: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it. Of what is too large only the texts on top are left."""
    clean: dict[str, Any] = _clean(said, _DEPTH)
    if len(msgspec.json.encode(clean)) <= LARGEST:
        return clean
    return {name: _small(value) for name, value in clean.items()}


def _small(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: one for name, one in value.items() if not isinstance(one, dict | list)}
    return None if isinstance(value, list) else value


def _clean(value: Any, depth: int) -> Any:
    match value:
        case str():
            return text(value)
        case bool() | int() | float() | None:
            return value
        case Mapping() if depth:
            return {text(str(name)): _clean(one, depth - 1) for name, one in value.items()}
        case list() | tuple() if depth:
            return [_clean(one, depth - 1) for one in value]
    return text(str(value))
