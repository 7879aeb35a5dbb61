"""The queue: which job runs next, and how many at once."""

import heapq
import itertools

import trio

from jobs.bandwidth import share
from jobs.job import Job
from jobs.status import Status

CONCURRENCY = 2  # copies at once; more of them mostly wait for the same disks


class Queue:
    """Runs jobs, the highest priority first, those of one priority in the order they came.

    A job that is aborted while it waits never runs. A job that waits holds nothing.
    Not thread safe: it belongs to the trio thread.
    """

    def __init__(self, concurrency: int = CONCURRENCY, *, total: int | None = None) -> None:
        """total: bytes per second of all jobs together. Raises ValueError: none at once."""
        self.total = total
        self.running = 0
        self._concurrency = 0
        self._order = itertools.count()
        self._waiting: list[tuple[int, int, Job]] = []
        self._adopted: list[Job] = []
        self._paused = False
        self._changed = trio.Event()
        self.concurrency = concurrency

    @property
    def concurrency(self) -> int:
        """How many run at once. Lowered, it stops no job that runs already."""
        return self._concurrency

    @concurrency.setter
    def concurrency(self, number: int) -> None:
        if number < 1:
            raise ValueError(f"a queue that runs {number} jobs at once runs none")
        self._concurrency = number
        self._change()

    @property
    def paused(self) -> bool:
        """Does it start no job? Those that run go on."""
        return self._paused

    @paused.setter
    def paused(self, paused: bool) -> None:
        self._paused = paused
        self._change()

    @property
    def waiting(self) -> tuple[Job, ...]:
        """The jobs that wait, in the order in which they will run."""
        return tuple(job for *_, job in sorted(self._waiting) if job.status is Status.PENDING)

    def limit(self, own: int | None = None) -> int | None:
        """The limit to begin a job with, in bytes per second; own: what it is limited to itself."""
        return share(own, self.total, self._concurrency)

    def submit(self, job: Job, *, priority: int = 0) -> None:
        """Run `job` when its turn comes; a higher `priority` goes first."""
        heapq.heappush(self._waiting, (-priority, next(self._order), job))
        self._change()

    def adopt(self, job: Job) -> None:
        """Run `job` at once, for its work goes on already: paused or not, beyond the number too."""
        self._adopted.append(job)
        self._change()

    async def drained(self) -> None:
        """Return when none runs; pause the queue before."""
        while self.running or self._adopted:
            await self._changed.wait()

    async def run(self) -> None:
        """Run what is submitted, until cancelled; then the jobs that run are cancelled as well."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed  # from now on
                while job := self._next():
                    self.running += 1
                    nursery.start_soon(self._run, job, name=f"job {job.id}")
                await changed.wait()

    def _next(self) -> Job | None:
        """The job to be started now."""
        if self._adopted:
            return self._adopted.pop()
        if self._paused or self.running >= self._concurrency:
            return None
        while self._waiting:
            *_, job = heapq.heappop(self._waiting)
            if job.status is Status.PENDING:  # else aborted while it waited
                return job
        return None

    async def _run(self, job: Job) -> None:
        try:
            await job.run()
        finally:
            self.running -= 1
            self._change()

    def _change(self) -> None:
        """Wake all who wait; those who come now wait for the next change."""
        self._changed.set()
        self._changed = trio.Event()
