"""What requests name, looked up: a thing by its id, or by its name."""

import re

from sqlalchemy import Connection

from engine.db import disks, domains, hosts
from engine.db.disks import Disk
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.rest.element import Node
from engine.rest.operation import Call
from protocol.errors import BadParameter, NoSuchObject

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
LONGEST = 255  # of a name that may exist


def uuid(kind: str, text: str) -> str:
    """An id as the database has it. Raises NoSuchObject (4400): nothing can have such an id."""
    lower = text.lower()
    if not _UUID.fullmatch(lower):
        raise NoSuchObject(kind, text[:LONGEST])
    return lower


def path_id(call: Call, kind: str, name: str = "id") -> str:
    """The id in the path of a request. Raises NoSuchObject (4400)."""
    return uuid(kind, call.path[name])


def disk_at(c: Connection, call: Call) -> Disk:
    return disks.get(c, path_id(call, "disk"))


def domain_at(c: Connection, call: Call) -> Domain:
    return domains.get(c, path_id(call, "storage domain"))


def host_at(c: Connection, call: Call) -> Host:
    return hosts.get(c, path_id(call, "host"))


def reference(node: Node | None, what: str) -> tuple[str | None, str | None]:
    """The id and the name by which an element names a thing; only one is there.

    Raises BadParameter (1000): neither is.
    """
    id, name = (node.get("id"), node.get("name")) if node is not None else (None, None)
    if id is None and name is None:
        raise BadParameter(what, "its id or its name is missing")
    return id, None if id is not None else name


def domain_of(c: Connection, node: Node | None) -> Domain:
    """The storage domain that an element names. Raises BadParameter, NoSuchObject."""
    id, name = reference(node, "storage_domain")
    if id is not None:
        return domains.get(c, uuid("storage domain", id))
    return domains.named(c, plain(name))


def host_of(c: Connection, node: Node | None) -> Host:
    id, name = reference(node, "host")
    return hosts.get(c, uuid("host", id)) if id is not None else hosts.named(c, plain(name))


def plain(name: str | None) -> str:
    """A name that may exist: the database is not asked for others. Raises BadParameter (1000)."""
    if not name or len(name) > LONGEST or "\0" in name or not name.isprintable():
        raise BadParameter("name", "it cannot be one")
    return name
