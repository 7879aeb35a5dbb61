"""`leasehold copy --host`: a copy by the agent of a host, followed in the foreground."""

from collections import deque

import trio

from cli.confirming import confirm
from cli.copy_ended import ended, succeeded
from cli.interrupt import Interrupt
from cli.job_following import HostJob, followed
from cli.job_left import left as left_to_host
from cli.output import Output
from cli.progress import follow
from cli.remote import Remote
from cli.request import Order
from cli.submission import Options, begun
from jobs.status import Status
from protocol.errors import Error

STOPPING = "stopping: the host is asked to abort the job; once more leaves it to the host"


async def copied(order: Order, remote: Remote, out: Output, interrupt: Interrupt) -> int:
    """Do what was ordered; returns the exit code. Raises as cli.submission.begun."""
    made = await begun(remote, order, Options(), interrupt, out.note)
    job = HostJob(made.job_id, made.description)
    said = deque([f"job {job.id}: {job.description}, by {remote.name}"])
    left = trio.CancelScope()
    interrupt.then(lambda: _stop(job, interrupt, said, left))
    lost: Error | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, job, said, out)
        try:
            with left:
                await followed(made.remote, job, said.append, abort=lambda: interrupt.asked > 0)
                if job.status is Status.DONE:
                    await confirm(made, said.append)
        except Error as e:
            lost = e
        nursery.cancel_scope.cancel()
    if job.status is Status.DONE and not (lost or left.cancelled_caught):
        return await succeeded(made.tracking, job, out, keep_lease=order.keep_lease)
    if job.status in (Status.FAILED, Status.ABORTED):
        return await ended(made.tracking, job, out, interrupt)
    stopped = f"job {job.id} is left to its host, which was asked to abort it"
    return left_to_host(made, job, lost, out, stopped=stopped)


def _stop(job: HostJob, interrupt: Interrupt, said: deque[str], left: trio.CancelScope) -> None:
    if interrupt.asked > 1:
        left.cancel()
    elif not job.status.ended:
        said.append(STOPPING)
