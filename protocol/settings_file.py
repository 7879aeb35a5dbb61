"""Reading a configuration: a TOML file, below the environment, below the command line.

A variable of the environment is <PREFIX><SECTION>_<KEY>, such as LEASEHOLD_JOBS_CONCURRENCY; on
the command line a setting is `section.key=value`. There a list is written with commas or as in the
file, a table as NAME=VALUE with commas, and `none` is nothing.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from protocol.errors import BadParameter
from protocol.settings import MEANINGS, Rate, Seconds, Section, sections
from protocol.sizes import parse_rate

T = TypeVar("T", bound=msgspec.Struct)

UNITS_OF_TIME = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)\s*([smhd]?)")


@dataclass(frozen=True)
class Form(Generic[T]):
    """Of a configuration: what it is, where its file is, and how its variables begin."""

    config: type[T]
    path: Path
    prefix: str

    @property
    def sections(self) -> dict[str, type[Section]]:
        return sections(self.config)


def load(
    form: Form[T],
    path: Path | None = None,
    environment: Mapping[str, str] | None = None,
    settings: Mapping[str, str] | None = None,
) -> T:
    """Read a configuration. Raises BadParameter (1000), which names the key and where it stands.

    path: of the file; None: that of the form, which may be missing. environment: default: that of
    this process. settings: of the command line, by `section.key`.
    """
    given = os.environ if environment is None else environment
    text, where = _text(path, form.path)
    data = _parsed(text, where)
    origins: dict[str, str] = {}
    known = form.sections
    for name, value, origin in [*_variables(form, given), *_settings(settings or {})]:
        section, _, key = name.partition(".")
        table = data.setdefault(section, {})
        if isinstance(table, dict):
            table[key] = _value(known, section, key, value, origin)
            origins[name] = origin
    return _checked(form, data, origins, text, where)


def _text(path: Path | None, usual: Path) -> tuple[str, Path]:
    where = path or usual
    try:
        return where.read_text(encoding="utf-8"), where
    except FileNotFoundError:
        if path is None:
            return "", where
        raise BadParameter("configuration", f"{where} does not exist") from None
    except (OSError, ValueError) as e:
        raise BadParameter("configuration", f"{where}: {e}") from None


def _parsed(text: str, where: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise BadParameter("configuration", f"{where}: {e}") from None


def _variables(form: Form[T], environment: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Those that begin like a section of ours; LEASEHOLD_HOME and others are not for us."""
    found, known = [], form.sections
    for variable, value in sorted(environment.items()):
        section, _, key = variable.removeprefix(form.prefix).lower().partition("_")
        if variable.startswith(form.prefix) and section in known and key:
            found.append((f"{section}.{key}", value, variable))
    return found


def _settings(settings: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(name, value, "the command line") for name, value in settings.items()]


def _value(
    known: Mapping[str, type[Section]], section: str, key: str, text: str, origin: str
) -> Any:
    """The text of a variable or option as what the key is; `none` is nothing."""
    kind = get_type_hints(known[section]).get(key) if section in known else None
    if kind is None:
        raise BadParameter(f"{section}.{key}", f"no such setting (in {origin})")
    try:
        if get_origin(kind) is tuple:
            if text.lstrip().startswith("["):
                return _list(text)
            words = [one.strip() for one in text.split(",") if one.strip()]
            numbers = get_args(kind)[0] is float
            return msgspec.convert(words, list[float], strict=False) if numbers else words
        if get_origin(kind) is dict:
            pairs = (one.partition("=") for one in text.split(",") if one.strip())
            return {name.strip(): value.strip() for name, _, value in pairs}
        if text.lower() == "none" and type(None) in get_args(kind):
            return None
        return msgspec.convert(text, kind, strict=False, dec_hook=_hook)
    except (msgspec.ValidationError, BadParameter) as e:
        reason = e.reason if isinstance(e, BadParameter) else _in_words(str(e))
        raise BadParameter(f"{section}.{key}", f"{reason} (in {origin})") from None


def _list(text: str) -> Any:
    """A list as in the file. Raises BadParameter."""
    try:
        return tomllib.loads(f"list = {text}")["list"]
    except (tomllib.TOMLDecodeError, RecursionError) as e:
        raise BadParameter("list", str(e)) from None


def _checked(
    form: Form[T], data: dict[str, Any], origins: Mapping[str, str], text: str, where: Path
) -> T:
    try:
        return msgspec.convert(data, form.config, dec_hook=_hook)
    except msgspec.ValidationError as e:
        name, reason = _place(str(e))
    origin = origins.get(name)
    if origin is None:
        line = line_of(text, name)
        origin = f"{where}, line {line}" if line else str(where)
    raise BadParameter(name or "configuration", f"{reason} (in {origin})")


def _hook(kind: type, value: Any) -> Any:
    """Read what msgspec does not know."""
    if kind is Seconds:
        return _seconds(value)
    if kind is not Rate:
        raise NotImplementedError
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("a rate is a number of bytes per second, or a text such as '50M'")
    try:
        return Rate(parse_rate(str(value), "rate"))
    except BadParameter as e:
        raise ValueError(e.reason) from None


def _seconds(value: Any) -> Seconds:
    found = _TIME.fullmatch(str(value).strip())
    if isinstance(value, bool) or found is None:
        raise ValueError("a time is a number of seconds, or a text such as '10m'")
    return Seconds(float(found[1]) * UNITS_OF_TIME[found[2] or "s"])


def _place(message: str) -> tuple[str, str]:
    """The key that an error of msgspec is about, and what is wrong with it."""
    reason, _, path = message.partition(" - at `$")
    name = path.rstrip("`").removeprefix(".")
    name = re.sub(r"\[.*", "", name)
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", reason, re.DOTALL):
        return f"{name}.{unknown[1]}".lstrip("."), "no such setting"
    return name, _in_words(reason)


def _in_words(reason: str) -> str:
    """Without the patterns of ours that are in it."""
    for pattern, meaning in MEANINGS.items():
        reason = reason.replace(f"`str` matching regex {pattern!r}", meaning)
    return reason


def line_of(text: str, name: str) -> int | None:
    """The line, from 1, in which a TOML text sets `section.key`, or begins the section."""
    section, _, key = name.partition(".")
    here, first = "", None
    for number, line in enumerate(text.splitlines(), start=1):
        if table := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            here = table[1].replace(" ", "").replace('"', "")
            if here.split(".")[0] == section and first is None:
                first = number
            if here == name:
                return number
        setting = re.match(r"\s*([\w.\"'-]+)\s*=", line)
        if setting and f"{here}.{setting[1]}".replace('"', "").lstrip(".") in (name, section):
            return number
    return first if not key or first else None
