"""The agent of a host: its jobs, each with a worker, kept in the journal."""

import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import msgspec
import structlog
import trio
from structlog.contextvars import bind_contextvars

from host import abort_wish, aftermath, local, subject
from host.background import background
from host.folder import Ending, Folder, Spec
from host.following import Watcher, followed
from host.journal import Entry, Journal
from host.shield import Shield
from host.spawning import Spawner, spawner
from jobs.job import Job
from jobs.progress import Progress, Report
from jobs.queue import Queue
from jobs.registry import Registry
from jobs.status import Status
from protocol.errors import (
    AcquireLockFailure,
    ActionStopped,
    Error,
    JobExists,
    JobNotActive,
    WorkerNotStarted,
    to_rpc,
)
from protocol.reported import Reported

log = structlog.get_logger()

LOCK_TIME = 2.0  # seconds; an agent that was killed holds its journal no longer
WISH_LOOK = 1.0  # seconds between two looks at the jobs that wait
_LOOK = 0.05


class Agent:
    """Jobs of this host. Not thread safe: it belongs to the trio thread."""

    def __init__(self, journal: Journal, queue: Queue, spawner: Spawner, autodelete: float) -> None:
        self.queue = queue
        self.registry = Registry(autodelete=autodelete, forgotten=self._forget)
        self._journal = journal
        self._spawner = spawner
        self._shield = Shield()
        self._draining = trio.Lock()
        self._kept: set[str] = set()  # the ids of the jobs that have a folder
        self._removed: dict[str, trio.Event] = {}  # by id, of jobs that are being removed
        self._forgotten, self._to_remove = trio.open_memory_channel[str](float("inf"))

    async def submit(self, spec: Spec) -> Job:
        """Take a job in. Raises JobExists (69), NoSpaceLeft; OSError."""
        job_id = str(spec.job_id)
        if self.registry.list(job_ids=[job_id]):
            raise JobExists(job_id)
        await self._gone(job_id)
        folder = await local.run(self._journal.add, spec)
        job = self._job(folder, spec)
        try:
            self._add(job)
        except JobExists:  # a job without a folder has come in between
            await local.run(folder.remove)
            raise
        self.queue.submit(job, priority=spec.priority)
        return job

    async def adopt(self, job_id: str) -> None:
        """Follow a job that another process of this host does, with a folder in our journal, as if
        it had been begun in a former life. Nothing is done when it is known already, or when no
        process does it: not yet, or not any more.
        """
        if self.registry.list(job_ids=[job_id]):
            return
        await self._gone(job_id)
        folder = self._journal.folder(job_id)
        spec = await local.run(_spec_of_living, folder)
        if spec is None:
            return
        job = self._job(folder, spec)
        with suppress(JobExists):  # somebody else was faster
            self._add(job)
            self.queue.adopt(job)

    async def abort(self, job_id: str) -> None:
        """Ask a job to stop: once this returns, no restart makes that undone.

        NoSuchJob (66), JobNotActive (84); OSError: it could not be written down.
        """
        job = self.registry.get(job_id)
        if job.status.ended:
            raise JobNotActive(job_id, job.status.value)
        folder = self._journal.folder(job_id)
        with trio.CancelScope(shield=True):
            ended = await local.run(abort_wish.write, folder)
        while job.status is Status.PENDING and not ended:  # noqa: ASYNC110 - a moment
            await trio.sleep(_LOOK)  # its worker lives, and is being adopted
        if job.status is not Status.ABORTED:  # by the ending that was just written
            job.abort()

    async def delete(self, job_id: str) -> None:
        """Forget a job that has ended, for good. NoSuchJob (66); JobNotDone (68)."""
        self.registry.delete(job_id)
        await self._gone(job_id)

    async def drain(self) -> None:
        """Start no job until `resume`, in no life of the agent. Jobs that run go on.

        OSError: it could not be written down, so a restart would start jobs again.
        """
        async with self._draining:
            self.queue.paused = True
            await local.run(self._journal.drain)

    async def resume(self) -> None:
        """Start jobs again. OSError: it could not be written down, and nothing is started."""
        async with self._draining:
            await local.run(self._journal.resume)
            self.queue.paused = False

    async def restore(self) -> None:
        """Take up the jobs of a former life: adopt living workers, judge dead ones."""
        self.queue.paused = await local.run(lambda: self._journal.drained)
        for entry in await local.run(self._journal.read):
            if entry.ending is not None:
                self._add(restored(entry.spec, entry.ending))
            else:
                await self._take_up(entry)

    async def run(self) -> None:
        """Run the jobs until cancelled; workers go on then."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._shield.watch)
            nursery.start_soon(self._remove_forgotten)
            nursery.start_soon(self._spawner.warm)
            nursery.start_soon(self._see_wishes)
            await self.queue.run()

    async def _take_up(self, entry: Entry) -> None:
        folder, spec = entry.folder, entry.spec
        job = self._job(folder, spec)
        self._add(job)
        # An ending that cannot be read is one all the same: such a job is not begun again.
        if folder.begun or folder.ended:
            self.queue.adopt(job)
        else:
            self.queue.submit(job, priority=spec.priority)

    def _job(self, folder: Folder, spec: Spec) -> Job:
        async def work(report: Report) -> dict[str, Any] | None:
            bind_contextvars(**subject.of_job(spec))  # for the log, until the task of the job ends
            ending = await self._ending(job, folder, spec, Watcher(report, aborting))
            if ending.status is Status.ABORTED:
                aborting()
            return result(ending)

        def aborting() -> None:
            if job.status is Status.RUNNING:  # the worker was asked by somebody else
                job.abort()

        times = {"created": spec.created, "started": folder.started}
        job = Job(
            str(spec.job_id),
            work,
            description=spec.description,
            times={name: time for name, time in times.items() if time is not None},
        )
        return job

    async def _ending(self, job: Job, folder: Folder, spec: Spec, watcher: Watcher) -> Ending:
        """Have the job done by a worker. An abort is passed on; the end of the agent is not."""
        try:
            if await local.run(lambda: folder.abort_asked):
                job.abort()  # in a former life: the next await is cancelled
            await self._begin(folder, spec)
            return await self._followed(folder, spec, watcher, abort=False)
        except trio.Cancelled:
            if job.status is not Status.ABORTING:
                raise
        with self._shield.held():
            ending = await local.run(folder.end_unbegun, abort_wish.aborted())
            return ending or await self._followed(folder, spec, watcher, abort=True)

    async def _begin(self, folder: Folder, spec: Spec) -> None:
        if await local.run(lambda: folder.begun or folder.ended):
            return
        try:
            await self._spawner.start(folder, self.queue.limit(spec.limit))
        except WorkerNotStarted as e:
            failed = Ending(status=Status.FAILED, error=to_rpc(e), ended=time.time())
            await local.run(folder.end_unbegun, failed)

    async def _followed(
        self, folder: Folder, spec: Spec, watcher: Watcher, *, abort: bool
    ) -> Ending:
        while True:
            ending = await followed(folder, watcher, abort=abort)
            ending = ending or await self._judged(folder, spec)
            if ending is not None:
                return ending

    async def _judged(self, folder: Folder, spec: Spec) -> Ending | None:
        """The ending of a job whose worker died, written down; None: it lives."""
        ending = await aftermath.told(spec)
        log.warning("worker died", job=folder.job_id, status=ending.status, flow_id=spec.flow_id)
        try:
            return await local.run(folder.end_without_worker, ending)
        except OSError as e:
            log.error("ending not written", job=folder.job_id, error=str(e))
        return ending

    async def _see_wishes(self) -> None:
        """Abort the jobs that wait and that another process has aborted: a command on this host
        that goes by the journal. When its turn came, each would say so by itself."""
        while True:
            await trio.sleep(WISH_LOOK)
            if waiting := [job for job in self.queue.waiting if job.id in self._kept]:
                folders = [self._journal.folder(job.id) for job in waiting]
                aborted = await local.run(_aborted, folders)
                for job in waiting:
                    if job.id in aborted and job.status is Status.PENDING:
                        job.abort()

    def _add(self, job: Job) -> None:
        self.registry.add(job)
        self._kept.add(job.id)

    def _forget(self, job: Job) -> None:
        if job.id not in self._kept:
            return  # it was added by others, who keep it nowhere
        self._kept.discard(job.id)
        self._removed[job.id] = trio.Event()
        self._forgotten.send_nowait(job.id)

    async def _gone(self, job_id: str) -> None:
        """Return when the folder of a job that was forgotten is gone."""
        removed = self._removed.get(job_id)
        if removed is not None:
            await removed.wait()

    async def _remove_forgotten(self) -> None:
        async for job_id in self._to_remove:
            try:
                await local.run(self._journal.folder(job_id).remove)
            except OSError as e:
                log.error("job not removed", job=job_id, error=str(e))
            finally:
                self._removed.pop(job_id).set()


def result(ending: Ending) -> dict[str, Any] | None:
    """What the job's work returns, or raises, for an ending."""
    if ending.status is Status.DONE:
        return ending.result
    error = None if ending.error is None else Reported(ending.error)
    if ending.status is Status.ABORTED:
        raise BaseExceptionGroup("aborted", [ActionStopped(), *([error] if error else [])])
    raise error or Error


def restored(spec: Spec, ending: Ending) -> Job:
    """The job as it ended in a former life of the agent."""
    times = {"created": spec.created, "started": ending.started, "ended": ending.ended}
    return Job.restored(
        str(spec.job_id),
        description=spec.description,
        status=ending.status,
        result=ending.result,
        error=None if ending.error is None else Reported(ending.error),
        progress=Progress(ending.percent, ending.bytes, ending.total_bytes),
        times={name: time for name, time in times.items() if time is not None},
    )


def _aborted(folders: list[Folder]) -> set[str]:
    """The ids of those that were; of one that cannot be looked at nothing is known yet."""
    found = set()
    for folder in folders:
        with suppress(OSError, msgspec.MsgspecError):
            ending = folder.ending()
            found |= {folder.job_id} if ending and ending.status is Status.ABORTED else set()
    return found


def _spec_of_living(folder: Folder) -> Spec | None:
    """None: no process does this job, or what it does cannot be read."""
    try:
        # Begun, so that nobody takes it for one that is still to be given a worker.
        return folder.spec() if folder.begun and folder.alive else None
    except (OSError, msgspec.MsgspecError) as e:
        log.warning("job of another process not followed", job=folder.job_id, error=str(e))
        return None


@asynccontextmanager
async def agent(
    journal: Journal,
    *,
    concurrency: int,
    total: int | None = None,
    autodelete: float,
) -> AsyncGenerator[Agent]:
    """The agent, running for the body. total: bytes per second of all its jobs together.

    Raises AcquireLockFailure (651): the journal has an agent.
    """
    async with _owned(journal), spawner() as warm, background() as nursery:
        made = Agent(journal, Queue(concurrency, total=total), warm, autodelete)
        await made.restore()
        nursery.start_soon(made.run)
        yield made


@asynccontextmanager
async def _owned(journal: Journal) -> AsyncGenerator[None]:
    """No other agent uses the journal in the body."""
    fd = await _locked(journal)
    try:
        yield
    finally:
        os.close(fd)


async def _locked(journal: Journal) -> int:
    deadline = trio.current_time() + LOCK_TIME
    while True:
        try:
            return await local.run(journal.lock)
        except AcquireLockFailure:  # one that was killed is just going, perhaps
            if trio.current_time() > deadline:
                raise
        await trio.sleep(_LOOK)
