"""The objects of an engine as oVirt's API tells them: found by name or id, and shown.

In its JSON scalars are text, and a list stands under the name of what it holds.
"""

import re
from collections.abc import Mapping
from typing import Any

from cli.engine_client import OVIRT, Session
from protocol.errors import BadParameter, NoSuchObject

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
PAGE = 1000

Object = dict[str, Any]

# What a path lists, in words for people.
KINDS = {"disks": "disk", "hosts": "host", "storagedomains": "storage_domain", "jobs": "job"}


async def listed(session: Session, path: str, **query: object) -> list[Object]:
    """All objects of /ovirt-engine/api/PATH, however many pages they are."""
    kind = KINDS[path]
    found: list[Object] = []
    search = query.pop("search", None)
    page = 1
    while True:
        words = f"{search or ''} page {page}".strip()
        answer = await session.get(f"{OVIRT}/{path}", search=words, max=PAGE, **query)
        rows = rows_of(answer, kind)
        found += rows
        if len(rows) < PAGE:
            return found
        page += 1


def rows_of(answer: object, kind: str) -> list[Object]:
    rows = answer.get(kind, []) if isinstance(answer, Mapping) else answer
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


async def found(session: Session, path: str, name: str) -> Object:
    """The one object with this id or name.

    Raises NoSuchObject (4400), BadParameter (1000): there are several; and as Session.get.
    """
    kind = KINDS[path].replace("_", " ")
    if UUID.fullmatch(name):
        answer: Object = await session.get(f"{OVIRT}/{path}/{name.lower()}")
        return answer
    if '"' in name or not name.isprintable():
        raise NoSuchObject(kind, name)
    rows = await listed(session, path, search=f'name="{name}"')
    rows = [row for row in rows if row.get("name") == name]  # of a name with `*` there were more
    if not rows:
        raise NoSuchObject(kind, name)
    if len(rows) > 1:
        ids = ", ".join(str(row.get("id")) for row in rows[:5])
        raise BadParameter(kind, f"there are several with the name {name!r}: say which ({ids})")
    return rows[0]


async def names(session: Session, path: str) -> dict[str, str]:
    """Names by id."""
    return {str(row.get("id")): str(row.get("name", "")) for row in await listed(session, path)}


async def listed_center(session: Session) -> str:
    """The id of the one data center, through which domains are activated."""
    rows = rows_of(await session.get(f"{OVIRT}/datacenters"), "data_center")
    if not rows:
        raise NoSuchObject("data center", "Default")
    return text(rows[0], "id")


def text(row: Mapping[str, Any], *path: str) -> str:
    """What stands at a place in it, "" where there is nothing."""
    value: Any = row
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return "" if value is None or isinstance(value, dict | list) else str(value)


def number(row: Mapping[str, Any], *path: str) -> int | None:
    said = text(row, *path)
    return int(said) if said.isascii() and said.isdecimal() else None


def size(row: Mapping[str, Any], *path: str) -> str:
    from cli.sizes import format_size

    found = number(row, *path)
    return "" if found is None else format_size(found)


def domain_id(disk: Mapping[str, Any]) -> str:
    """Of the storage domain that a disk is in."""
    rows = rows_of(disk.get("storage_domains"), "storage_domain")
    return text(rows[0], "id") if rows else ""
