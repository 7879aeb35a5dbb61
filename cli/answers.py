"""What hosts answer, read with care: not every host is one of ours, or of this version."""

from typing import Annotated, Any, TypeVar

import msgspec

from jobs.status import Status
from protocol.errors import BadOutput, Error
from protocol.messages import Generation

# What can be shown: no infinity, nothing negative.
Amount = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
Number = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

Info = dict[str, Any]
T = TypeVar("T")


class Job(msgspec.Struct):
    """The keys of Job.info and Host.getJobs that are shown. Others may be there."""

    id: str
    status: Status
    description: str = ""
    progress: Number = 0
    error: dict[str, Any] = {}
    bytes: Amount = 0
    total_bytes: Amount = 0
    rate: Number = 0
    eta: Seconds = 0
    stage: str = ""
    created: Seconds = 0
    started: Seconds = 0
    ended: Seconds = 0
    source: dict[str, Any] = {}
    destination: dict[str, Any] = {}
    seconds: Number = 0
    path_taken: str = ""


class Page(msgspec.Struct):
    """Job.list."""

    jobs: list[Any]
    next: Amount | None = None


class LeaseState(msgspec.Struct):
    """Lease.status. metadata: only of a free lease."""

    owners: list[int]
    version: int | None = None
    metadata: dict[str, Any] | None = None


class Task(msgspec.Struct):
    """Task.getStatus; error as protocol.errors.to_rpc gives it."""

    code: int
    message: str = ""
    error: dict[str, Any] = {}


class VolumeState(msgspec.Struct):
    """Volume.getInfo."""

    generation: Generation
    legality: str = ""


class Membership(msgspec.Struct):
    host_id: int | None = None


class Capabilities(msgspec.Struct):
    """Host.getCapabilities. domains: by id."""

    domains: dict[str, Membership] = {}


def read(answer: Any, kind: type[T], host: str) -> T:
    """An answer of `host` as a `kind`. Raises BadOutput (4118)."""
    try:
        return msgspec.convert(answer, kind)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        raise BadOutput(host, str(e)) from None


def info(answer: Any, host: str) -> Info:
    """What a host tells of a job, with every key that it has. Raises BadOutput (4118)."""
    read(answer, Job, host)
    told: Info = answer
    return told


def infos(answer: Any, host: str) -> dict[str, Info]:
    """The answer of Host.getJobs. Raises BadOutput (4118)."""
    told = read(answer, dict[str, Any], host)
    return {job_id: info(one, host) for job_id, one in told.items()}


def error(rpc: dict[str, Any]) -> dict[str, Any]:
    """An error that a host told, with all of its four keys."""
    code, data = rpc.get("code"), rpc.get("data")
    return {
        "code": code if type(code) is int else Error.code,
        "kind": str(rpc.get("kind", "")),
        "message": str(rpc.get("message", Error.text)),
        "data": data if isinstance(data, dict) else {},
    }
