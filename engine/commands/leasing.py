"""The lease of a copy to a managed volume: made before the job, deleted after its verdict."""

import logging
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import trio

from engine.commands.ends import GENERATION
from engine.commands.run import Run
from engine.commands.stage import Kept, Thing
from engine.db import called, leases
from protocol.client import HostError
from protocol.errors import CannotConnect, ConnectionLost, NoHostFits, NoSuchLease
from protocol.messages import LeaseRef
from protocol.record import JOB_TYPE, JobStatus

log = logging.getLogger(__name__)


def lease_of(run: Run) -> LeaseRef | None:
    """None: the copy has none, as its target is a volume with a lease of its own."""
    domain = run.facts.get("lease_domain")
    return None if domain is None else LeaseRef(UUID(domain), run.spec.job)


async def made(run: Run, ref: LeaseRef) -> None:
    """Make the lease on the host of the job; the same again is no error while the job is PENDING.

    Raises HostError: LeaseExists (4002), NoSpace (4003) ...; CannotConnect, ConnectionLost: it may
    be there nevertheless.
    """
    times, host = run.services.copies, run.facts["host"]
    row = leases.Lease(id=ref.lease_id, domain=str(ref.sd_id), command=run.id)
    await run.write(partial(leases.begin, lease=row))
    params = {"lease": msgspec.to_builtins(ref), "metadata": _pending(ref.lease_id)}
    for left in reversed(range(times.calls)):
        try:
            await run.services.fleet.task(host, "Lease.create", params)
            break
        except (CannotConnect, ConnectionLost) as e:
            if not left:
                raise
            log.info("host %s gave no answer about lease %s: %s", host, ref.lease_id, e)
            await trio.sleep(times.pause)
    run.together(partial(leases.move, id=ref.lease_id, state="there"))


async def deleted(run: Run, ref: LeaseRef) -> None:
    """Delete it through any host that sees its domain; one that is gone is deleted.

    Raises HostError: held (651) ...; NoHostFits (4404): there is no host to ask; CannotConnect.
    """
    row = await run.read(partial(leases.find, id=ref.lease_id))
    if row is None or row.state == "gone":  # it was not even begun, or is deleted already
        return
    if row.state != "deleting":
        await run.write(partial(leases.move, id=ref.lease_id, state="deleting"))
    await _deleted(run, ref)
    run.together(partial(leases.move, id=ref.lease_id, state="gone"))


async def _deleted(run: Run, ref: LeaseRef) -> None:
    fleet = run.services.fleet
    error: Exception | None = None
    for host in fleet.candidates(ref):
        try:
            await fleet.task(host, "Lease.delete", {"lease": msgspec.to_builtins(ref)})
            return
        except HostError as e:
            if e.number == NoSuchLease.code:  # ours, whose answer was lost
                return
            error = e
        except (CannotConnect, ConnectionLost) as e:
            error = e
    if error is None:
        name = await run.read(partial(called.domain, id=str(ref.sd_id)))
        error = NoHostFits(f"no host is up that has joined domain {name}")
    raise error


def kept(run: Run, ref: LeaseRef) -> Kept:
    """What is in quarantine when `deleted` was given up."""
    action = f"`leasehold lease delete {ref.sd_id} {ref.lease_id}` on a host that has joined it"
    return Kept(Thing.LEASE, ref.lease_id, str(ref.sd_id), action=action)


def _pending(job: str) -> dict[str, Any]:
    status = JobStatus.PENDING.value
    return {"type": JOB_TYPE, "job_id": job, "job_status": status, "generation": GENERATION}
