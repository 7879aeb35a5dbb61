"""A tracked copy: the road that every copy takes.

    locks -> lease taken up -> both ends checked -> copied -> flushed -> SUCCEEDED written and
    read back -> lease released -> locks released -> done

docs/architecture.md tells why in this order.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import trio

from endpoints import disk, sharing
from endpoints.copy import Manner
from endpoints.copy import copy as copy_bytes
from endpoints.disk import NAMESPACE, Disk, Target
from endpoints.locks import Lock, Mode, held
from endpoints.plan import Plan, choose
from endpoints.tracked import JobFacts, Tracked
from endpoints.url import Url
from endpoints.watchdog import STALL_TIME
from jobs.progress import Progress, Report
from leases.store import Store
from processes.tool import find
from protocol.errors import AcquireLockFailure, SameImage
from storage.image import Policy

CHAIN_TIME = 5.0  # seconds


class Endpoint(Protocol):
    """One end of a copy: CopyDataExternalEndpoint, CopyDataDivEndpoint."""

    @property
    def url(self) -> Url:
        """Where it is, for its locks and for people."""
        ...

    def locks(self, mode: Mode) -> list[Lock]: ...

    async def source(self, policy: Policy) -> Disk:
        """Look at it as a source; changes nothing."""
        ...

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        """Look at it as a target of `needed` bytes; changes nothing."""
        ...

    def tracked(self, store: Store, job: JobFacts) -> Tracked:
        """How a copy to it is tracked; `store` keeps its leases."""
        ...


@dataclass(frozen=True)
class CopyRequest:
    """One copy. create_under: real folders in which a missing target file may be created.

    limit: bytes per second, None is as fast as it goes. stall_time: seconds without movement.
    verify: compare the whole content afterwards. copy_bitmaps: from qcow2 to qcow2 only.
    """

    job_id: str
    source: Endpoint
    destination: Endpoint
    policy: Policy = field(default_factory=Policy)
    create_under: tuple[str, ...] = ()
    limit: int | None = None
    stall_time: float = STALL_TIME
    verify: bool = False
    copy_bitmaps: bool = False


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
    plan = choose(
        source,
        target,
        sparse=target.sparse,
        is_zero=target.is_zero,
        shared=await trio.to_thread.run_sync(sharing.shared, source, target),
        limit=request.limit,
        bitmaps=request.copy_bitmaps,
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
    tracked = request.destination.tracked(store, JobFacts(request.job_id, now, hardware_id))

    def waiting(lock: Lock) -> None:
        which = request.destination if lock.mode is Mode.EXCLUSIVE else request.source
        report(Progress(stage=f"waiting for another copy that uses {which.url}"))

    began = time.monotonic()
    try:
        with trio.CancelScope() as last_byte:
            async with held(_locks(request), waiting) as locks_fd, tracked.taken_up() as grant:
                plan = await checked(request)
                async with _chain_held(plan) as chain_fd:
                    inherit = (*grant.fds, locks_fd, chain_fd)
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


@asynccontextmanager
async def _chain_held(plan: Plan) -> AsyncGenerator[int]:
    """Hold what the source is read through: known only once that was looked at, under its own lock.

    Waited for as long as a look of others takes, and no longer: locks are waited for in one order,
    and these come late. Raises AcquireLockFailure (651).
    """
    busy: Lock | None = None

    def waiting(lock: Lock) -> None:
        nonlocal busy
        busy = lock

    async with AsyncExitStack() as stack:
        with trio.move_on_after(CHAIN_TIME) as scope:
            locks = disk.file_locks(plan.source.files, Mode.SHARED)
            fd = await stack.enter_async_context(held(locks, waiting))
        if scope.cancelled_caught:
            reason = "another copy writes a file that the source is read from"
            raise AcquireLockFailure(str(busy), reason)
        yield fd


def _locks(request: CopyRequest) -> list[Lock]:
    """Readers share a source, one writer has a target. Raises SameImage.

    What both ends need is taken once, for writing: two volumes of one image share its lock.
    """
    source = request.source.locks(Mode.SHARED)
    target = request.destination.locks(Mode.EXCLUSIVE)
    written = {(lock.namespace, lock.name) for lock in target if lock.mode is Mode.EXCLUSIVE}
    read = {(lock.namespace, lock.name) for lock in source}
    if any(namespace == NAMESPACE for namespace, _ in written & read):
        raise SameImage(str(request.destination.url))
    return [lock for lock in source if (lock.namespace, lock.name) not in written] + target
