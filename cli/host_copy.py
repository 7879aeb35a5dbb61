"""`leasehold copy --host`: a copy by the agent of a host, followed in the foreground."""

from collections import deque

import trio

from cli import exits
from cli.confirming import Doubtful, confirm
from cli.copy_ended import ended, succeeded
from cli.interrupt import Interrupt
from cli.job_following import HostJob, followed
from cli.output import Output, explained
from cli.progress import follow
from cli.remote import Remote
from cli.request import Order
from cli.submission import Options, Submission, begun
from jobs.status import Status
from protocol.errors import (
    ActionStopped,
    CannotConnect,
    ConnectionLost,
    Error,
    NoSuchJob,
)

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
    return _left(made, job, lost, out)


def _stop(job: HostJob, interrupt: Interrupt, said: deque[str], left: trio.CancelScope) -> None:
    if interrupt.asked > 1:
        left.cancel()
    elif not job.status.ended:
        said.append(STOPPING)


def _left(made: Submission, job: HostJob, lost: Error | None, out: Output) -> int:
    """Tell of a job whose end we do not know; the exit code."""
    facts = {**made.tracking.names, "job": job.info(), "look": made.look}
    error = lost or ActionStopped()
    if out.json:
        out.error(error, facts)
    else:
        out.warn(_why(job, lost, made.look))
    if isinstance(lost, (Doubtful, NoSuchJob)):
        return exits.UNRESOLVED  # the job was there before
    return exits.before_job(error)


def _why(job: HostJob, lost: Error | None, look: str) -> str:
    if lost is None:
        return f"job {job.id} is left to its host, which was asked to abort it; {look}"
    if isinstance(lost, Doubtful):
        return str(lost)
    if isinstance(lost, NoSuchJob):
        return f"the host does not know job {job.id} any more; {look}"
    if isinstance(lost, (CannotConnect, ConnectionLost)):
        return f"{lost}; job {job.id} goes on without us; {look}"
    return f"{explained(lost)}; job {job.id} may go on; {look}"
