"""The worker: one process, one job, one lease. It needs no agent to end its job well.

It is forked by host/spawner.py with its lock taken, its socket listening and STOPPING blocked.
"""

import logging
import signal
import socket
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import trio
from structlog.contextvars import bind_contextvars

from host import subject, talk
from host.copying import copied
from host.folder import Ending, Folder, Spec
from jobs.job import Job
from jobs.status import Status
from protocol.errors import JobNotActive, LeaseLost, SanlockLVBError, to_rpc

log = logging.getLogger(__name__)

NAME = "leasehold-job"  # of the process, as ps and /proc/PID/comm show it
STOPPING = (signal.SIGTERM, signal.SIGINT)
INTERVAL = 0.2  # seconds between two states that are told
LAST_WORDS = 2.0  # seconds for the ending to be told; it stands in the journal anyway


def main(folder: Folder, listener: socket.socket, limit: int | None) -> None:
    """Do the job of `folder` to its end, and write that down.

    limit: bytes per second; None: that of its specification.
    """
    _settle()
    spec = folder.spec()
    spec = msgspec.structs.replace(spec, limit=limit or spec.limit)
    _log_for(spec)
    trio.run(_worker, folder, spec, listener)


def _settle() -> None:
    """Be a process of our own, not a part of the agent's."""
    with suppress(OSError):
        Path("/proc/self/comm").write_text(NAME)
    with suppress(OSError):
        _unprotect(Path("/proc/self/oom_score_adj"))


def _unprotect(score: Path) -> None:
    """What protects the agent must not protect a tool that eats the memory of the host.

    Source: proc(5), oom_score_adj.
    """
    if int(score.read_text()) < 0:
        score.write_text("0")


def _log_for(spec: Spec) -> None:
    """Name the job in every line, and its lease; how lines look the warm parent has set."""
    bind_contextvars(**subject.of_job(spec))


async def _worker(folder: Folder, spec: Spec, listener: socket.socket) -> None:
    job = _job(spec)
    stop = _Stop(job)
    # sanlock asks with SIGTERM when the lockspace is lost, systemd when the host goes down. A
    # terminal that is closed is none of our business.
    with trio.open_signal_receiver(*STOPPING, signal.SIGHUP) as asked:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey, stop, asked)
            await _done(folder, job, stop, listener)
            nursery.cancel_scope.cancel()


async def worked(folder: Folder, spec: Spec, listener: socket.socket) -> None:
    """Do the job in this process, which obeys signals by itself, and tell of it as a worker does.

    In the main thread. The lock of the folder is taken, and kept by the caller.
    """
    job = _job(spec)
    await _done(folder, job, _Stop(job), listener)


def _job(spec: Spec) -> Job:
    return Job(str(spec.job_id), lambda report: copied(spec, report), description=spec.description)


async def _done(folder: Folder, job: Job, stop: "_Stop", listener: socket.socket) -> None:
    server = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
    teller = _Teller(job, stop)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, teller.talk, [server])
        await job.run()
        ending = _ending(job, stop)
        # Before it is told: the agent may forget the job as soon as it knows.
        await trio.to_thread.run_sync(_write, folder, ending)
        teller.end(ending)
        with trio.move_on_after(LAST_WORDS):
            await teller.told()
        nursery.cancel_scope.cancel()


def _write(folder: Folder, ending: Ending) -> None:
    try:
        folder.end(ending)
    except OSError as e:
        # The agent is told all the same; without one the lease says it.
        log.error("job %s: its ending cannot be written: %s", folder.job_id, e)


class _Stop:
    """Who wants the job to stop."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._first: int | None = None

    def ask(self, signal: int = 0) -> None:
        """signal: that asked; 0: the agent did."""
        if self._first is None:
            self._first = signal
        try:
            self._job.abort()
        except JobNotActive:
            log.info("job %s: asked to stop when it had ended", self._job.id)

    @property
    def by_sanlock(self) -> bool:
        """Was it the sanlock daemon? It sends SIGTERM to all jobs of a host that has lost the
        storage of its leases: nobody has aborted them. The agent, which sees that the job is being
        stopped, comes second. Source: sanlock(8)."""
        lost = isinstance(self._job.error, LeaseLost | SanlockLVBError)
        return lost and self._first == signal.SIGTERM


async def _obey(stop: _Stop, asked: AsyncIterator[int]) -> None:
    async for number in asked:
        if number in STOPPING:
            stop.ask(number)


def _ending(job: Job, stop: _Stop) -> Ending:
    info = job.info()
    error = None if job.error is None else to_rpc(job.error)
    failed = job.status is Status.ABORTED and stop.by_sanlock
    return Ending(
        status=Status.FAILED if failed else job.status,
        result=job.result,
        error=error,
        started=info.get("started"),
        ended=info.get("ended", time.time()),
        percent=job.progress.percent,
        bytes=job.progress.bytes,
        total_bytes=job.progress.total_bytes,
    )


class _Teller:
    """Tells everybody who asks how far the job is, and takes orders."""

    def __init__(self, job: Job, stop: _Stop) -> None:
        self._job = job
        self._stop = stop
        self._ending: Ending | None = None
        self._ended = trio.Event()
        self._connections = 0
        self._gone = trio.Event()

    def end(self, ending: Ending) -> None:
        """Tell from now on how the job ended."""
        self._ending = ending
        self._ended.set()

    async def told(self) -> None:
        """Return when everybody who is connected was told the ending."""
        await trio.lowlevel.checkpoint()  # those who have just come
        while self._connections:
            await self._gone.wait()

    async def talk(self, stream: trio.SocketStream) -> None:
        """Serve one connection; whatever comes over it, the job goes on."""
        self._connections += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, stream, nursery.cancel_scope)
                await self._tell(stream)
                nursery.cancel_scope.cancel()
        except* Exception as e:
            log.info("job %s: a connection ended: %s", self._job.id, e.exceptions[0])
        finally:
            self._connections -= 1
            self._gone.set()
            self._gone = trio.Event()

    async def _tell(self, stream: trio.SocketStream) -> None:
        last = b""
        while True:
            ending = self._ending  # one moment for both
            state = talk.State(
                status=self._job.status.value, progress=self._job.progress, ending=ending
            )
            now = talk.line(state)
            if now != last:
                await stream.send_all(now)
                last = now
            if ending is not None:
                return
            with trio.move_on_after(INTERVAL):
                await self._ended.wait()

    async def _listen(self, stream: trio.SocketStream, scope: trio.CancelScope) -> None:
        async for line in talk.Lines(stream):
            msgspec.json.decode(line, type=talk.Order)
            self._stop.ask()
        scope.cancel()
