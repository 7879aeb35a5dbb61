"""`leasehold localdisk prepare --host`: by the agent of a host, followed in the foreground."""

from collections import deque
from dataclasses import replace

import trio

from cli import answers, exits
from cli.interrupt import Interrupt
from cli.job_following import HostJob, followed
from cli.localdisk_ended import amounts, ended, ready
from cli.localdisk_hosts import There
from cli.localdisk_request import Order, check_for_host
from cli.output import Output, explained
from cli.progress import follow
from cli.remote import Remote
from host.local_disk_request import Prepared, PrepareRequest
from jobs.status import Status
from protocol.client import HostError
from protocol.errors import ActionStopped, Error, NoSuchJob

STOPPING = "stopping: the host is asked to abort the job; once more leaves it to the host"
NOT_OURS = "somebody else began the copy: it goes on without us"


async def prepared(order: Order, remote: Remote, out: Output, interrupt: Interrupt) -> int:
    """Do what was ordered; returns the exit code.

    Raises BadParameter (1000), CannotConnect, the errors of the host; ActionStopped (443): nothing
    was begun.
    """
    check_for_host(order)
    request = order.request(order.source_format)
    job: HostJob | None = None
    while True:
        made = await _asked(remote, request, interrupt)
        if made.state == "ready":
            copied = None if job is None else amounts(job.info())
            return ready(order, made, copied, remote.name, out)
        job = HostJob(str(made.job_id), f"copy {order.source} to local disk {order.vol_id}")
        if (code := await _waited(order, job, remote, out, interrupt)) is not None:
            return code
        request = replace(request, again=False)  # it was copied anew


async def _asked(remote: Remote, request: PrepareRequest, interrupt: Interrupt) -> Prepared:
    """A signal does not cut off the answer, which says which job there is to abort; two do."""
    made: Prepared | None = None
    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        async with remote.connected() as client:
            interrupt.then(lambda: scope.cancel() if interrupt.asked > 1 else None)
            made = await There(remote).prepare(client, request)
    if made is None:
        raise ActionStopped
    return made


async def _waited(
    order: Order, job: HostJob, remote: Remote, out: Output, interrupt: Interrupt
) -> int | None:
    """Until the job is done; the exit code of another end."""
    ours = await _is_ours(remote, job.id)
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
    if job.status in (Status.FAILED, Status.ABORTED):
        return ended(order, job, remote.name, out, began=True, look=look)
    if job.status is Status.DONE and lost is None:
        return None
    return _left(job, lost, {"vol_id": order.vol_id, "host": remote.name}, out, look)


async def _is_ours(remote: Remote, job_id: str) -> bool:
    """Is it this command that began the job?"""
    try:
        answer = await remote.once("Job.info", {"job_id": job_id})
    except HostError as e:
        if e.number != NoSuchJob.code:
            raise
        return False
    return answers.info(answer, remote.name).get("flow_id") == remote.flow_id


def _left(job: HostJob, lost: Error | None, names: dict[str, str], out: Output, look: str) -> int:
    """Of a job whose end we do not know; the exit code."""
    error = lost or ActionStopped()
    if out.json:
        out.error(error, {**names, "job": job.info(), "look": look})
    else:
        why = f"job {job.id} is left to its host" if lost is None else explained(lost)
        out.warn(f"{why}; {look}")
    return exits.UNRESOLVED if isinstance(lost, NoSuchJob) else exits.before_job(error)


def _stop(
    job: HostJob, interrupt: Interrupt, said: deque[str], left: trio.CancelScope, *, ours: bool
) -> None:
    if interrupt.asked > 1 or not ours:
        left.cancel()
    if not job.status.ended and interrupt.asked == 1:
        said.append(STOPPING if ours else NOT_OURS)
