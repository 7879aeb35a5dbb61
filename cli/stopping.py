"""`leasehold job abort`: a job of a host is asked to stop."""

from cli import answers
from cli.answers import Info
from cli.job_following import HostJob, followed
from cli.output import Output
from cli.remote import Remote
from jobs.status import Status
from protocol.errors import JobNotActive


async def stopped(remote: Remote, job_id: str, out: Output, *, wait: bool) -> Info:
    """Ask it; what is known of it when it has ended, or at once.

    Raises NoSuchJob (66), JobNotActive (84): it had ended, or ended before it could be stopped.
    """
    async with remote.connected() as client:
        await remote.call(client, "Job.abort", {"job_id": job_id})
        answer = await remote.call(client, "Job.info", {"job_id": job_id})
    found = answers.info(answer, remote.name)
    job = HostJob(job_id, str(found.get("description", "")))
    job.take(found)
    if wait and not job.status.ended:
        await followed(remote, job, out.note)
    if job.status in (Status.DONE, Status.FAILED):
        raise JobNotActive(job_id, job.status.value)
    return job.info()
