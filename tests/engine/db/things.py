"""Rows to begin with."""

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from engine.db import commands, disks, domains, hosts, volumes
from engine.db.commands import Command
from engine.db.disks import Disk
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.volumes import Volume

GIB = 1 << 30


def new_id() -> str:
    return str(uuid4())


def host(**fields: Any) -> Host:
    id = new_id()
    return Host(**{"id": id, "name": f"host-{id[:8]}", "url": "tls://localhost:1", **fields})


def domain(**fields: Any) -> Domain:
    id = new_id()
    return Domain(**{"id": id, "name": f"domain-{id[:8]}", "kind": "data", **fields})


def disk(domain: str, **fields: Any) -> Disk:
    given: dict[str, Any] = {
        "id": new_id(),
        "name": "disk",
        "description": "",
        "size": GIB,
        "domain": domain,
        "kind": "managed",
        "format": "raw",
        "sparse": False,
        "volume": new_id(),
        "image": None,
        "state": "ok",
        "locked_by": None,
        "created": 1.0,
    }
    return Disk(**{**given, **fields})


def volume(disk: Disk, **fields: Any) -> Volume:
    given: dict[str, Any] = {
        "id": disk.volume,
        "disk": disk.id,
        "domain": disk.domain,
        "image": None,
        "parent": None,
        "size": disk.size,
        "format": "raw",
        "state": "creating",
        "command": None,
    }
    return Volume(**{**given, **fields})


def command(**fields: Any) -> Command:
    given: dict[str, Any] = {
        "id": new_id(),
        "type": "copy_disk",
        "state": "running",
        "spec": {"disk": "x"},
        "user": "admin",
        "created": 1.0,
        "changed": 1.0,
    }
    return Command(**{**given, **fields})


def added_host(c: Connection, **fields: Any) -> Host:
    hosts.add(c, row := host(**fields))
    return row


def added_domain(c: Connection, **fields: Any) -> Domain:
    domains.add(c, row := domain(**fields))
    return row


def added_disk(c: Connection, domain: str | None = None, **fields: Any) -> Disk:
    """With its volume."""
    disks.add(c, row := disk(domain or added_domain(c).id, **fields))
    volumes.add(c, volume(row, state="ok"))
    return row


def added_command(c: Connection, **fields: Any) -> Command:
    commands.add(c, row := command(**fields))
    return row
