"""What configurations are made of: sections, and the kinds of value that stand in them.

protocol/settings_file.py reads one, protocol/settings_text.py writes it.
"""

from typing import Annotated, Literal, TypeAlias, get_type_hints

import msgspec

_FOLDER = r"\A/[^\x00-\x1f]*\Z"
_MAYBE_FOLDER = r"\A(/[^\x00-\x1f]*)?\Z"
_UUID = r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z"
# HOST:PORT; an IPv6 address stands in brackets, * is every address of this host. A port above 65535
# would silently be another one.
_HOST = r"(\*|\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)"
_PORT = r"(6553[0-5]|655[0-2]\d|65[0-4]\d\d|6[0-4]\d{3}|[0-5]?\d{1,4})"
_ADDRESS = rf"\A{_HOST}:{_PORT}\Z"
# Source: RFC 7143, 4.2.7; no more of its alphabet than open-iscsi takes.
_ISCSI_NAME = r"\A(iqn|eui|naa)\.[A-Za-z0-9.:-]{1,219}\Z"
_NAME = r"\A[A-Za-z0-9._-]{1,255}\Z"

Folder: TypeAlias = Annotated[str, msgspec.Meta(pattern=_FOLDER)]
MaybeFolder: TypeAlias = Annotated[str, msgspec.Meta(pattern=_MAYBE_FOLDER)]
Uuid: TypeAlias = Annotated[str, msgspec.Meta(pattern=_UUID)]
Address: TypeAlias = Annotated[str, msgspec.Meta(pattern=_ADDRESS)]
# Storage lets hosts in by it.
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=_NAME)]
IscsiName: TypeAlias = Annotated[str, msgspec.Meta(pattern=_ISCSI_NAME)]

# What the patterns ask for, for people.
MEANINGS = {
    _FOLDER: "an absolute path",
    _MAYBE_FOLDER: "an absolute path, or nothing",
    _UUID: "a UUID in lower case",
    _ADDRESS: "HOST:PORT",
    _ISCSI_NAME: "an iSCSI name, such as iqn.2026-11.com.example:host1",
    _NAME: "1 to 255 letters, digits, dots, hyphens and underscores",
}


class Rate(int):
    """Bytes per second, more than 0; in a file also "50M"."""


class Seconds(float):
    """A time, 0 or more; in a file also "90s", "10m", "2h" or "1d"."""


def about(text: str) -> msgspec.Meta:
    return msgspec.Meta(description=text)


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""


class Log(Section, frozen=True):
    """What is logged, on stderr."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], about("debug, info, warning or error.")
    ] = "info"
    format: Annotated[
        Literal["auto", "text", "json"], about("auto is text on a terminal, else json.")
    ] = "auto"


def sections(config: type[msgspec.Struct]) -> dict[str, type[Section]]:
    """The tables of a configuration, by name."""
    return get_type_hints(config)


def split_address(text: str) -> tuple[str | None, int]:
    """Host and port; None: every address of this host."""
    host, _, port = text.rpartition(":")
    return (None if host == "*" else host.strip("[]")), int(port)
