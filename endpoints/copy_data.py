"""A tracked copy: the road that every copy takes.

    locks -> lease taken up -> both ends checked -> copied -> flushed -> SUCCEEDED written and
    read back -> lease released -> locks released -> done

docs/architecture.md tells why in this order.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

import trio

from endpoints import disk
from endpoints.copy import Manner
from endpoints.copy import copy as copy_bytes
from endpoints.external import NAMESPACE, CopyDataExternalEndpoint
from endpoints.locks import Lock, Mode, held
from endpoints.plan import Plan, choose
from endpoints.tracked import Tracked
from endpoints.watchdog import STALL_TIME
from jobs.progress import Progress, Report
from leases.store import Store
from processes.tool import find
from protocol.errors import AcquireLockFailure, SameImage
from storage.image import Policy


@dataclass(frozen=True)
class CopyRequest:
    """One copy. create_under: real folders in which a missing target file may be created.

    limit: bytes per second, None is as fast as it goes. stall_time: seconds without movement.
    verify: compare the whole content afterwards.
    """

    job_id: str
    source: CopyDataExternalEndpoint
    destination: CopyDataExternalEndpoint
    policy: Policy = field(default_factory=Policy)
    create_under: tuple[str, ...] = ()
    limit: int | None = None
    stall_time: float = STALL_TIME
    verify: bool = False


async def checked(request: CopyRequest) -> Plan:
    """Look at both ends and decide how to copy. Changes nothing.

    Run before a job is made, so that bad input makes none, and again under its lease.
    Raises the errors of endpoints.disk and endpoints.plan, and ToolMissing.
    """
    _locks(request)  # equal by name, whatever they are
    source = await request.source.source(request.policy)
    if source.files & disk.files_of(request.destination.url):
        raise SameImage(str(request.destination.url))
    target = await request.destination.target(source.size, request.create_under)
    message = request.destination.message
    plan = choose(
        source, target, sparse=message.sparse, is_zero=message.is_zero, limit=request.limit
    )
    for tool in plan.tools:
        find(tool)
    return plan


async def copy(
    request: CopyRequest,
    store: Store,
    report: Report,
    *,
    now: Callable[[], float],
    hardware_id: str,
) -> dict[str, Any]:
    """Copy as the job that the lease of the destination was made for.

    Returns bytes (of data), virtual_size, seconds, rate (bytes/s), verified, path_taken.
    An abort is a cancellation: it works at every await until the result is being recorded; from
    then on the copy is done and says so.
    """
    tracked = Tracked(
        store,
        request.destination.lease_id(),
        request.destination.expectation(request.job_id),
        now=now,
        hardware_id=hardware_id,
    )

    def waiting(lock: Lock) -> None:
        which = request.destination if lock.mode is Mode.EXCLUSIVE else request.source
        report(Progress(stage=f"waiting for another copy that uses {which.url}"))

    began = time.monotonic()
    try:
        with trio.CancelScope() as last_byte:
            async with held(_locks(request), waiting) as locks_fd, tracked.taken_up() as grant:
                plan = await checked(request)
                async with held(_chain_locks(plan), _busy) as chain_fd:
                    inherit = (grant.fd, locks_fd, chain_fd)
                    manner = Manner(inherit, request.stall_time, request.verify)
                    copied = await copy_bytes(plan, report, manner)
                last_byte.shield = True  # no abort between a complete copy and its record
                await tracked.succeed(grant)
    except BaseException as e:
        await tracked.fail_early(e)
        raise
    seconds = time.monotonic() - began
    return {
        "bytes": copied,
        "virtual_size": plan.source.size,
        "seconds": round(seconds, 3),
        "rate": int(copied / seconds),
        "verified": request.verify,
        "path_taken": plan.path_taken,
    }


def _chain_locks(plan: Plan) -> list[Lock]:
    """What the source is read through: known only once it was looked at, under its own lock."""
    return [Lock(NAMESPACE, name, Mode.SHARED) for name in disk.file_locks(plan.source.files)]


def _busy(lock: Lock) -> NoReturn:
    # Not waited for: locks are waited for in one order only, and these come late.
    raise AcquireLockFailure(str(lock), "another copy writes a file that the source is read from")


def _locks(request: CopyRequest) -> list[Lock]:
    """Readers share a source, one writer has a target. Raises SameImage."""
    source = request.source.locks(Mode.SHARED)
    target = request.destination.locks(Mode.EXCLUSIVE)
    if {lock.name for lock in source} & {lock.name for lock in target}:
        raise SameImage(str(request.destination.url))
    return source + target
