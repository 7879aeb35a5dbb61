"""The registry: every job of this process by id, its events, and its clean-up."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any

import trio

from jobs.job import Job
from jobs.status import Status
from protocol.errors import JobExists, JobNotDone, NoSuchJob

log = logging.getLogger(__name__)

Event = tuple[str, dict[str, Any]]  # ("|jobs|status|<id>", info of the job after the move)

AUTODELETE = 3600.0
BACKLOG = 1000
PAGE = 100


class Registry:
    """Jobs by id. `now` is a clock that never jumps, in seconds; it measures age only.

    autodelete: seconds after which a job that has ended is forgotten; negative: never. Nothing runs
    in the background for it: the jobs that are due are dropped on the next call, oldest first.
    """

    def __init__(
        self,
        now: Callable[[], float] = time.monotonic,
        autodelete: float = AUTODELETE,
        forgotten: Callable[[Job], None] = lambda job: None,
    ) -> None:
        """forgotten: told of each job that was deleted, or dropped after its time."""
        self._now = now
        self._autodelete = math.inf if autodelete < 0 else autodelete
        self._forgotten = forgotten
        self._jobs: dict[str, Job] = {}
        self._ended: deque[tuple[float, Job]] = deque()
        self._subscribers: list[trio.MemorySendChannel[Event]] = []
        self._watchers: list[Callable[[Job], None]] = []
        self.lost = 0  # events that subscribers had no room for

    def add(self, job: Job) -> None:
        """Take `job` in. JobExists (69): its id is in use, if only by a job that has ended."""
        self._forget_old()
        if job.id in self._jobs:
            raise JobExists(job.id)
        self._jobs[job.id] = job
        job.watch(self._moved)
        if job.status.ended:
            self._ended.append((self._now(), job))

    def start(self, job: Job, nursery: trio.Nursery) -> None:
        """Add `job` and run it in `nursery`."""
        self.add(job)
        nursery.start_soon(job.run, name=f"job {job.id}")

    def get(self, job_id: str) -> Job:
        """NoSuchJob (66): unknown, deleted, or forgotten after its time."""
        self._forget_old()
        try:
            return self._jobs[job_id]
        except KeyError:
            raise NoSuchJob(job_id) from None

    def list(self, job_type: str | None = None, job_ids: Iterable[str] = ()) -> tuple[Job, ...]:
        """The jobs that pass both filters; unknown ids are silently absent.

        An empty filter lets everything pass. With ids the cost is that of the ids, however many
        jobs are held.
        """
        self._forget_old()
        wanted = dict.fromkeys(job_ids)
        ids = wanted or self._jobs
        found = (self._jobs[job_id] for job_id in ids if job_id in self._jobs)
        return tuple(job for job in found if not job_type or job.job_type == job_type)

    def page(
        self,
        *,
        offset: int = 0,
        limit: int = PAGE,
        job_type: str | None = None,
        statuses: Collection[Status] = (),
    ) -> tuple[Job, ...]:
        """At most `limit` jobs after the first `offset`, in the order in which they came.

        An empty filter lets everything pass. A job that is forgotten meanwhile moves the rest up.
        """
        self._forget_old()
        found = (
            job
            for job in self._jobs.values()
            if (not job_type or job.job_type == job_type)
            and (not statuses or job.status in statuses)
        )
        return tuple(islice(found, offset, offset + limit))

    def abort(self, job_id: str) -> None:
        """NoSuchJob (66); JobNotActive (84)."""
        self.get(job_id).abort()

    def delete(self, job_id: str) -> None:
        """Forget a job that has ended. NoSuchJob (66); JobNotDone (68)."""
        job = self.get(job_id)
        if not job.status.ended:
            raise JobNotDone(job_id, job.status.value)
        del self._jobs[job_id]
        self._forgotten(job)

    def subscribe(self, backlog: int = BACKLOG) -> trio.MemoryReceiveChannel[Event]:
        """A channel that gets an Event for every move of every job; close it to end that.

        A subscriber that leaves more than `backlog` events unread loses the newest: no job ever
        waits for a reader. Events are hints; list() is the truth.
        """
        send, receive = trio.open_memory_channel[Event](backlog)
        self._subscribers.append(send)
        return receive

    def watch(self, watcher: Callable[[Job], None]) -> None:
        """Call `watcher` after every move of every job; it must not block and must not raise."""
        self._watchers.append(watcher)

    def _moved(self, job: Job) -> None:
        if self._jobs.get(job.id) is not job:
            return  # deleted before
        if job.status.ended:
            self._ended.append((self._now(), job))
        for watcher in self._watchers:
            watcher(job)
        event = (f"|jobs|status|{job.id}", job.info())
        self._subscribers = [send for send in self._subscribers if self._sent(send, event)]

    def _forget_old(self) -> None:
        due = self._now() - self._autodelete
        while self._ended and self._ended[0][0] <= due:
            _, job = self._ended.popleft()
            if self._jobs.get(job.id) is job:  # else deleted, and the id perhaps used again
                del self._jobs[job.id]
                self._forgotten(job)

    def _sent(self, send: trio.MemorySendChannel[Event], event: Event) -> bool:
        """Hand `event` over; False when the subscriber is gone."""
        try:
            send.send_nowait(event)
        except trio.WouldBlock:
            self.lost += 1
            log.warning("a subscriber does not keep up and lost %s", event[0])
        except trio.BrokenResourceError:
            send.close()
            return False
        return True
