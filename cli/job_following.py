"""Jobs of a host are followed: what it tells, again and again, through restarts of its agent.

Its events are hints that something moved; what Host.getJobs answers is the truth.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from cli import answers
from cli.answers import Info
from cli.output import explained
from cli.remote import Remote
from jobs.status import Status
from protocol.client import Client, HostError
from protocol.errors import CannotConnect, ConnectionLost, JobNotActive, NoSuchJob
from protocol.reported import Reported

EVERY = 0.5  # seconds between two looks
LEAST = 0.05  # however many events there are
RETRY = 0.5  # seconds between two tries to connect
PREFIX = "|jobs|status|"

# Gets a connection, and the ids of the jobs that moved since; True: there is no more to look for.
Look = Callable[[Client, set[str]], Awaitable[bool]]
Say = Callable[[str], None]


async def polled(remote: Remote, look: Look, say: Say, *, met: bool) -> None:
    """Call `look` now and then, and whenever something moved, until it returns True.

    A connection that is lost is made again, for as long as an answer may take. say: gets to know.
    met: the host has answered before; otherwise the first connection is not waited for.
    Raises CannotConnect and ConnectionLost: the host cannot be reached, or not any more.
    """
    deadline: float | None = None  # None: it was not lost
    while True:
        try:
            async with remote.connected(events=True) as client:
                moved: set[str] = set()
                while not await look(client, moved):
                    if deadline is not None:
                        say(f"{remote.name} answers again")
                    deadline, met = None, True
                    moved = await _moved(client)
                return
        except (CannotConnect, ConnectionLost) as e:
            if not met:
                raise
            if deadline is None:
                deadline = trio.current_time() + remote.timeout
                say(f"{e}; trying again for {remote.timeout:g} s")
            if trio.current_time() >= deadline:
                raise
        await trio.sleep(RETRY)


async def _moved(client: Client) -> set[str]:
    """The ids of the jobs that moved, after a moment."""
    moved: set[str] = set()
    await trio.sleep(LEAST)
    try:
        with trio.move_on_after(EVERY):
            moved.add(_job_id(await client.events.receive()))
        while True:
            moved.add(_job_id(client.events.receive_nowait()))
    except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
        return moved - {""}  # a connection that is lost is seen by who uses it


def _job_id(event: tuple[str, dict[str, Any]]) -> str:
    """Empty: it is about something else."""
    method, _ = event
    return method.removeprefix(PREFIX) if method.startswith(PREFIX) else ""


class HostJob:
    """A job of a host, as far as it was told; for everything that follows or tells of a job."""

    def __init__(self, job_id: str, description: str) -> None:
        self.id = job_id
        self.description = description
        self._info: Info = {"id": job_id, "status": Status.PENDING.value}

    def take(self, info: Info) -> None:
        """What was told last; without what only the host is interested in."""
        own = ("source", "destination", "flow_id")
        self._info = {key: value for key, value in info.items() if key not in own}

    def info(self) -> Info:
        return self._info

    @property
    def status(self) -> Status:
        return Status(self._info["status"])

    @property
    def result(self) -> Info | None:
        return self._info if self.status is Status.DONE else None

    @property
    def error(self) -> Exception | None:
        rpc = self._info.get("error")
        return Reported(answers.error(rpc)) if rpc else None


async def followed(
    remote: Remote, job: HostJob, say: Say, *, abort: Callable[[], bool] = lambda: False
) -> None:
    """Follow one job to its end. abort: whether it is to be aborted, asked at every look.

    Raises as `polled`; NoSuchJob (66): the host does not know it.
    """
    asked = False

    async def look(client: Client, moved: set[str]) -> bool:
        nonlocal asked
        if abort() and not asked:
            await aborted(remote, client, job.id, say)
            asked = True
        answer = await remote.call(client, "Host.getJobs", {"job_ids": [job.id]})
        told = answers.infos(answer, remote.name)
        if job.id not in told:
            raise NoSuchJob(job.id)
        job.take(told[job.id])
        if job.status.ended:
            await _complete(remote, client, job)
        return job.status.ended

    await polled(remote, look, say, met=True)


async def _complete(remote: Remote, client: Client, job: HostJob) -> None:
    """With its result, which Host.getJobs does not tell."""
    try:
        answer = await remote.call(client, "Job.info", {"job_id": job.id})
    except HostError as e:
        if e.number != NoSuchJob.code:  # just forgotten: there is no more than its end
            raise
    else:
        job.take(answers.info(answer, remote.name))


async def aborted(remote: Remote, client: Client, job_id: str, say: Say) -> None:
    """Ask the host to abort a job; that it ended before is nothing to tell."""
    try:
        await remote.call(client, "Job.abort", {"job_id": job_id})
    except HostError as e:
        if e.number != JobNotActive.code:
            say(f"job {job_id} is not aborted: {explained(e)}")
