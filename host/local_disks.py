"""The local disks of this host: prepared, listed, removed.

In the agent (its verbs) and without one (hooks, the command) the same is done under the same
locks and leases; `Here` says which of the two it is. Without an agent:

    here = await in_foreground(config)          # host.config.Config; hardware_id=... if known
    made = await prepared(here, PrepareRequest(...), report)

Source: docs/localdisk.md.
"""

import time
from dataclasses import replace
from typing import Any

import structlog

from endpoints.local import changing
from endpoints.locks import held
from host.folder import Ending
from host.local_disk_copy import begun
from host.local_disk_here import Here, in_agent, in_foreground
from host.local_disk_jobs import OwnJobs
from host.local_disk_judge import Decision, Lease, Verdict, judge
from host.local_disk_look import Looked, look
from host.local_disk_removal import gc, remove, remove_found
from host.local_disk_request import Prepared, PrepareRequest, Unused
from host.local_disk_source import Source
from host.local_disk_source import looked_at as source_of
from jobs.progress import Report
from jobs.status import Status
from leases.steps import reached
from protocol.errors import (
    ActionStopped,
    Error,
    LocalDiskInUse,
    LocalDiskRefused,
    LocalDiskUncertain,
    WorkerDied,
)
from protocol.groups import telling
from protocol.reported import Reported
from storage.local_disk import LocalDisk

__all__ = [
    "Here",
    "PrepareRequest",
    "Prepared",
    "Unused",
    "gc",
    "in_agent",
    "in_foreground",
    "listed",
    "prepare",
    "prepared",
    "remove",
]

log = structlog.get_logger()

DEATHS = 2  # of workers, which are made up for: a third one has a reason
FENCES = 5  # tries: whoever was faster each time has ended the job


async def prepare(here: Here, request: PrepareRequest) -> Prepared:
    """Begin what has to be done, and tell how the disk is now: at once.

    filling: follow the job; when it is done, call again for `ready`. A call after a job that
    failed begins another one.
    Raises BadParameter, StorageDomainDoesNotExist (358), LocalDiskRefused (4300),
    LocalDiskInUse (4301), LocalDiskUncertain (4302); when it has to be copied those of the source
    (ImageMissing ...), VolumeGroupMissing, ThinPoolMissing, NoLocalSpace, ThinPoolUnsafe, and those
    of the lease volume.
    """
    source = await source_of(here, request)
    job_id: str | None = None
    async with held([changing(here.disks, request.vol_id)]):
        for _ in range(FENCES):
            found = await look(here, request.vol_id, *filter(None, [request.sd_id]))
            reached("prepare", "looked")
            verdict = judge(
                found.wanted(
                    request.img_id,
                    request.vm_id,
                    source.size,
                    source.generation,
                    again=request.again,
                )
            )
            job_id = found.job_id
            if await _fenced(here, found, verdict):
                return await _obeyed(here, request, source, found, verdict)
    raise LocalDiskUncertain(request.vol_id, str(job_id), "its lease changes all the time")


async def prepared(here: Here, request: PrepareRequest, report: Report) -> Prepared:
    """`prepare`, and the copy done, here or by whoever does it already; the disk is ready then.

    A copy that is shared with others fails for all of them, with the error of its job. Cancelled,
    a copy that runs in this process is aborted and its lease says FAILED; another's goes on.
    Raises ActionStopped (443) when the copy was aborted otherwise.
    """
    jobs = here.jobs
    if not isinstance(jobs, OwnJobs):
        raise TypeError("the agent does not wait for its jobs")
    copied, deaths = False, 0
    try:
        while True:
            made = await prepare(here, request)
            if made.state == "ready" or made.job_id is None:
                return replace(made, reused=not copied)
            # Asked for once: the disk is new now, and a VM had no chance to write to it.
            request = replace(request, again=False)
            if (ending := await jobs.ended(made.job_id, report)) is None:
                continue
            copied, deaths = True, deaths + (ending.status is Status.FAILED)
            _check(ending, last=deaths > DEATHS)
    except ExceptionGroup as e:
        raise telling(e) from None
    finally:
        jobs.forget()


async def listed(here: Here) -> list[dict[str, Any]]:
    """All local disks, by name: vol_id, img_id, vm_id, backend, state (filling or ready), started,
    size (bytes), active, open, path, job_id, job_status (of its lease: "owned", PENDING, ...; null:
    it has none), generation, prepared (seconds since the epoch, or null), data_percent, foreign
    (tags of others)."""
    return [await _row(here, disk) for disk in await here.disks.all()]


async def _fenced(here: Here, found: Looked, verdict: Verdict) -> bool:
    """Fence if that is to be done; False: look again, the job has ended by itself meanwhile."""
    if not verdict.fence or found.job_id is None:
        return True
    try:
        return await here.leases.fence(found.lease, found.job_id)
    except (Error, OSError) as e:
        if verdict.decision is Decision.AGAIN:
            raise LocalDiskUncertain(found.found.volume_id, found.job_id, str(e)) from e
        # What is ready is ready: a VM does not wait until its lease is in order.
        log.warning("lease not fenced", lease=found.job_id, error=str(e))
        return True


async def _obeyed(
    here: Here, request: PrepareRequest, source: Source, found: Looked, verdict: Verdict
) -> Prepared:
    vol_id, reason = request.vol_id, verdict.reason
    match verdict.decision:
        case Decision.CREATE:
            return await begun(here, request, source)
        case Decision.AGAIN:
            if source.error is not None:
                raise source.error
            log.info("local disk is copied again", local_disk=vol_id, reason=reason)
            await remove_found(here, found)
            return await begun(here, request, source)
        case Decision.USE | Decision.USE_CHANGED:
            return await _used(here, request, found, verdict)
        case Decision.WAIT if found.job_id is not None:
            return Prepared(vol_id, "filling", here.disks.path(vol_id), found.job_id)
        case Decision.REFUSED:
            raise LocalDiskRefused(vol_id, reason)
        case Decision.UNCERTAIN:
            raise LocalDiskUncertain(vol_id, str(found.job_id), reason)
        case _:
            raise LocalDiskInUse(vol_id, reason or "a copy writes to it", found.job_id)


async def _used(here: Here, request: PrepareRequest, found: Looked, verdict: Verdict) -> Prepared:
    disk = found.found
    now = int(time.time())
    await here.disks.use(disk, now=now, vm_id=request.vm_id, start=request.start)
    reached("prepare", "used")
    changed = verdict.decision is Decision.USE_CHANGED
    if changed:
        log.warning(
            "local disk is not that of its source", local_disk=disk.volume_id, reason=verdict.reason
        )
    if disk.job_id is not None and not found.alive and found.lease.lease not in _KEPT:
        # All is known of that job.
        await here.leases.forget(disk.job_id, *_chosen(here, request, disk.job_id))
    path = here.disks.path(disk.volume_id)
    return Prepared(disk.volume_id, "ready", path, disk.job_id, changed, reused=True)


def _chosen(here: Here, request: PrepareRequest, job_id: str) -> list[str]:
    """The domain that a command has chosen for a copy of its own: it alone would ask there. What
    another client of the agent has chosen, that client asks, and deletes."""
    jobs = here.jobs
    own = isinstance(jobs, OwnJobs) and job_id in jobs.taken
    return [request.sd_id] if own and request.sd_id is not None else []


_KEPT = (Lease.MISSING, Lease.OWNED, Lease.UNKNOWN)


async def _row(here: Here, disk: LocalDisk) -> dict[str, Any]:
    lease = (await here.leases.look(disk.job_id)).lease
    told = None if lease in (Lease.NONE, Lease.MISSING) else lease.value
    return {
        "vol_id": disk.volume_id,
        "img_id": disk.image_id,
        "vm_id": disk.vm_id,
        "backend": disk.backend,
        "state": "filling" if disk.filling else "ready",
        "started": disk.started,
        "size": disk.size,
        "active": disk.active,
        "open": disk.open,
        "path": here.disks.path(disk.volume_id),
        "job_id": disk.job_id,
        "job_status": told,
        "generation": disk.generation,
        "prepared": disk.prepared,
        "data_percent": disk.data_percent,
        "foreign": sorted(disk.foreign),
    }


def _check(ending: Ending, *, last: bool) -> None:
    """Raises how the job ended, unless it is done. One whose worker died is begun anew, unless it
    is the last one that may be."""
    if ending.status is Status.ABORTED:
        raise ActionStopped
    if ending.status is Status.FAILED:
        error = Reported(ending.error or {})
        if last or error.number != WorkerDied.code:
            raise error
