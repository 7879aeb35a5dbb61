"""Driver options on the command line: `KEY=VALUE`, and where those are that are secret."""

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from cli.managed_known import Secret
from protocol.errors import BadParameter

SECRET_LIMIT = 64 << 10
# The names that drivers use for what nobody may see; `keyring` is the path of one.
_SECRET = re.compile(r"passw|passphrase|token|credential|secret\Z|key\Z", re.IGNORECASE)


def options(given: Iterable[str]) -> dict[str, Any]:
    """Of `--option KEY=VALUE`. A value that is JSON (true, 3, ["a"]) is that, others are text.

    Raises BadParameter (1000), also for what seems to be a secret.
    """
    made: dict[str, Any] = {}
    for one in given:
        key, text = _pair("--option", one, made)
        if _SECRET.search(key):
            reason = f"{key} seems to be secret: say where it is, with --secret"
            raise BadParameter("--option", reason)
        made[key] = _value(key, text)
    return made


def secrets(given: Iterable[str]) -> dict[str, Secret]:
    """Of `--secret KEY=env:VARIABLE` and `--secret KEY=file:/PATH`. Raises BadParameter (1000)."""
    made: dict[str, Secret] = {}
    for one in given:
        key, text = _pair("--secret", one, made)
        kind, _, place = text.partition(":")
        try:
            if kind not in ("env", "file"):
                raise ValueError("it begins with neither env: nor file:")
            made[key] = msgspec.convert({kind: place}, Secret)
        except ValueError as e:  # the text itself may be the secret
            reason = f"{key} is not KEY=env:VARIABLE or KEY=file:/PATH ({e})"
            raise BadParameter("--secret", reason) from None
    return made


def revealed(secrets: Mapping[str, Secret]) -> dict[str, str]:
    """What they are. Raises BadParameter (1000): one cannot be had, or is open to others."""
    return {key: _revealed(key, one) for key, one in secrets.items()}


def _revealed(key: str, secret: Secret) -> str:
    if secret.env is not None:
        if secret.env not in os.environ:
            raise BadParameter(key, f"the variable {secret.env} is not set")
        return os.environ[secret.env]
    path = Path(str(secret.file))
    try:
        return _content(path)
    except (OSError, ValueError) as e:
        why = (e.strerror if isinstance(e, OSError) else None) or _why(e)
        raise BadParameter(key, f"{path}: {why}") from None


def _why(error: Exception) -> str:
    """Not what stands in the file."""
    return "it is no text" if isinstance(error, UnicodeError) else str(error)


def _content(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no regular file")
        if status.st_mode & 0o077:
            raise ValueError("others may read or write it: chmod 600")
        content = file.read(SECRET_LIMIT + 1)
    if len(content) > SECRET_LIMIT:
        raise ValueError("it is too large")
    return content.decode().removesuffix("\n")


def _pair(option: str, text: str, taken: Mapping[str, Any]) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key or not text.isprintable():
        shown = key if key.isprintable() else "it"  # of the value nothing: it may be a secret
        raise BadParameter(option, f"{shown!r:.80} is not KEY=VALUE of printable text")
    if key in taken:
        raise BadParameter(option, f"{key} is given twice")
    return key, value


def _value(key: str, text: str) -> Any:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text
    if _has_null(value):
        raise BadParameter("--option", f"{key}: null cannot be kept; leave the option out")
    return value


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_has_null, value.values()))
    return any(map(_has_null, value)) if isinstance(value, list) else value is None
