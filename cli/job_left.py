"""What is told of a job of a host whose end we do not know."""

from cli import exits
from cli.confirming import Doubtful
from cli.job_following import HostJob
from cli.output import Output, explained
from cli.submission import Submission
from protocol.errors import ActionStopped, CannotConnect, ConnectionLost, Error, NoSuchJob


def left(made: Submission, job: HostJob, lost: Error | None, out: Output, *, stopped: str) -> int:
    """The exit code. lost: why it is not known; None: a signal came, and `stopped` says the rest.

    A job that is not found any more was there before: it is unresolved.
    """
    error = lost or ActionStopped()
    if out.json:
        out.error(error, {**made.tracking.names, "job": job.info(), "look": made.look})
    elif isinstance(lost, Doubtful):
        out.warn(str(lost))
    else:
        out.warn(f"{_why(job, lost) or stopped}; {made.look}")
    return exits.UNRESOLVED if isinstance(lost, (Doubtful, NoSuchJob)) else exits.before_job(error)


def _why(job: HostJob, lost: Error | None) -> str:
    if lost is None:
        return ""
    if isinstance(lost, NoSuchJob):
        return f"the host does not know job {job.id} any more"
    if isinstance(lost, (CannotConnect, ConnectionLost)):
        return f"{lost}; job {job.id} goes on without us"
    return f"{explained(lost)}; job {job.id} may go on"
