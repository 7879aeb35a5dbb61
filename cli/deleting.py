"""`leasehold job delete`: a host forgets a job, and its lease is deleted when that is wanted."""

from typing import Any

from cli import answers
from cli.answers import LeaseState
from cli.job_tracking import HostLease
from cli.remote import Remote
from jobs.status import Status
from protocol.client import Client, HostError
from protocol.errors import AcquireLockFailure, JobNotDone, NoSuchLease, UnsupportedOperation
from protocol.record import JobStatus

ENDS = {status.value for status in JobStatus} - {JobStatus.PENDING.value}


async def deleted(remote: Remote, job_id: str, *, lease: bool) -> bool:
    """Delete the job; True: and its lease.

    The lease first: as long as the job is known, it can be tried again. Raises NoSuchJob (66),
    JobNotDone (68), and for the lease AcquireLockFailure (651), UnsupportedOperation (2009): it is
    held, or tells of no end.
    """
    removed = False
    async with remote.connected() as client:
        if lease:
            removed = await _lease_deleted(remote, client, job_id)
        await remote.call(client, "Job.delete", {"job_id": job_id})
    return removed


async def _lease_deleted(remote: Remote, client: Client, job_id: str) -> bool:
    told = await remote.call(client, "Job.info", {"job_id": job_id})
    info = answers.info(told, remote.name)
    if not Status(info["status"]).ended:
        raise JobNotDone(job_id, info["status"])
    named = info.get("destination", {}).get("lease")
    if not isinstance(named, dict) or named.get("lease_id") != job_id:
        return False  # that of a volume stays
    held = HostLease(remote, str(named.get("sd_id")), job_id)
    try:
        answer = await remote.call(client, "Lease.status", held.params)
    except HostError as e:
        if e.number == NoSuchLease.code:
            return False
        raise
    _check(held, answers.read(answer, LeaseState, remote.name))
    await held.remove()
    return True


def _check(lease: HostLease, found: LeaseState) -> None:
    """Somebody may still want to know what became of the job."""
    if found.owners:
        raise AcquireLockFailure(f"lease {lease.job_id}", f"it is held by host {found.owners}")
    record: dict[str, Any] = found.metadata or {}
    if record.get("job_status") not in ENDS:
        judge = f"`leasehold job resolve {lease.sd_id} {lease.job_id}{lease.remote.option}`"
        raise UnsupportedOperation(f"its lease tells of no end, which {judge} finds out")
