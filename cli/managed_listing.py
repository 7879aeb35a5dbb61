"""The managed volumes of a host, for people and programs."""

from typing import Any
from uuid import UUID

from cli.managed_connections import Connection, connections
from cli.managed_hosts import Host, Row
from cli.managed_known import known

ATTACHED = "attached"
GONE = "gone"  # attached, but its device or server is not there
INCOMPLETE = "incomplete"  # an attach was cut off: attach it again, or detach it
CONNECTED = "connected"  # by the storage; the host does not list it
CUT_OFF = "cut off"  # by force; the host may list it still
ELSEWHERE = "elsewhere"  # attached to another host, which was not asked


async def rows(host: Host) -> list[dict[str, Any]]:
    """Of a host; and what was attached elsewhere, when that is this host."""
    names = {one.id: name for name, one in known().items()}
    noted = connections()
    listed = await host.rows()
    found = [_listed(row, host.url, names) for row in listed]
    ids = {row.vol_id for row in listed}
    for one in noted:
        if one.host == host.url and one.volume not in ids:
            found.append(_noted(one, CONNECTED, names))
        elif one.host != host.url and not host.url:
            found.append(_noted(one, ELSEWHERE, names))
    return sorted(found, key=lambda row: (row["host"] or "", row["volume"]))


def line(row: dict[str, Any]) -> str:
    place = row["managed_path"] or row["path"] or ""
    where = f"  {row['host']}" if row["host"] else ""
    return f"{row['volume']}  {row['domain']}  {row['state']}{where}  {place}".rstrip()


def _listed(row: Row, host: str, names: dict[UUID, str]) -> dict[str, Any]:
    state = INCOMPLETE if row.path is None else ATTACHED if row.exists else GONE
    return {
        "volume": str(row.vol_id),
        "domain": names.get(row.sd_id, str(row.sd_id)),
        "host": host or None,
        "state": state,
        "path": row.path,
        "managed_path": row.managed_path,
    }


def _noted(one: Connection, state: str, names: dict[UUID, str]) -> dict[str, Any]:
    state = CUT_OFF if one.ended else state
    return {
        "volume": str(one.volume),
        "domain": names.get(one.domain, str(one.domain)),
        "host": one.host or None,
        "state": state,
        "path": None,
        "managed_path": None,
    }
