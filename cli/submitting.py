"""`leasehold job submit`: what is told of a job that a host was given, at once or at its end."""

from collections import deque
from typing import Any

import trio

from cli import exits
from cli.confirming import confirm
from cli.copy_ended import story
from cli.interrupt import Interrupt
from cli.job_following import HostJob, followed
from cli.job_left import left
from cli.output import Output
from cli.progress import follow
from cli.remote import Remote
from cli.request import Order
from cli.submission import Options, Submission, begun
from jobs.status import Status
from protocol.errors import ActionStopped, Error


async def submitted(
    remote: Remote, order: Order, options: Options, out: Output, interrupt: Interrupt, *, wait: bool
) -> int:
    """Give the copy to the host; returns the exit code. Raises as cli.submission.begun."""
    made = await begun(remote, order, options, interrupt, out.note)
    if not wait:
        out.note(f"{made.description}, by {remote.name}; {made.look}")
        out.result(_facts(made), made.job_id)
        return exits.OK
    job = HostJob(made.job_id, made.description)
    lost, stopped = await _waited(made, job, out, interrupt)
    known = job.status.ended and not (lost or stopped)
    if known or job.status in (Status.FAILED, Status.ABORTED):
        return _ended(made, job, out)
    return left(made, job, lost, out, stopped=f"job {job.id} is not waited for any more")


async def _waited(
    made: Submission, job: HostJob, out: Output, interrupt: Interrupt
) -> tuple[Error | None, bool]:
    """Wait for the end of the job; why that is not known, and whether a signal came first."""
    said = deque([f"job {job.id}: {job.description}, by {made.remote.name}"])
    lost: Error | None = None
    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow, job, said, out)
            try:
                await followed(made.remote, job, said.append)
                if job.status is Status.DONE:
                    await confirm(made, said.append)
            except Error as e:
                lost = e
            nursery.cancel_scope.cancel()
    return lost, scope.cancelled_caught


def _facts(made: Submission) -> dict[str, Any]:
    return {**made.tracking.names, "host": made.remote.name}


def _ended(made: Submission, job: HostJob, out: Output) -> int:
    if job.status is Status.DONE:
        out.result({**job.info(), **_facts(made)}, job.id)
        return exits.OK
    aborted = job.status is Status.ABORTED
    error = job.error or ActionStopped()
    if out.json:
        out.error(ActionStopped() if aborted else error, {**_facts(made), "job": job.info()})
    else:
        out.warn(f"{story(job, error, aborted=aborted)}; {made.look}")
    return exits.ABORTED if aborted else exits.after_job(job.error)
