"""One tracked copy in the foreground: checks, lease, job, and what is told about its end."""

import time
import uuid
from collections import deque
from dataclasses import replace
from typing import Any

import trio

from cli import exits, known
from cli.copy_ended import ended, succeeded
from cli.hardware import hardware_id
from cli.interrupt import Interrupt
from cli.output import Output
from cli.progress import follow
from cli.request import Order, check
from cli.tracking import FIRST_GENERATION, LeaseTracking, Tracking, VolumeTracking
from endpoints.copy_data import checked, copy
from endpoints.domain import open_store
from jobs.job import Job, Report, Status
from protocol.errors import ActionStopped, Error

STOPPING = (
    "stopping: the copy tool is being ended, then the lease is given back",
    "stopping already: it ends when no process can write to the target any more",
)


async def copied(order: Order, out: Output, interrupt: Interrupt) -> int:
    """Do what was ordered; returns the exit code.

    Raises every error that is found before there is a job. ActionStopped (443): aborted so early.
    """
    job_id = order.job_id or str(uuid.uuid4())
    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        order = await with_domains(order)
        tracking = await _prepared(order, job_id)
        hardware = await hardware_id()
        try:
            # Cancelled, it has made no lease; a lease that was made is used, by an aborted job.
            generation = await tracking.take_up()
        except Error as e:
            out.error(e, tracking.names)
            return exits.before_job(e)
    if scope.cancelled_caught:
        raise ActionStopped
    job = _job(order, tracking, (job_id, generation, hardware), interrupt)
    said = deque([f"job {job_id}: {job.description}, lease in storage domain {tracking.sd_id}"])
    interrupt.then(lambda: _stop(job, interrupt, said))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, job, said, out)
        await job.run()
        nursery.cancel_scope.cancel()
    if job.status is Status.DONE:
        return await succeeded(tracking, job, out, keep_lease=order.keep_lease)
    return await ended(tracking, job, out, interrupt)


async def with_domains(order: Order) -> Order:
    """The order with the domains of its volumes. Raises StorageDomainDoesNotExist (358) ..."""
    ids = {name.split("/")[0] for name in order.volumes}
    domains = {sd_id: await known.opened(sd_id) for sd_id in ids}
    check(order)
    return replace(order, domains=domains)


async def _prepared(order: Order, job_id: str) -> Tracking:
    """Everything that can be found wrong before there is a lease or a job."""
    nowhere = str(uuid.UUID(int=0))
    await checked(order.request(nowhere, job_id, FIRST_GENERATION))  # before a domain is made
    if (target := order.target_volume) is not None:
        return VolumeTracking(await open_store(target.domain, order.store), target, job_id)
    opened = await (known.opened(order.domain) if order.domain else known.default_domain())
    store = await open_store(opened, order.store, change_index=True)
    return LeaseTracking(store, opened.id, job_id, await hardware_id())


def _job(
    order: Order, tracking: Tracking, facts: tuple[str, int, str], interrupt: Interrupt
) -> Job:
    """facts: job id, generation and hardware id."""
    job_id, generation, hardware = facts
    request = order.request(tracking.sd_id, job_id, generation)

    async def work(report: Report) -> dict[str, Any]:
        if interrupt.asked:  # it came while the lease was made: now there is a job to abort
            job.abort()
        return await copy(request, tracking.store, report, now=time.time, hardware_id=hardware)

    job = Job(job_id, work, description=f"copy {order.source} to {order.destination}")
    return job


def _stop(job: Job, interrupt: Interrupt, said: deque[str]) -> None:
    if job.status.ended:
        return
    if interrupt.asked <= len(STOPPING):  # the sanlock daemon asks every second
        said.append(STOPPING[interrupt.asked - 1])
    if job.status is not Status.PENDING:  # else its work sees that it was asked
        job.abort()
