"""Who does the copies to local disks: the agent, or the process that wants one.

Both keep the folder of a job in one journal. So an agent that starts while a hook copies adopts
that job, and a hook follows what another one, or an agent that it cannot reach, does already.
"""

import os
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
import trio

from host import abort_wish, local
from host.agent import Agent
from host.copying import messages, named_domains
from host.folder import Ending, Folder, Spec
from host.following import Watcher, followed
from host.journal import Journal
from host.spawner import listening
from host.worker import worked
from jobs.job import Job
from jobs.progress import Progress, Report
from leases.steps import reached
from protocol.errors import Error, JobNotActive

LOOK = 1.0  # seconds between two looks at a job that nobody tells of
GONE_LOOK = 0.02
GONE_TIME = 10.0  # seconds; a process with a call in the kernel that does not end may stay for ever


class Jobs(Protocol):
    async def alive(self, job_id: str) -> bool:
        """Does a process of this host do the job, or is about to?"""
        ...

    async def named_domains(self, job_id: str) -> set[str]:
        """The ids of the domains that the job names, if it is not forgotten: where its lease is."""
        ...

    async def begin(self, spec: Spec) -> None:
        """Take a job in: it is alive when this returns. Raises JobExists, NoSpaceLeft; OSError."""
        ...

    async def abort(self, job_id: str) -> None:
        """Ask it to stop, and return when it has, usually also its process."""
        ...


@dataclass(frozen=True)
class AgentJobs:
    """The agent does them."""

    agent: Agent
    journal: Journal

    async def alive(self, job_id: str) -> bool:
        known = self.agent.registry.list(job_ids=[job_id])
        if any(not job.status.ended for job in known):
            return True
        return await local.run(lambda: self.journal.folder(job_id).alive)

    async def named_domains(self, job_id: str) -> set[str]:
        return await local.run(_named_domains, self.journal.folder(job_id))

    async def begin(self, spec: Spec) -> None:
        await self.agent.submit(spec)

    async def abort(self, job_id: str) -> None:
        known = self.agent.registry.list(job_ids=[job_id])
        if not known:  # of a process that began when there was no agent
            await stopped(self.journal.folder(job_id))
        for job in known:
            await self._stop(job)
        await _gone(self.journal.folder(job_id))

    async def _stop(self, job: Job) -> None:
        if job.status.ended:
            return
        try:
            await self.agent.abort(job.id)
        except (JobNotActive, OSError):
            if not job.status.ended:
                raise
        # Else it came to its end while that was written down, and may be forgotten already.
        await job.wait()


@dataclass(frozen=True)
class _Begun:
    """A job of this process. lock: the descriptor that says that it lives."""

    spec: Spec
    folder: Folder
    lock: int
    listener: socket.socket


@dataclass
class OwnJobs:
    """This process does them, while it is there. taken: the ids of all that it has taken in."""

    journal: Journal
    taken: set[str] = field(default_factory=set)
    _begun: dict[str, _Begun] = field(default_factory=dict)

    async def alive(self, job_id: str) -> bool:
        return await local.run(self._alive, job_id)

    async def named_domains(self, job_id: str) -> set[str]:
        return await local.run(_named_domains, self.journal.folder(job_id))

    async def begin(self, spec: Spec) -> None:
        begun = await local.run(self._begin, spec)
        self.taken.add(str(spec.job_id))
        if begun is not None:
            self._begun[str(spec.job_id)] = begun

    async def abort(self, job_id: str) -> None:
        await stopped(self.journal.folder(job_id))

    async def ended(self, job_id: str, report: Report) -> Ending | None:
        """How a job ended that was begun here, which it is now, or that another process does.

        None: nobody tells; look at the disk again. Cancelled, a job of this process is aborted.
        """
        if (begun := self._begun.pop(job_id, None)) is not None:
            return await self._done(begun, report)
        folder = self.journal.folder(job_id)
        report(Progress(stage=f"waiting for job {job_id}, which fills the disk already"))
        if not _told(folder):  # it waits for its turn, or is gone
            await trio.sleep(LOOK)
            if not _told(folder):
                return None
        ending = await followed(folder, Watcher(report, _nothing))
        if ending is None:
            await trio.sleep(LOOK)
        return ending

    def forget(self) -> None:
        """Let go of jobs that were begun and never done: they are not alive any more."""
        for begun in self._begun.values():
            begun.listener.close()
            os.close(begun.lock)
        self._begun.clear()

    def _alive(self, job_id: str) -> bool:
        """A job that waits in the queue of an agent, which does not speak to us, is alive too."""
        folder = self.journal.folder(job_id)
        waits = folder.path.exists() and not (folder.begun or folder.ended)
        return folder.alive or (waits and self.journal.has_agent)

    def _begin(self, spec: Spec) -> _Begun | None:
        """None: an agent that has just started has taken it up, or it was aborted already."""
        folder = self.journal.add(spec)
        lock = folder.lock()
        if lock is None:
            return None
        try:
            if not folder.ended:
                return _Begun(spec, folder, lock, listening(folder))
        except BaseException:
            os.close(lock)
            raise
        os.close(lock)
        return None

    async def _done(self, begun: _Begun, report: Report) -> Ending | None:
        async with _working(begun):
            try:
                ending = await followed(begun.folder, Watcher(report, _nothing))
            except trio.Cancelled:
                with trio.CancelScope(shield=True):
                    await followed(begun.folder, Watcher(report, _nothing), abort=True)
                raise
        reached("prepare", "copied")
        await local.run(self._tidy, begun.folder)
        return ending

    def _tidy(self, folder: Folder) -> None:
        """Nobody wants to know of it any more, unless an agent has adopted it."""
        with suppress(OSError):
            if not self.journal.has_agent:
                folder.remove()


@asynccontextmanager
async def _working(begun: _Begun) -> AsyncGenerator[None]:
    """The job is done beside the body, to its end: the body aborts it if it must."""

    async def work() -> None:
        with trio.CancelScope(shield=True):
            await worked(begun.folder, begun.spec, begun.listener)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            yield
    finally:
        begun.listener.close()
        os.close(begun.lock)


def _told(folder: Folder) -> bool:
    """Is there somebody, or something written, that tells of a job?"""
    return folder.begun or folder.ended


def _named_domains(folder: Folder) -> set[str]:
    try:
        _, destination = messages(folder.spec())
    except (OSError, msgspec.MsgspecError, Error):  # forgotten, or damaged
        return set()
    return named_domains(destination, destination)


async def stopped(folder: Folder) -> None:
    """Ask the process that does a job to stop, or is to do it; return when it has.

    Raises OSError: that could not be written down.
    """
    try:
        await local.run(abort_wish.write, folder)
    except FileNotFoundError:
        return  # nobody knows of such a job any more
    await followed(folder, Watcher(_ignored, _nothing), abort=True)
    await _gone(folder)


async def _gone(folder: Folder) -> None:
    """Until its process has let go of a job: how that ended it tells a moment before. Bounded: who
    goes on looks whether it is alive."""
    with trio.move_on_after(GONE_TIME):
        while await local.run(lambda: folder.alive):  # noqa: ASYNC110 - a moment
            await trio.sleep(GONE_LOOK)


def _nothing() -> None:
    """Who aborts does not matter."""


def _ignored(progress: Progress) -> None:
    """Nobody wants to see it."""
