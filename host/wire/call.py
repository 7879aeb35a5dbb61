"""A call: what the server hands to the verbs."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Role: TypeAlias = Literal["engine", "monitor"]
ROLES: tuple[Role, ...] = ("engine", "monitor")


@dataclass(frozen=True)
class Peer:
    """Who is at the other end. name: of its certificate, or `uid:N`; for the log."""

    role: Role
    name: str


@dataclass(frozen=True)
class Call:
    """flow_id: the client's name for all that belongs to one of its doings; empty: none."""

    method: str
    params: dict[str, Any]
    flow_id: str
    peer: Peer


# The result of the verb, None for nothing; an error of ours for the client, any other is code 100.
Dispatch: TypeAlias = Callable[[Call], Awaitable[Any]]
Event: TypeAlias = tuple[str, dict[str, Any]]  # method and params of a notification

# The verbs that read. A monitor may call these and no other.
READING = frozenset(
    {
        "Host.ping2",
        "Host.getCapabilities",
        "Host.getJobs",
        "Host.get_jobs",
        "Host.getAllTasksStatuses",
        "Host.getDeviceList",
        "Job.info",
        "Job.list",
        "Lease.info",
        "Lease.status",
        "LocalDisk.list",
        "ManagedVolume.volumes_info",
        "StorageDomain.getInfo",
        "StorageDomain.getStats",
        "Task.getInfo",
        "Task.getStatus",
        "Volume.getInfo",
    }
)
