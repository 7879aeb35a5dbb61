"""A job: one piece of work with a status, progress, an abort and an end."""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import trio

from jobs.ending import stopped_by
from jobs.progress import WHOLE, Progress, Report
from jobs.status import NEXT, Status
from protocol.errors import ActionStopped, JobNotActive, to_rpc
from protocol.groups import telling

__all__ = ["Job", "Left", "Progress", "Report", "Status", "Work"]

log = logging.getLogger(__name__)


class Left(Exception):
    """Raised by work that goes on in another process when this one ends."""


Work = Callable[[Report], Awaitable[dict[str, Any] | None]]


class Job:
    """`work` is called once, by run(), with a function that takes its progress.

    What `work` returns is kept in `result`, what it raises in `error`. `now` is the wall clock
    (seconds since the epoch): the times in info() are to be shown, never compared.
    Not thread safe: run, abort and report belong to the trio thread.
    """

    def __init__(
        self,
        id: str,
        work: Work,
        *,
        description: str,
        job_type: str = "storage",
        now: Callable[[], float] = time.time,
        times: Mapping[str, float] | None = None,
    ) -> None:
        """times: created and started, of a job of a former life of this process."""
        self.id = id
        self.description = description
        self.job_type = job_type
        self.status = Status.PENDING
        self.progress = Progress()
        self.result: dict[str, Any] | None = None
        self.error: Exception | None = None
        self._work = work
        self._now = now
        self._times = {"created": now(), **(times or {})}
        self._scope = trio.CancelScope()
        self._reason = f"job {id} aborted"  # names our own cancellation among others
        self._ended = trio.Event()
        self._watchers: list[Callable[[Job], None]] = []

    @classmethod
    def restored(
        cls,
        id: str,
        *,
        description: str,
        status: Status,
        result: dict[str, Any] | None,
        error: Exception | None,
        progress: Progress,
        times: Mapping[str, float],
    ) -> "Job":
        """A job that ended in another life of this process. times: created, started, ended."""
        if not status.ended:
            raise ValueError(f"job {id} has not ended: {status}")
        job = cls(id, _nothing, description=description, times=times)
        job.status, job.result, job.error, job.progress = status, result, error, progress
        job._ended.set()
        return job

    async def run(self) -> None:
        """Do the work; its errors end in `error`, they are not raised.

        A cancellation from outside (shutdown) is not an end of the job: it passes through and
        leaves RUNNING, because what happened to the work is then told by its lease. Left: neither.
        RuntimeError: the job was run before. A job that was aborted while queued does nothing.
        """
        if self.status is Status.ABORTED:
            return
        if self.status is not Status.PENDING:
            raise RuntimeError(f"job {self.id} cannot run: it is {self.status}")
        self._move(Status.RUNNING)
        result, stopped = None, False
        try:
            with self._scope:  # abort() cancels it: works at every await
                try:
                    result = await self._work(self.report)
                except BaseException as e:
                    # Asked here, while our own Cancelled is still in it: the scope removes that.
                    stopped = stopped_by(e, self._reason)
                    raise
        except Left:
            self._log.info("job %s: it goes on without us", self.id)
        except BaseException as e:  # _fail raises what is not for the job to keep
            self._fail(e, stopped=stopped)
        else:
            if self._scope.cancelled_caught:
                self._move(Status.ABORTED)
            else:
                self.result = result
                self._move(Status.DONE)

    def abort(self) -> None:
        """Ask the job to stop; the status tells whether it did.

        Pending: aborted at once. Running: every await of the work is cancelled from now on, so
        asking again while the job is aborting changes nothing that is not under way already.
        JobNotActive (84): the job has ended.
        """
        if self.status is Status.PENDING:
            self._move(Status.ABORTED)
        elif self.status is Status.RUNNING:
            self._move(Status.ABORTING)
            self._scope.cancel(self._reason)
        elif self.status is Status.ABORTING:
            self._log.info("job %s: abort asked again, cleanup still runs", self.id)
        else:
            raise JobNotActive(self.id, self.status.value)

    def report(self, new: Progress) -> None:
        """Take progress from the work; it never runs backwards."""
        self.progress = self.progress.followed_by(new)

    async def wait(self) -> None:
        """Return when the job has ended."""
        await self._ended.wait()

    def watch(self, watcher: Callable[["Job"], None]) -> None:
        """Call `watcher` after every move; it must not block and must not raise."""
        self._watchers.append(watcher)

    def info(self) -> dict[str, Any]:
        """What clients see: id, status, description, job_type, and where known

        progress (0 to 99 whole percent, 100 only when done), error {code, kind, message, data},
        bytes, total_bytes; while active rate (bytes/s), eta (s), stage and stage_progress (its own
        percent); created, started, ended (seconds since the epoch).
        """
        facts = {
            "progress": self._percent(),
            "error": None if self.error is None else to_rpc(self.error),
            "bytes": self.progress.bytes,
            "total_bytes": self.progress.total_bytes,
            **({} if self.status.ended else self._moment()),
            **self._times,
        }
        return {
            "id": self.id,
            "status": self.status.value,
            "description": self.description,
            "job_type": self.job_type,
            **{key: value for key, value in facts.items() if value is not None},
        }

    def _percent(self) -> int | None:
        if self.status is Status.DONE:
            return int(WHOLE)
        percent = self.progress.percent
        return None if percent is None else min(int(percent), int(WHOLE) - 1)

    def _moment(self) -> dict[str, Any]:
        """Facts that mean nothing once the job has ended."""
        now = self.progress
        stage = None if now.stage_percent is None else min(int(now.stage_percent), int(WHOLE))
        return {
            "rate": now.rate,
            "eta": now.eta,
            "stage": now.stage or None,
            "stage_progress": stage,
        }

    def _fail(self, error: BaseException, *, stopped: bool) -> None:
        """Record the end by `error`; raise the part of it that is not for the job to keep."""
        failure, foreign = _split(error)
        if failure is not None:
            self.error = telling(failure)
            if failure is not self.error:
                self._log.info("job %s: %s, chosen of %r", self.id, self.error, failure)
        aborted = self.status is Status.ABORTING and (stopped or failure is None)
        if aborted:
            if isinstance(self.error, ActionStopped):
                self.error = None  # an abort that went as asked is not an error
            self._move(Status.ABORTED)
        elif failure is not None:
            self._move(Status.FAILED)
        if foreign is not None:
            raise foreign

    @property
    def _log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Names the job where logs are structured."""
        return logging.LoggerAdapter(log, {"job": self.id})

    def _move(self, new: Status) -> None:
        """The only writer of `status`."""
        old = self.status
        if new not in NEXT[old]:
            raise RuntimeError(f"job {self.id} cannot go from {old} to {new}")
        self._log.info("job %s: %s -> %s", self.id, old, new)
        self.status = new
        if new is Status.RUNNING:
            self._times.setdefault("started", self._now())
        if new.ended:
            self._times["ended"] = self._now()
            self._ended.set()
        for watcher in self._watchers:
            watcher(self)


async def _nothing(report: Report) -> None:
    """The work of a job that has ended."""


def _split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Divide `error` into what the job keeps and what must pass (Cancelled, KeyboardInterrupt)."""
    if isinstance(error, Exception):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        kept, passing = error.split(Exception)
        return kept, passing  # a split by Exception gives an ExceptionGroup
    return None, error
