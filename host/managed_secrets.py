"""Secrets of a connection: found, so that no message or log shows them."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

HIDDEN = "***"
SHORTEST = 4  # characters; a shorter one would be found everywhere
# The names that cinder's drivers use; `secret_uuid` and `secret_type` are none.
_KEYS = re.compile(r"passw|passphrase|keyring|token|credential|secret\Z|key\Z", re.IGNORECASE)


def secrets(connection: Any) -> frozenset[str]:
    """The texts that may be shown to nobody."""
    return frozenset(one for one in _found(connection, inside=False) if len(one) >= SHORTEST)


def hidden(text: str, known: frozenset[str]) -> str:
    """The text without them."""
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def concealed(value: Any, *, inside: bool = False) -> Any:
    """The same with every secret hidden, for those who may know the rest."""
    if isinstance(value, Mapping):
        return {
            key: concealed(one, inside=inside or bool(_KEYS.search(str(key))))
            for key, one in value.items()
        }
    if isinstance(value, list | tuple):
        return [concealed(one, inside=inside) for one in value]
    return HIDDEN if inside and value not in (None, "") else value


def _found(value: Any, *, inside: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _found(one, inside=inside or bool(_KEYS.search(str(key))))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _found(one, inside=inside)
    elif inside and isinstance(value, str):
        yield value
        # Of a keyring file a program may show one word only: those that can be no word of a text.
        yield from (word for word in value.split() if len(word) >= 16)
