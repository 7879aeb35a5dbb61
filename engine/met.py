"""Who a host is, as it has told, and what is written down of that."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from engine.db import audit, hosts
from engine.db.hosts import Host
from engine.names import with_id

TWIN = 4902  # of the row in the audit log


@dataclass(frozen=True)
class Met:
    """connector: by which storage may know it: what it told last while nobody else told the same.

    twin: why no managed volumes are connected for it (engine/twins.py); connector is older then.
    """

    hardware_id: str
    connector: Mapping[str, Any]
    twin: str


def write(c: Connection, host: Host, met: Met, *, at: float) -> None:
    """Raises NoSuchObject (4400)."""
    hosts.met(c, host.id, hardware_id=met.hardware_id, connector=met.connector, at=at)


def audited(c: Connection, host: Host, twin: str, *, at: float) -> int:
    """Write down that a host has a twin, or none any more; the id of the row in the audit log."""
    gets = f"gets no managed volumes: {twin}" if twin else "gets managed volumes again"
    return audit.add(
        c,
        at=at,
        severity="warning" if twin else "normal",
        code=TWIN,
        user="",
        correlation=None,
        kind="host",
        object=host.id,
        text=f"host {with_id(host.name, host.id)} {gets}",
    )
