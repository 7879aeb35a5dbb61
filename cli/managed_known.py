"""The domains of managed block storage that this user knows: `managed.toml` in the home.

Source: docs/formats.md, "Managed domains".
"""

import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from cli.home import VARIABLE, home, locked, usable, write_atomically
from protocol.errors import BadParameter, NoSuchManagedDomain
from protocol.settings_text import written

FILE = "managed.toml"
HEAD = """\
# The domains of managed block storage that `leasehold managed` knows. It rewrites this file.
# Nothing secret is in it: `secrets` says where each secret is.
"""
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}"

Name = Annotated[str, msgspec.Meta(pattern=rf"\A{NAME}\Z")]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Variable = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]*\Z")]
AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A/[^\x00-\x1f]*\Z")]


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a secret driver option is: in a variable of the environment, or in a file."""

    env: Variable | None = None
    file: AbsolutePath | None = None

    def __post_init__(self) -> None:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is in an `env` or in a `file`")


class ManagedDomain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """options: of its driver, `adapter` among them; the others are in `secrets`."""

    id: UUID
    options: dict[Key, Any] = {}
    secrets: dict[Key, Secret] = {}

    def __post_init__(self) -> None:
        if both := set(self.options) & set(self.secrets):
            raise ValueError(f"both an option and a secret: {', '.join(sorted(both))}")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    domains: dict[Name, ManagedDomain] = {}

    def __post_init__(self) -> None:
        if len({one.id for one in self.domains.values()}) < len(self.domains):
            raise ValueError("two domains have one id")


def known() -> dict[str, ManagedDomain]:
    """By name, in the order of the names. Raises BadParameter when the file is damaged."""
    return dict(sorted(_read(home() / FILE).domains.items()))


def found(name: str) -> tuple[str, ManagedDomain]:
    """The domain with this name or id. Raises NoSuchManagedDomain; BadParameter as `known`."""
    for key, one in known().items():
        if name in (key, str(one.id)):
            return key, one
    raise NoSuchManagedDomain(name)


def checked(name: str, domain_id: UUID) -> None:
    """Raises BadParameter: no name for a new domain, or name or id are taken."""
    if not re.fullmatch(NAME, name, re.ASCII) or _is_uuid(name):
        reason = f"{name!r:.80} is no name: letters, digits, and . _ - between them, and no UUID"
        raise BadParameter("NAME", reason)
    for key, one in known().items():
        if key == name:
            raise BadParameter("NAME", f"there is a domain {name} already")
        if one.id == domain_id:
            raise BadParameter("--id", f"it is the id of the domain {key}")


async def add(name: str, domain: ManagedDomain) -> None:
    """Raises as `checked`."""

    def with_it(domains: Mapping[str, ManagedDomain]) -> dict[str, ManagedDomain]:
        checked(name, domain.id)
        return {**domains, name: domain}

    await _change(with_it)


async def remove(name: str) -> None:
    """Forget a domain; nothing of it is touched. Raises NoSuchManagedDomain."""

    def without(domains: Mapping[str, ManagedDomain]) -> dict[str, ManagedDomain]:
        if name not in domains:
            raise NoSuchManagedDomain(name)
        return {key: one for key, one in domains.items() if key != name}

    await _change(without)


async def _change(
    change: Callable[[Mapping[str, ManagedDomain]], dict[str, ManagedDomain]],
) -> None:
    path = home() / FILE
    async with locked(home()):
        domains = change(_read(path).domains)
        content = toml(domains).encode()
        # What cannot be read again would hide every other domain.
        if _decoded(content, path).domains != domains:
            raise BadParameter("options", "they cannot be kept in TOML")
        write_atomically(path, content)


def toml(domains: Mapping[str, ManagedDomain]) -> str:
    """The file with these domains."""
    lines = [HEAD.rstrip("\n"), "version = 1"]
    for name, one in sorted(domains.items()):
        table = f"domains.{written(name)}"
        lines += ["", f"[{table}]", f"id = {written(str(one.id))}"]
        secrets = {key: msgspec.to_builtins(where) for key, where in one.secrets.items()}
        for title, values in (("options", one.options), ("secrets", secrets)):
            if values:
                lines += ["", f"[{table}.{title}]"]
                lines += [f"{written(key)} = {_value(value)}" for key, value in values.items()]
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{written(k)} = {_value(v)}' for k, v in value.items())} }}"
    return written(value)


def _read(path: Path) -> Known:
    """A missing file knows nothing; a damaged one is an error, and is never written over."""
    with usable(path):
        content = path.read_bytes() if path.exists() else None
    return Known() if content is None else _decoded(content, path)


def _decoded(content: bytes, path: Path) -> Known:
    try:
        return msgspec.convert(tomllib.loads(content.decode()), Known)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, RecursionError) as e:
        raise BadParameter(VARIABLE, f"{path} is damaged ({e}): repair it, or remove it") from None


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
