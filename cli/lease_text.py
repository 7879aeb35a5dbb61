"""What leases say, for programs and for people."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from leases import verbs
from leases.lease import Lease
from leases.rebuilding import Found
from leases.store import Store
from leases.verbs import LeaseStatus, Rebuilt
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


REPAIRS = {
    "restored": "is in the index again",
    "written": "has a new slot",
    "cleared": "is cleared",
    "held": "is in use and left as it is: rebuild again when it is free",
    "failed": "is left as it is",
}


def rebuilt_object(sd_id: str, done: Rebuilt) -> dict[str, Any]:
    """What a rebuild did, by kind; an error only where there was one."""
    kinds = {kind: [_found(one) for one in getattr(done, kind)] for kind in ("kept", *REPAIRS)}
    return {"sd_id": sd_id, **kinds}


def rebuilt_text(done: Rebuilt) -> str:
    """A line for each slot that was not well, then how many were."""
    lines = [
        f"{one.lease_id or 'the slot'} at offset {one.offset} {what}"
        + (f": {one.error}" if one.error else "")
        for kind, what in REPAIRS.items()
        for one in getattr(done, kind)
    ]
    count = len(done.kept)
    return "\n".join([*lines, f"{count} lease{' was' if count == 1 else 's were'} in order"])


def _found(one: Found) -> dict[str, Any]:
    facts: dict[str, Any] = {"lease_id": one.lease_id, "offset": one.offset}
    return facts if one.error is None else {**facts, "error": one.error}


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
