"""A tracked copy: the road that every copy takes.

    locks -> lease taken up -> both ends checked -> copied -> flushed -> SUCCEEDED written and
    read back -> lease released -> locks released -> done

docs/architecture.md tells why in this order.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import trio

from endpoints.copy import copy as copy_bytes
from endpoints.external import CopyDataExternalEndpoint
from endpoints.locks import Lock, Mode, held
from endpoints.plan import Plan, choose
from endpoints.tracked import Tracked
from jobs.progress import Progress, Report
from leases.store import Store
from protocol.errors import SameImage
from storage.image import Policy


@dataclass(frozen=True)
class CopyRequest:
    """One copy. create_under: real folders in which a missing target file may be created.

    limit: bytes per second, None is as fast as it goes.
    """

    job_id: str
    source: CopyDataExternalEndpoint
    destination: CopyDataExternalEndpoint
    policy: Policy = field(default_factory=Policy)
    create_under: tuple[str, ...] = ()
    limit: int | None = None


async def checked(request: CopyRequest) -> Plan:
    """Look at both ends and decide how to copy. Changes nothing.

    Run before a job is made, so that bad input makes none, and again under its lease.
    Raises the errors of endpoints.disk and endpoints.plan.
    """
    source = await request.source.source(request.policy)
    target = await request.destination.target(source.size, request.create_under)
    message = request.destination.message
    return choose(
        source, target, sparse=message.sparse, is_zero=message.is_zero, limit=request.limit
    )


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
        report(Progress(stage=f"waiting for the lock of {lock}"))

    began = time.monotonic()
    try:
        with trio.CancelScope() as last_byte:
            async with held(_locks(request), waiting) as locks_fd, tracked.taken_up() as grant:
                plan = await checked(request)
                copied = await copy_bytes(plan, report, inherit=(grant.fd, locks_fd))
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
        "verified": False,
        "path_taken": plan.path_taken,
    }


def _locks(request: CopyRequest) -> list[Lock]:
    """Readers share a source, one writer has a target. Raises SameImage."""
    source = request.source.locks(Mode.SHARED)
    target = request.destination.locks(Mode.EXCLUSIVE)
    if {lock.name for lock in source} & {lock.name for lock in target}:
        raise SameImage(str(request.destination.url))
    return source + target
