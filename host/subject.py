"""What a call or a job is about, for the log: its job, its lease and its flow."""

from collections.abc import Mapping
from typing import Any

from host.folder import Spec

LIMIT = 128  # characters; ids have 36


def of_call(params: Mapping[str, Any]) -> dict[str, str]:
    """job and lease, where the parameters name one. Nothing is checked: a call may be wrong."""
    lease = _member(params, "lease") or _member(_member(params, "destination"), "lease")
    found = {"job": _member(params, "job_id"), "lease": _member(lease, "lease_id")}
    return {key: value[:LIMIT] for key, value in found.items() if isinstance(value, str) and value}


def of_job(spec: Spec) -> dict[str, str]:
    """flow_id, job and, where it has one, lease."""
    named = {"job_id": str(spec.job_id), "destination": spec.destination}
    return {"flow_id": spec.flow_id, **of_call(named)}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None
