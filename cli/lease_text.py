"""What leases say, for programs and for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leases import verbs
from leases.lease import Lease
from leases.store import Store
from leases.verbs import LeaseStatus
from protocol.errors import Error

MEANINGS = {
    "PENDING": "its job is PENDING: not begun, or its process died; resume or fence it",
    "SUCCEEDED": "its job SUCCEEDED",
    "FAILED": "its job FAILED",
    "FENCED": "its job was FENCED and will never run",
}


def place(lease: Lease) -> dict[str, Any]:
    """The object of Lease.info."""
    return {
        "sd_id": lease.sd_id,
        "lease_id": lease.lease_id,
        "path": lease.path,
        "offset": lease.offset,
    }


def status_object(found: LeaseStatus) -> dict[str, Any]:
    """The object of Lease.status: metadata only when the lease is free."""
    metadata = {} if found.metadata is None else {"metadata": found.metadata}
    return {"owners": found.owners, "version": found.version, **metadata}


def status_text(lease_id: str, found: LeaseStatus) -> str:
    """The owner, or what is recorded."""
    if found.owners:
        return f"lease {lease_id} is held by host {hosts(found)}: its job is running"
    if not found.metadata:
        return f"lease {lease_id} is free, no job is recorded in it"
    lines = [f"lease {lease_id} is free: {meaning(found.metadata)}"]
    lines += [f"  {key + ':':17} {_shown(key, value)}" for key, value in found.metadata.items()]
    return "\n".join(lines)


def meaning(metadata: Mapping[str, Any] | None) -> str:
    """What the record in a free lease says about its job."""
    status = (metadata or {}).get("job_status")
    return MEANINGS.get(str(status), f"its job status is {status!r}")


def hosts(found: LeaseStatus) -> str:
    return ", ".join(map(str, found.owners))


async def summary(store: Store, lease_id: str) -> dict[str, Any]:
    """The state of one lease in a list; what is wrong with one does not hide the others."""
    try:
        found = await verbs.status(store, lease_id)
    except Error as e:
        return {"error": str(e)}
    record = found.metadata or {}
    return {
        "owners": found.owners,
        "job_status": record.get("job_status"),
        "generation": record.get("generation"),
    }


def line(row: Mapping[str, Any]) -> str:
    """A row of `leasehold lease list`."""
    return f"{row['lease_id']:36}  {_state(row)}"


def _state(row: Mapping[str, Any]) -> str:
    if row["updating"]:
        return "being changed"
    if "error" in row:
        return str(row["error"])
    if row["owners"]:
        return f"held by host {', '.join(map(str, row['owners']))}"
    generation = "" if row["generation"] is None else f"  generation {row['generation']}"
    return f"free  {row['job_status'] or 'no job'}{generation}"


def _shown(key: str, value: object) -> str:
    if key in ("created", "modified") and isinstance(value, int):
        try:
            return f"{value} ({datetime.fromtimestamp(value, UTC):%Y-%m-%d %H:%M:%S} UTC)"
        except (OverflowError, OSError, ValueError):
            return str(value)  # written by somebody else
    return str(value)
