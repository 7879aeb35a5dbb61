"""The registry finds, forgets and tells."""

from collections.abc import Iterable
from typing import Any

import pytest
import trio

from jobs.job import Job, Report, Status
from jobs.registry import Registry
from protocol.errors import JobExists, JobNotActive, JobNotDone, NoSuchJob


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def nothing(report: Report) -> dict[str, Any]:
    return {}


async def waiting(report: Report) -> None:
    await trio.sleep_forever()


def a_job(job_id: str, job_type: str = "storage") -> Job:
    return Job(job_id, nothing, description="", job_type=job_type)


def ids(jobs: Iterable[Job]) -> list[str]:
    return [job.id for job in jobs]


def test_a_second_job_with_one_id_is_refused_even_after_the_first_ended() -> None:
    registry = Registry()
    registry.add(a_job("a"))
    with pytest.raises(JobExists) as e:
        registry.add(a_job("a"))
    assert e.value.code == 69
    registry.abort("a")
    with pytest.raises(JobExists):
        registry.add(a_job("a"))


def test_list_ands_its_filters_and_does_not_mind_unknown_ids() -> None:
    registry = Registry()
    for job in (a_job("a"), a_job("b", "other"), a_job("c")):
        registry.add(job)
    assert ids(registry.list()) == ["a", "b", "c"]
    assert ids(registry.list("storage")) == ["a", "c"]
    assert ids(registry.list(job_ids=["c", "nobody", "b", "c"])) == ["c", "b"]
    assert ids(registry.list("storage", ["b", "c"])) == ["c"]


async def test_jobs_that_are_active_cannot_be_deleted(nursery: trio.Nursery) -> None:
    registry = Registry()
    job = Job("a", waiting, description="")
    registry.add(job)
    with pytest.raises(JobNotDone):
        registry.delete("a")
    nursery.start_soon(job.run)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(JobNotDone):
        registry.delete("a")
    registry.abort("a")
    with pytest.raises(JobNotDone) as e:
        registry.delete("a")
    assert e.value.code == 68
    await job.wait()
    registry.delete("a")
    assert registry.list() == ()


def test_what_is_asked_of_an_unknown_job_is_an_error_66() -> None:
    registry = Registry()
    for verb in (registry.get, registry.abort, registry.delete):
        with pytest.raises(NoSuchJob) as e:
            verb("nobody")
        assert e.value.code == 66


def test_abort_after_the_end_is_an_error_84() -> None:
    registry = Registry()
    registry.add(a_job("a"))
    registry.abort("a")
    with pytest.raises(JobNotActive) as e:
        registry.abort("a")
    assert e.value.code == 84


async def test_start_runs_the_job_and_its_failure_stays_its_own() -> None:
    async def failing(report: Report) -> None:
        raise OSError("mine")

    registry = Registry()
    async with trio.open_nursery() as nursery:
        registry.start(Job("a", failing, description=""), nursery)
        registry.start(a_job("b"), nursery)
    assert [job.status for job in registry.list()] == [Status.FAILED, Status.DONE]


async def test_jobs_that_ended_are_forgotten_after_their_time() -> None:
    clock = Clock()
    registry = Registry(clock, autodelete=10.0)
    done, pending = a_job("a"), a_job("b")
    registry.add(done)
    registry.add(pending)
    await done.run()
    clock.seconds = 9.9
    assert ids(registry.list()) == ["a", "b"]
    clock.seconds = 10.0
    assert ids(registry.list()) == ["b"]
    with pytest.raises(NoSuchJob):
        registry.get("a")
    registry.add(a_job("a"))


async def test_a_new_job_with_a_used_id_is_not_forgotten_in_the_place_of_the_old() -> None:
    clock = Clock()
    registry = Registry(clock, autodelete=10.0)
    registry.add(old := a_job("a"))
    await old.run()
    registry.delete("a")
    registry.add(a_job("a"))
    clock.seconds = 100.0
    assert ids(registry.list()) == ["a"]


async def test_autodelete_below_zero_means_never() -> None:
    clock = Clock()
    registry = Registry(clock, autodelete=-1)
    registry.add(job := a_job("a"))
    await job.run()
    clock.seconds = 1e12
    assert ids(registry.list()) == ["a"]


async def test_subscribers_see_every_move() -> None:
    registry = Registry()
    async with registry.subscribe() as events:
        job = Job("a", waiting, description="")
        async with trio.open_nursery() as nursery:
            registry.start(job, nursery)
            await trio.testing.wait_all_tasks_blocked()
            registry.abort("a")
        seen = [events.receive_nowait() for _ in range(3)]
    assert [topic for topic, _ in seen] == ["|jobs|status|a"] * 3
    assert [info["status"] for _, info in seen] == ["running", "aborting", "aborted"]


async def test_a_subscriber_that_does_not_read_loses_events_and_blocks_nobody() -> None:
    registry = Registry()
    slow, fast = registry.subscribe(backlog=1), registry.subscribe()
    for job_id in "abc":
        registry.add(job := a_job(job_id))
        await job.run()
        assert job.status is Status.DONE
    assert slow.statistics().current_buffer_used == 1
    assert fast.statistics().current_buffer_used == 6
    slow.close()
    registry.add(a_job("d"))
    registry.abort("d")
    assert fast.statistics().current_buffer_used == 7
    assert registry.lost == 5  # of those it still had when it left
    fast.close()


async def test_watchers_are_called_after_each_move_of_each_job() -> None:
    registry, seen = Registry(), list[tuple[str, Status]]()
    registry.watch(lambda job: seen.append((job.id, job.status)))
    for job_id in "ab":
        registry.add(job := a_job(job_id))
        await job.run()
    ends = (Status.RUNNING, Status.DONE)
    assert seen == [(job_id, status) for job_id in "ab" for status in ends]


async def test_pages_come_in_order_and_pass_the_filters() -> None:
    registry = Registry()
    for number in range(7):
        registry.add(a_job(str(number), "storage" if number % 2 else "other"))
    registry.get("3").abort()
    assert ids(registry.page(limit=3)) == ["0", "1", "2"]
    assert ids(registry.page(offset=3, limit=3)) == ["3", "4", "5"]
    assert ids(registry.page(offset=6)) == ["6"]
    assert registry.page(offset=7) == ()
    assert ids(registry.page(job_type="storage")) == ["1", "3", "5"]
    assert ids(registry.page(statuses={Status.ABORTED})) == ["3"]
    assert registry.page(statuses={Status.ABORTED}, job_type="other") == ()


async def test_who_keeps_the_jobs_is_told_of_each_that_is_forgotten() -> None:
    clock, told = Clock(), list[str]()
    registry = Registry(clock, autodelete=10, forgotten=lambda job: told.append(job.id))
    for job_id in "abc":
        registry.add(job := a_job(job_id))
        await job.run()
    registry.delete("b")
    assert told == ["b"]
    clock.seconds = 10
    assert registry.list() == ()
    assert told == ["b", "a", "c"]
    with pytest.raises(NoSuchJob):
        registry.delete("b")
    assert told == ["b", "a", "c"]


async def test_a_job_that_had_ended_when_it_came_is_forgotten_after_its_time() -> None:
    clock, told = Clock(), list[str]()
    registry = Registry(clock, autodelete=10, forgotten=lambda job: told.append(job.id))
    job = a_job("a")
    await job.run()
    registry.add(job)
    clock.seconds = 9
    assert ids(registry.list()) == ["a"]
    clock.seconds = 10
    assert registry.list() == ()
    assert told == ["a"]
