"""The agent with real copies: every job has a worker of its own, and ends as that says."""

import os
import signal
from typing import Any

import msgspec
import pytest
import trio

from host import agent as module
from host.folder import Ending, Folder, Spec
from host.journal import Journal
from host.spawning import Spawner
from jobs.job import Job, Report, Status
from protocol.errors import (
    AcquireLockFailure,
    JobExists,
    JobNotActive,
    JobNotDone,
    NoSuchJob,
    WorkerNotStarted,
)
from protocol.record import JobStatus
from tests.faults.agents import holder
from tests.faults.command import arguments
from tests.host.jobs import SLOW, Place, code, ended, moving, until_status
from tests.servers import LOOK, WAIT, until, users

pytestmark = pytest.mark.tools("qemu-img")


async def test_a_copy_is_done_by_a_worker(place: Place) -> None:
    async with place.agent() as agent:
        spec = await place.spec(created=12.5)
        job = await agent.submit(spec)
        assert job.info()["created"] == 12.5
        await ended(job, Status.DONE)
        assert place.copied(job.id)
        assert job.result is not None
        assert job.result["bytes"] == place.source.stat().st_size
        await place.assert_recorded(job.id, JobStatus.SUCCEEDED)
    ending = place.journal.folder(job.id).ending()
    assert ending is not None
    assert (ending.status, ending.result) == (Status.DONE, job.result)


async def test_progress_is_told_while_it_copies(place: Place) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await moving(job)
        info = job.info()
        assert (info["status"], info["stage"]) == ("running", "copying")
        assert info["total_bytes"] == place.source.stat().st_size
        await agent.abort(job.id)
        await ended(job, Status.ABORTED)


async def test_the_error_of_a_worker_is_the_error_of_its_job(place: Place) -> None:
    async with place.agent() as agent:
        wanted = await place.wanted()
        wanted["source"]["url"] = str(place.folder / "missing")
        job = await agent.submit(msgspec.convert(wanted, Spec))
        await ended(job, Status.FAILED)
        assert "missing" in str(job.error)
        assert code(job) == job.info()["error"]["code"] != 4121
        await place.assert_recorded(job.id, JobStatus.FAILED)


# --- abort ------------------------------------------------------------------------------------


async def test_an_abort_while_it_waits_ends_it_for_good(place: Place) -> None:
    async with place.agent() as agent:
        agent.queue.paused = True
        job = await agent.submit(await place.spec())
        await agent.abort(job.id)
        assert job.status is Status.ABORTED
        with pytest.raises(JobNotActive):
            await agent.abort(job.id)
    async with place.agent() as agent:
        assert agent.registry.get(job.id).status is Status.ABORTED
    await place.assert_recorded(job.id, JobStatus.PENDING)


@pytest.mark.parametrize("status", [Status.DONE, Status.ABORTED])
async def test_a_job_that_another_process_ends_while_it_waits_is_shown_as_that(
    place: Place, monkeypatch: pytest.MonkeyPatch, status: Status
) -> None:
    looks, look = 0, module._aborted

    def counted(folders: list[Folder]) -> set[str]:
        nonlocal looks
        looks += 1
        return look(folders)

    monkeypatch.setattr(module, "WISH_LOOK", 0.01)
    monkeypatch.setattr(module, "_aborted", counted)
    async with place.agent() as agent:
        agent.queue.paused = True
        job = await agent.submit(await place.spec())
        place.journal.folder(job.id).end(Ending(status=status, ended=1.0, result={"bytes": 0}))
        before = looks
        await until(lambda: looks > before + 1 or job.status.ended)
        assert job.status is (Status.PENDING if status is Status.DONE else status)
        agent.queue.paused = False
        await ended(job, status)


@pytest.mark.parametrize("delay", [0, 0.001, 0.003, 0.006, 0.01, 0.02])
async def test_an_abort_while_its_worker_is_being_started_is_not_lost(
    place: Place, delay: float
) -> None:
    async with place.agent() as agent:
        await ended(await agent.submit(await place.spec()), Status.DONE)  # it is warm
        job = await agent.submit(await place.spec(limit=SLOW))
        await trio.sleep(delay)
        await agent.abort(job.id)
        await ended(job, Status.ABORTED)
        found = await place.copies.status(job.id)
        assert found.metadata is not None
        assert found.metadata["job_status"] in {"PENDING", "FAILED"}
        ending = place.journal.folder(job.id).ending()
        assert ending is not None
        assert ending.status is Status.ABORTED


async def test_an_abort_while_the_warm_parent_is_silent_is_not_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = trio.Event()

    async def silent(self: Spawner, *arguments: object) -> None:
        asked.set()
        await trio.sleep_forever()

    monkeypatch.setattr(Spawner, "start", silent)
    async with place.agent() as agent:
        job = await agent.submit(await place.spec())
        await asked.wait()
        await agent.abort(job.id)
        await ended(job, Status.ABORTED)
    async with place.agent() as agent:
        assert agent.registry.get(job.id).status is Status.ABORTED


async def test_an_abort_while_it_copies_is_recorded(place: Place) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await moving(job)
        await agent.abort(job.id)
        assert job.status is Status.ABORTING
        await agent.abort(job.id)
        await ended(job, Status.ABORTED)
        assert job.error is None
        await place.assert_recorded(job.id, JobStatus.FAILED)


async def test_an_abort_at_the_end_ends_as_the_worker_says(place: Place) -> None:
    async with place.agent() as agent:
        statuses = set()
        for delay in (0.02, 0.025, 0.03, 0.035, 0.04):
            job = await agent.submit(await place.spec())
            await trio.sleep(delay)
            try:
                await agent.abort(job.id)
            except JobNotActive:
                assert job.status is Status.DONE
            with trio.fail_after(WAIT):
                await job.wait()
            expected = {
                Status.DONE: {JobStatus.SUCCEEDED},
                Status.ABORTED: {JobStatus.FAILED, JobStatus.PENDING},
            }[job.status]
            found = await place.copies.status(job.id)
            assert found.metadata is not None
            assert found.metadata["job_status"] in expected
            statuses.add(job.status)
        assert statuses


async def test_a_worker_that_was_asked_by_somebody_else_ends_aborted(place: Place) -> None:
    """SIGTERM: the host goes down, or sanlock lost its storage."""
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await moving(job)
        Worker(place, job.id).terminate()
        await ended(job, Status.ABORTED)
        await place.assert_recorded(job.id, JobStatus.FAILED)


async def test_unknown_and_ended_jobs_are_not_aborted(place: Place) -> None:
    async with place.agent() as agent:
        with pytest.raises(NoSuchJob):
            await agent.abort("unknown")
        job = await agent.submit(await place.spec())
        await ended(job, Status.DONE)
        with pytest.raises(JobNotActive):
            await agent.abort(job.id)


# --- ids, and forgetting ----------------------------------------------------------------------


async def test_an_id_is_used_once_until_it_is_deleted(place: Place) -> None:
    async with place.agent() as agent:
        agent.queue.paused = True
        spec = await place.spec()
        job = await agent.submit(spec)
        with pytest.raises(JobExists):
            await agent.submit(spec)
        with pytest.raises(JobNotDone):
            await agent.delete(job.id)
        await agent.abort(job.id)
        agent.registry.delete(job.id)  # not waited for: its folder is being removed
        agent.queue.paused = False
        await ended(await agent.submit(spec), Status.DONE)  # PENDING and not owned: it may run


async def test_of_many_that_submit_one_id_one_does(place: Place) -> None:
    async with place.agent() as agent:
        agent.queue.paused = True
        spec, refused = await place.spec(), 0

        async def submit() -> None:
            nonlocal refused
            try:
                await agent.submit(spec)
            except JobExists:
                refused += 1

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(submit)
        assert refused == 7
        assert len(agent.registry.list()) == 1


async def test_jobs_of_others_in_the_registry_have_no_folder(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as those that change a volume; one that takes an id at the last moment wins it."""

    async def nothing(report: Report) -> None:
        """It has ended."""

    real = Journal.add

    def overtaken(journal: Journal, spec: Spec) -> Folder:
        folder = real(journal, spec)
        trio.from_thread.run_sync(agent.registry.add, other)
        return folder

    async with place.agent() as agent:
        spec = await place.spec()
        other = Job(str(spec.job_id), nothing, description="")
        monkeypatch.setattr(Journal, "add", overtaken)
        with pytest.raises(JobExists):
            await agent.submit(spec)
        path = place.journal.folder(other.id).path
        assert not path.exists()
        await other.run()
        path.mkdir()
        await agent.delete(other.id)
        monkeypatch.undo()
        job = await agent.submit(await place.spec())
        await ended(job, Status.DONE)
        await agent.delete(job.id)
        assert path.exists()


async def test_a_deleted_job_does_not_come_back(place: Place) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await place.spec())
        await ended(job, Status.DONE)
        await agent.delete(job.id)
        assert not place.journal.folder(job.id).path.exists()
    async with place.agent() as agent:
        assert agent.registry.list() == ()


async def test_a_job_that_is_forgotten_after_its_time_leaves_nothing(place: Place) -> None:
    async with place.agent(autodelete=0) as agent:
        job = await agent.submit(await place.spec())
        await job.wait()
        assert agent.registry.list() == ()
        with trio.fail_after(WAIT):
            while place.journal.folder(job.id).path.exists():  # noqa: ASYNC110
                await trio.sleep(LOOK)


# --- the queue --------------------------------------------------------------------------------


async def test_the_highest_priority_is_started_first_and_no_more_than_allowed(
    place: Place,
) -> None:
    async with place.agent(concurrency=2) as agent:
        agent.queue.paused = True
        order: list[str] = []
        most = 0

        def seen(job: Any) -> None:
            nonlocal most
            most = max(most, agent.queue.running)
            if job.status is Status.RUNNING:
                order.append(job.id)

        jobs = []
        for priority in (0, 5, 0, 9):
            job = await agent.submit(await place.spec(priority=priority))
            job.watch(seen)
            jobs.append(job)
        await trio.sleep(0.05)
        assert {job.status for job in jobs} == {Status.PENDING}
        agent.queue.paused = False
        for job in jobs:
            await ended(job, Status.DONE)
        first, last = [jobs[3].id, jobs[1].id], [jobs[0].id, jobs[2].id]
        assert (set(order[:2]), set(order[2:])) == (set(first), set(last))
        assert most == 2


async def test_the_order_outlives_the_agent(place: Place) -> None:
    async with place.agent() as agent:
        agent.queue.paused = True
        times = {0: 9.0, 1: 5.0, 2: 7.0}
        ids = [
            (await agent.submit(await place.spec(priority=int(n == 2), created=times[n]))).id
            for n in range(3)
        ]
    async with place.agent(concurrency=1) as agent:
        assert [job.id for job in agent.queue.waiting] == [ids[2], ids[0], ids[1]]
        for job_id in ids:
            await ended(agent.registry.get(job_id), Status.DONE)


async def test_draining_waits_for_what_runs_and_starts_nothing(place: Place) -> None:
    async with place.agent(concurrency=1) as agent:
        running = await agent.submit(await place.spec(limit=SLOW << 3))
        waiting = await agent.submit(await place.spec())
        await until_status(running, Status.RUNNING)
        agent.queue.paused = True
        with trio.fail_after(WAIT):
            await agent.queue.drained()
        assert (running.status, waiting.status) == (Status.DONE, Status.PENDING)
        agent.queue.paused = False
        await ended(waiting, Status.DONE)


async def test_a_drained_agent_starts_no_job_in_its_next_life_either(place: Place) -> None:
    async with place.agent() as agent:
        await agent.drain()
        waiting = await agent.submit(await place.spec())
    async with place.agent() as agent:
        late = await agent.submit(await place.spec())
        await trio.testing.wait_all_tasks_blocked()
        assert {job.status for job in agent.registry.list()} == {Status.PENDING}
        await agent.resume()
        for job_id in (waiting.id, late.id):
            await ended(agent.registry.get(job_id), Status.DONE)
    async with place.agent() as agent:
        await ended(await agent.submit(await place.spec()), Status.DONE)


async def test_a_drain_that_cannot_be_written_down_is_told_and_stops_the_queue_all_the_same(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(journal: Journal) -> None:
        raise OSError(28, "No space left on device")

    async with place.agent() as agent:
        monkeypatch.setattr(Journal, "drain", full)
        with pytest.raises(OSError, match="No space"):
            await agent.drain()
        assert agent.queue.paused
        monkeypatch.setattr(Journal, "resume", full)
        with pytest.raises(OSError, match="No space"):
            await agent.resume()
        assert agent.queue.paused


async def test_drains_and_resumes_end_as_the_last_one_said(place: Place) -> None:
    async with place.agent() as agent:
        async with trio.open_nursery() as nursery:
            for change in (agent.drain, agent.resume, agent.drain, agent.resume, agent.drain):
                nursery.start_soon(change)
        assert agent.queue.paused == place.journal.drained


async def test_all_jobs_share_the_bandwidth_of_the_host(place: Place) -> None:
    async with place.agent(concurrency=2, total=SLOW << 1) as agent:
        own = await agent.submit(await place.spec(limit=SLOW >> 1))
        shared = await agent.submit(await place.spec())
        await moving(own)
        await moving(shared)
        assert f"x-bps-total={SLOW >> 1} " in tool(place, own.id)
        assert f"x-bps-total={SLOW} " in tool(place, shared.id)
        for job in (own, shared):
            await agent.abort(job.id)
            await ended(job, Status.ABORTED)


# --- its end, and the next one ----------------------------------------------------------------


async def test_jobs_go_on_when_the_agent_stops_and_the_next_one_finds_them(place: Place) -> None:
    async with place.agent() as agent:
        left = await agent.submit(await place.spec(limit=SLOW << 2))
        await moving(left)
        started = left.info()["started"]
    assert left.status is Status.RUNNING
    async with place.agent() as agent:
        job = agent.registry.get(left.id)
        await moving(job)
        assert abs(job.info()["started"] - started) < 1
        assert job.info()["created"] == left.info()["created"]
        await ended(job, Status.DONE)
        assert place.copied(job.id)


async def test_an_agent_that_stops_during_an_abort_does_not_wait_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await moving(job)
        pid = Worker(place, job.id)
        pid.stop()
        try:
            await agent.abort(job.id)
            await trio.sleep(0.05)
            assert job.status is Status.ABORTING
            with trio.move_on_after(5) as stopping:
                await stopped(agent)
            assert not stopping.cancelled_caught
            assert job.status is Status.ABORTING  # nobody is told of an end that was not seen
        finally:
            pid.go_on()


async def stopped(agent: module.Agent) -> None:
    """A second life of what runs the agent, ended at once: it has nothing to do but this job."""
    agent._shield._leaving = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(agent._shield.watch)
        await trio.lowlevel.checkpoint()
        nursery.cancel_scope.cancel()


async def test_jobs_that_ended_in_a_former_life_are_shown_as_they_ended(place: Place) -> None:
    async with place.agent() as agent:
        done = await agent.submit(await place.spec())
        wanted = await place.wanted()
        wanted["source"]["url"] = "/missing"
        failed = await agent.submit(msgspec.convert(wanted, Spec))
        aborted = await agent.submit(await place.spec(limit=SLOW))
        await moving(aborted)
        await agent.abort(aborted.id)
        for job in (done, failed, aborted):
            await job.wait()
    async with place.agent() as agent:
        for job in (done, failed, aborted):
            again = agent.registry.get(job.id).info()
            before = job.info()
            for time in ("started", "ended"):  # the worker's and the agent's are a moment apart
                assert abs(again.pop(time) - before.pop(time)) < 2
            assert again == before
        assert agent.registry.get(done.id).result == done.result


async def test_an_error_of_the_body_comes_out_as_it_is(place: Place) -> None:
    with pytest.raises(ZeroDivisionError):
        async with place.agent() as agent:
            agent.queue.limit(1 // 0)


async def test_a_second_agent_does_not_touch_the_jobs_of_the_first(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOCK_TIME", 0.1)
    async with place.agent():
        with pytest.raises(AcquireLockFailure, match="another agent"):
            async with place.agent():
                pass


async def test_a_damaged_job_does_not_keep_the_agent_from_starting(place: Place) -> None:
    async with place.agent() as agent:
        agent.queue.paused = True
        broken = await agent.submit(await place.spec())
        waiting = await agent.submit(await place.spec())
        lost = await agent.submit(await place.spec())
        await agent.abort(lost.id)
    (place.journal.folder(broken.id).path / "spec").write_bytes(b"{")
    (place.journal.folder(lost.id).path / "ending").write_bytes(b"{")
    async with place.agent() as agent:
        await ended(agent.registry.get(waiting.id), Status.DONE)
        # It was ended, somehow: it does not run, and its lease says what became of it.
        await ended(agent.registry.get(lost.id), Status.FAILED)
        assert "PENDING" in str(agent.registry.get(lost.id).error)
        with pytest.raises(NoSuchJob):
            agent.registry.get(broken.id)


async def test_a_worker_that_cannot_be_started_fails_its_job_for_good(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(self: Spawner, folder: Any, limit: int | None) -> None:
        raise WorkerNotStarted(folder.job_id, "no more processes")

    monkeypatch.setattr(Spawner, "start", fails)
    async with place.agent() as agent:
        job = await agent.submit(await place.spec())
        await ended(job, Status.FAILED)
        assert code(job) == 4122
    monkeypatch.undo()
    async with place.agent() as agent:
        assert agent.registry.get(job.id).status is Status.FAILED


# --- endings ----------------------------------------------------------------------------------


def test_an_aborted_ending_with_an_error_shows_it() -> None:
    error = {"code": 660, "kind": "ReleaseLockFailure", "message": "m", "data": {}}
    with pytest.raises(BaseExceptionGroup):
        module.result(Ending(status=Status.ABORTED, error=error, ended=1))


@pytest.mark.parametrize("error", [None, {"code": 660, "kind": "K", "message": "m", "data": {}}])
async def test_an_aborted_ending_makes_an_aborted_job(
    place: Place, error: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def aborted(*arguments: object, **options: object) -> Ending:
        return Ending(status=Status.ABORTED, error=error, ended=1)

    monkeypatch.setattr(module, "followed", aborted)
    async with place.agent() as agent:
        job = await agent.submit(await place.spec(limit=SLOW))
        await ended(job, Status.ABORTED)
        assert job.info().get("error") == error


class Worker:
    """The worker of a job, by its folder, whose lock it holds."""

    def __init__(self, place: Place, job_id: str) -> None:
        self.pid = _holder(place.journal, job_id)

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        os.kill(self.pid, number)


def _holder(journal: Journal, job_id: str) -> int:
    return holder(journal.folder(job_id).path / "lock")


def tool(place: Place, job_id: str) -> str:
    """The command line of the tool that copies."""
    found = [arguments(pid) for pid in users(place.target(job_id))]
    [argv] = [argv for argv in found if argv[0].endswith("qemu-img")]
    return " ".join(argv)
