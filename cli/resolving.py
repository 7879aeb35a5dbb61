"""`leasehold job resolve`: what became of a job, by its host, its lease, and a fence."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import trio

from cli import exits
from cli.answers import Info
from cli.job_hosts import AnsweringHosts
from cli.output import Output
from cli.remote import Remote
from cli.tracking import FIRST_GENERATION
from cli.verdict_text import standing_object, standing_text, verdict_object, verdict_text
from engine.judgement import End, Verdict, Watch
from engine.lease_poller import Event, Looked, Standing, resolve
from protocol.client import HostError
from protocol.errors import (
    Error,
    NoSuchJob,
    NoSuchLease,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
)
from protocol.messages import LeaseRef
from protocol.record import GENERATIONS, JobStatus
from protocol.reported import Reported


async def resolved(
    remotes: Sequence[Remote], lease: LeaseRef, generation: int | None, out: Output
) -> int:
    """Judge the job whose id its lease has, and tell; returns the exit code.

    remotes: the first one was given the job, unless another one knows it. generation: that the job
    began with, if somebody knows. Raises CannotConnect: no host answers; NoSuchJob (66),
    StorageDomainDoesNotExist (358): nobody knows anything of it.
    """
    hosts = AnsweringHosts({one.name: one for one in remotes})
    await hosts.meet()
    watch = await _watch(hosts, lease, generation)
    with trio.CancelScope() as hosts.asking:
        found = await resolve(hosts, watch, tell=lambda event: _note(event, out))
    if hosts.forbidden is not None:  # it would be refused again and again
        raise hosts.forbidden
    if isinstance(found, Standing):
        out.result(standing_object(watch, found), standing_text(watch, found))
        return exits.REFUSED
    out.result(verdict_object(watch, found), verdict_text(watch, found))
    return _code(found)


async def _watch(hosts: AnsweringHosts, lease: LeaseRef, generation: int | None) -> Watch:
    """Whose job it is, and the generation that it began with, from whoever knows."""
    job_id = lease.lease_id
    host, info = await _whose(hosts, job_id)
    if info is not None and info.get("destination", {}).get("endpoint_type") == "div":
        raise UnsupportedOperation(
            f"the target of job {job_id} is a volume, which is judged by its generation:"
            " `leasehold volume info SD IMG VOL`"
        )
    if generation is None:
        told = None if info is None else info.get("destination", {}).get("generation")
        generation = told if _is_generation(told) else await _recorded(hosts, lease, info)
    return Watch(job_id, host, lease, generation)


async def _whose(hosts: AnsweringHosts, job_id: str) -> tuple[str, Info | None]:
    """The host that knows the job; else one that cannot be asked; else the first that was named."""
    for host in hosts.domains:
        if (info := await hosts.info(host, job_id)) is not None:
            return host, info
    return next(iter([*hosts.silent, *hosts.remotes])), None


async def _recorded(hosts: AnsweringHosts, lease: LeaseRef, info: Info | None) -> int:
    """The generation that the record in the free lease began with; the first one if none is told.

    Raises NoSuchJob (66): no host knows the job, and there is no lease of it.
    """
    candidates = hosts.candidates(lease)
    if not candidates and not hosts.silent and info is None:
        raise Reported(StorageDomainDoesNotExist(str(lease.sd_id)).to_rpc())
    for host in candidates:
        try:
            told = await hosts.lease_status(host, lease)
        except HostError as e:
            if e.number == NoSuchLease.code and info is None and not hosts.silent:
                raise NoSuchJob(lease.lease_id) from None
        except Error:
            continue  # the judgement asks again, and says so
        else:
            return _first(told.get("metadata") or {})
    return FIRST_GENERATION


def _first(record: Mapping[str, Any]) -> int:
    """The generation before the end of the job that the record tells of."""
    generation = record.get("generation")
    if not _is_generation(generation):
        return FIRST_GENERATION
    ended = record.get("job_status") in (JobStatus.SUCCEEDED.value, JobStatus.FENCED.value)
    return (generation - ended) % GENERATIONS


def _is_generation(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value < GENERATIONS


def _note(event: Event, out: Output) -> None:
    """While it takes its time."""
    if isinstance(event, Looked) and event.changed:
        out.note(f"{event.why}; {event.do}")


def _code(verdict: Verdict) -> int:
    if verdict.end is End.UNRESOLVED:
        return exits.UNRESOLVED
    if verdict.end is End.DONE:
        return exits.OK
    return exits.ABORTED if verdict.fenced else exits.FAILED
