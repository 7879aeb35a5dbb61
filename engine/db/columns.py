"""Types of columns: what goes in is checked, and the same in SQLite and PostgreSQL."""

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Dialect, Integer, LargeBinary, Text, TypeDecorator

from protocol.errors import BadParameter

JSON_LIMIT = 256 << 10  # bytes of one value
_LARGEST = (1 << 63) - 1


class Words(TypeDecorator[str]):
    """Text of at most `limit` characters. Raises BadParameter (1000): longer, or not storable.

    PostgreSQL refuses NUL, and both a lone surrogate, each in words of its own.
    """

    impl = Text
    cache_ok = True

    def __init__(self, limit: int = 4096) -> None:
        super().__init__()
        self.limit = limit

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        if value is None:
            return None
        if len(value) > self.limit:
            raise BadParameter("text", f"it is longer than {self.limit} characters")
        if "\0" in value or not _encodes(value):
            raise BadParameter("text", "it has characters that cannot be stored")
        return value


class Whole(TypeDecorator[int]):
    """An integer of 64 bits. Raises BadParameter (1000): larger."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        if value is not None and not -_LARGEST <= value <= _LARGEST:
            raise BadParameter("number", "it is too large")
        return value


class Json(TypeDecorator[Any]):
    """A JSON value of at most JSON_LIMIT bytes, None is SQL's NULL.

    Raises BadParameter (1000): it is larger. Source of the form: msgspec.json.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        if value is None:
            return None
        text = msgspec.json.encode(value)
        if len(text) > JSON_LIMIT:
            raise BadParameter("json", f"it is longer than {JSON_LIMIT} bytes")
        # In JSON a NUL is written with a backslash, so any text can be stored.
        return text.decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else msgspec.json.decode(value)


# SQLite gives out numbers by itself only in a column of exactly this type.
Counter = BigInteger().with_variant(Integer(), "sqlite")
Sealed = LargeBinary


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
