"""`leasehold localdisk prepare --host`: by the agent of a host, followed in the foreground.

A copy that another process of that host does, and of which its agent knows nothing, is waited for:
the agent is asked for the disk again and again, and begins anew what that process left unfinished.
"""

from collections import deque
from dataclasses import dataclass, replace
from typing import Any

import trio

from cli import answers, exits
from cli.interrupt import Interrupt
from cli.job_following import HostJob, followed, polled
from cli.localdisk_ended import amounts, ended, ready
from cli.localdisk_hosts import There
from cli.localdisk_request import Order, check_for_host
from cli.output import Output, explained
from cli.progress import follow
from cli.remote import Remote
from host.local_disk_request import Prepared, PrepareRequest
from host.local_disks import DEATHS
from jobs.status import Status
from protocol.client import Client, HostError
from protocol.errors import ActionStopped, Error, NoSuchJob, WorkerDied
from protocol.reported import Reported

LOOK = 1.0  # seconds between two looks at a disk that another process fills
STOPPING = "stopping: the host is asked to abort the job; once more leaves it to the host"
NOT_OURS = "somebody else began the copy: it goes on without us"


@dataclass(frozen=True)
class _Told:
    """ours: is it this command that began the job? None: the agent does not know that job."""

    made: Prepared
    ours: bool | None = None


async def prepared(order: Order, remote: Remote, out: Output, interrupt: Interrupt) -> int:
    """Do what was ordered; returns the exit code.

    Raises BadParameter (1000), CannotConnect, the errors of the host; ActionStopped (443): nothing
    was begun.
    """
    check_for_host(order)
    request = order.request(order.source_format)
    job: HostJob | None = None
    deaths = 0
    while True:
        told = await _asked(remote, request, out, interrupt, met=job is not None)
        if told.made.state == "ready":
            made = replace(told.made, reused=job is None)
            return ready(order, made, _copied(job), remote.name, out)
        job_id = str(told.made.job_id)
        if job is None or job.id != job_id:
            job = HostJob(job_id, f"copy {order.source} to local disk {order.vol_id}")
            if told.ours is None:
                out.note(f"job {job_id}: another process of {remote.name} copies; waiting for it")
        if told.ours is None:
            code = await _awaited(order, job, remote, out, interrupt)
        else:
            last = deaths == DEATHS
            code = await _waited(order, job, remote, out, interrupt, ours=told.ours, last=last)
            deaths += _died(job)
        if code is not None:
            return code
        request = replace(request, again=False)  # it was copied anew


async def _asked(
    remote: Remote, request: PrepareRequest, out: Output, interrupt: Interrupt, *, met: bool
) -> _Told:
    """A signal does not cut off the answer, which says which job there is to abort; two do.

    met: the host has answered before: it is waited for, should its agent be started anew.
    """
    told: _Told | None = None

    async def look(client: Client, moved: set[str]) -> bool:
        nonlocal told
        interrupt.then(lambda: scope.cancel() if interrupt.asked > 1 else None)
        made = await There(remote).prepare(client, request)
        told = _Told(made)
        if made.state != "ready":
            told = _Told(made, await _is_ours(client, remote, str(made.job_id)))
        return True

    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        await polled(remote, look, out.note, met=met)
    if told is None:
        raise ActionStopped
    return told


async def _is_ours(client: Client, remote: Remote, job_id: str) -> bool | None:
    """Is it this command that began the job? None: the agent does not know it."""
    try:
        answer = await remote.call(client, "Job.info", {"job_id": job_id})
    except HostError as e:
        if e.number != NoSuchJob.code:
            raise
        return None
    return answers.info(answer, remote.name).get("flow_id") == remote.flow_id


async def _awaited(
    order: Order, job: HostJob, remote: Remote, out: Output, interrupt: Interrupt
) -> int | None:
    """For a moment, while another process copies; the exit code when we are to stop."""
    with trio.CancelScope() as left:
        interrupt.then(left.cancel)
        await trio.sleep(LOOK)
    if not left.cancelled_caught:
        return None
    look = f"look with `leasehold localdisk list{remote.option}`"
    return _left(order, job, None, remote, out, look=look)


async def _waited(
    order: Order,
    job: HostJob,
    remote: Remote,
    out: Output,
    interrupt: Interrupt,
    *,
    ours: bool,
    last: bool,
) -> int | None:
    """Until the job is done, or its agent knows it no more; the exit code of another end.

    last: it is not copied anew if its process dies.
    """
    who = "" if ours else ", which somebody else began"
    said = deque([f"job {job.id}: {job.description}, by {remote.name}{who}"])
    left = trio.CancelScope()
    interrupt.then(lambda: _stop(job, interrupt, said, left, ours=ours))
    lost: Error | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, job, said, out)
        try:
            with left:
                await followed(remote, job, said.append, abort=lambda: ours and interrupt.asked > 0)
        except Error as e:
            lost = e
        nursery.cancel_scope.cancel()
    look = f"look with `leasehold job show {job.id}{remote.option}`"
    if _died(job) and not last:
        out.note(f"job {job.id} has died: the disk is copied anew")
        return None
    if job.status in (Status.FAILED, Status.ABORTED):
        return ended(order, job, remote.name, out, began=True, look=look)
    if (job.status is Status.DONE and lost is None) or isinstance(lost, NoSuchJob):
        return None  # the disk says what became of it
    return _left(order, job, lost, remote, out, look=look)


def _died(job: HostJob) -> bool:
    """Did the process die that did it? That is no fault of the disk."""
    return isinstance(job.error, Reported) and job.error.number == WorkerDied.code


def _copied(job: HostJob | None) -> dict[str, Any] | None:
    """bytes, seconds and rate; None: nothing was copied, or the agent does not know how much."""
    return amounts(job.info()) if job is not None and job.status is Status.DONE else None


def _left(
    order: Order, job: HostJob, lost: Error | None, remote: Remote, out: Output, *, look: str
) -> int:
    """Of a job whose end we do not know; the exit code."""
    error = lost or ActionStopped()
    if out.json:
        names = {"vol_id": order.vol_id, "host": remote.name}
        out.error(error, {**names, "job": job.info(), "look": look})
    else:
        why = f"job {job.id} is left to its host" if lost is None else explained(lost)
        out.warn(f"{why}; {look}")
    return exits.before_job(error)


def _stop(
    job: HostJob, interrupt: Interrupt, said: deque[str], left: trio.CancelScope, *, ours: bool
) -> None:
    if interrupt.asked > 1 or not ours:
        left.cancel()
    if not job.status.ended and interrupt.asked == 1:
        said.append(STOPPING if ours else NOT_OURS)
