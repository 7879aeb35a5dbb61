"""The queue: order, concurrency, and jobs that are aborted before their turn."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobs.job import Job, Report
from jobs.queue import Queue
from jobs.status import Status


class Gate:
    """Work that runs until it is let go, and tells who runs."""

    def __init__(self) -> None:
        self.running: list[str] = []
        self.begun: list[str] = []
        self.most = 0
        self._open: dict[str, trio.Event] = {}

    def job(self, id: str) -> Job:
        async def work(report: Report) -> dict[str, Any] | None:
            self.begun.append(id)
            self.running.append(id)
            self.most = max(self.most, len(self.running))
            try:
                await self._open.setdefault(id, trio.Event()).wait()
            finally:
                self.running.remove(id)
            return None

        return Job(id, work, description=id)

    def let_go(self, id: str) -> None:
        self._open.setdefault(id, trio.Event()).set()


@asynccontextmanager
async def at_work(queue: Queue) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        yield
        nursery.cancel_scope.cancel()


@pytest.fixture
def gate() -> Gate:
    return Gate()


async def test_no_more_than_the_limit_run_at_once(gate: Gate) -> None:
    queue = Queue(2)
    async with at_work(queue):
        for id in "abcd":
            queue.submit(gate.job(id))
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["a", "b"]
        gate.let_go("a")
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["b", "c"]
        assert [job.id for job in queue.waiting] == ["d"]


async def test_the_higher_priority_goes_first_then_who_came_first(gate: Gate) -> None:
    queue = Queue(1)
    for id, priority in [("a", 0), ("b", 5), ("c", 0), ("d", 5), ("e", -1)]:
        queue.submit(gate.job(id), priority=priority)
        gate.let_go(id)
    assert [job.id for job in queue.waiting] == ["b", "d", "a", "c", "e"]
    async with at_work(queue):
        await wait_all_tasks_blocked()
    assert gate.begun == ["b", "d", "a", "c", "e"]


async def test_a_job_aborted_while_it_waits_never_runs_and_holds_nobody_up(gate: Gate) -> None:
    queue = Queue(1)
    async with at_work(queue):
        jobs = [gate.job(id) for id in "abc"]
        for job in jobs:
            queue.submit(job)
        await wait_all_tasks_blocked()
        jobs[1].abort()
        assert jobs[1].status is Status.ABORTED
        gate.let_go("a")
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["c"]
    assert gate.begun == ["a", "c"]


async def test_a_job_that_fails_gives_its_place_to_the_next(gate: Gate) -> None:
    async def work(report: Report) -> None:
        raise OSError("broken")

    queue = Queue(1)
    async with at_work(queue):
        broken = Job("broken", work, description="broken")
        queue.submit(broken)
        queue.submit(gate.job("a"))
        await wait_all_tasks_blocked()
        assert broken.status is Status.FAILED
        assert sorted(gate.running) == ["a"]


async def test_the_limit_can_be_changed_while_jobs_run(gate: Gate) -> None:
    queue = Queue(1)
    async with at_work(queue):
        for id in "abc":
            queue.submit(gate.job(id))
        queue.concurrency = 3
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["a", "b", "c"]
        queue.concurrency = 1
        queue.submit(gate.job("d"))
        gate.let_go("a")
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["b", "c"]
    with pytest.raises(ValueError, match="0 jobs"):
        queue.concurrency = 0


@pytest.mark.parametrize("seed", range(5))
async def test_random_aborts_never_break_the_limit_or_lose_a_job(gate: Gate, seed: int) -> None:
    dice = random.Random(seed)
    queue = Queue(3)
    jobs = [gate.job(str(number)) for number in range(60)]
    async with at_work(queue):
        for job in jobs:
            queue.submit(job, priority=dice.randrange(3))
            for other in dice.sample(jobs, 2):
                if other.status in (Status.PENDING, Status.RUNNING) and dice.random() < 0.3:
                    other.abort()
                elif other.status is Status.RUNNING:
                    gate.let_go(other.id)
            if dice.random() < 0.5:
                await wait_all_tasks_blocked()
        for job in jobs:
            gate.let_go(job.id)
        await wait_all_tasks_blocked()
        assert all(job.status in (Status.DONE, Status.ABORTED) for job in jobs)
        assert queue.running == 0
    assert gate.most <= 3


async def test_a_paused_queue_starts_nothing_and_what_runs_goes_on(gate: Gate) -> None:
    queue = Queue(2)
    async with at_work(queue):
        queue.submit(gate.job("a"))
        await wait_all_tasks_blocked()
        queue.paused = True
        queue.submit(gate.job("b"))
        await wait_all_tasks_blocked()
        assert (queue.paused, gate.running, [job.id for job in queue.waiting]) == (
            True,
            ["a"],
            ["b"],
        )
        queue.paused = False
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["a", "b"]


async def test_a_drained_queue_runs_nothing(gate: Gate) -> None:
    queue = Queue(2)
    drained = trio.Event()
    async with at_work(queue), trio.open_nursery() as nursery:

        @nursery.start_soon
        async def drain() -> None:
            await queue.drained()
            drained.set()

        queue.adopt(gate.job("a"))
        queue.submit(gate.job("b"))
        await wait_all_tasks_blocked()
        queue.paused = True
        queue.submit(gate.job("c"))
        await wait_all_tasks_blocked()
        gate.let_go("a")
        await wait_all_tasks_blocked()
        assert not drained.is_set()
        gate.let_go("b")
        await wait_all_tasks_blocked()
        assert drained.is_set()
        assert sorted(gate.begun) == ["a", "b"]


async def test_an_idle_queue_is_drained_at_once() -> None:
    queue = Queue(1)
    async with at_work(queue):
        with trio.fail_after(20):
            await queue.drained()


async def test_who_waits_for_a_queue_that_nobody_runs_sleeps(gate: Gate) -> None:
    queue, drained = Queue(1), trio.Event()

    async def drain() -> None:
        await queue.drained()
        drained.set()

    async with trio.open_nursery() as nursery:
        queue.adopt(gate.job("a"))
        nursery.start_soon(drain)
        with trio.fail_after(20):
            await wait_all_tasks_blocked()  # one that spins never is
        assert not drained.is_set()
        gate.let_go("a")
        async with at_work(queue):
            with trio.fail_after(20):
                await drained.wait()


async def test_an_adopted_job_waits_for_nothing_and_counts(gate: Gate) -> None:
    queue = Queue(1)
    queue.paused = True
    async with at_work(queue):
        for id in "ab":
            queue.adopt(gate.job(id))
        queue.submit(gate.job("c"))
        await wait_all_tasks_blocked()
        assert sorted(gate.running) == ["a", "b"]
        queue.paused = False
        gate.let_go("a")
        await wait_all_tasks_blocked()
        assert gate.running == ["b"]  # there is still one
        gate.let_go("b")
        await wait_all_tasks_blocked()
        assert gate.running == ["c"]
