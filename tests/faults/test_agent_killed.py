"""SIGKILL of the agent in each state of a job, of workers and of the warm parent: every job ends,
as its lease says."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
import trio

from host.folder import Ending, Folder
from host.journal import Journal
from leases import verbs
from leases.hold import hold
from protocol.record import JobStatus
from tests.faults.agents import AgentDied, AgentProcess, agent_process, comm
from tests.faults.command import children, seen
from tests.faults.peers import Failed
from tests.host.jobs import SLOW, Place
from tests.servers import LOOK, WAIT, until, users

pytestmark = pytest.mark.tools("qemu-img")
SOON = SLOW << 2  # bytes per second: done in two seconds


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    return await Place.made(tmp_path)


@pytest.fixture
async def agent(place: Place) -> AsyncIterator[AgentProcess]:
    with agent_process(place.folder, concurrency=4) as made:
        await made.start()
        yield made


def folder_of(agent: AgentProcess, job_id: str) -> Folder:
    return Journal(agent.jobs).folder(job_id)


def worker_of(agent: AgentProcess, job_id: str) -> int:
    [pid] = [pid for pid in users(folder_of(agent, job_id).path / "lock") if pid in agent.workers]
    return pid


async def copying(agent: AgentProcess, place: Place, job_id: str) -> int:
    """Wait until bytes have moved; the worker."""
    with trio.fail_after(WAIT):
        while not (await agent("infos"))[job_id].get("bytes"):  # noqa: ASYNC110
            await trio.sleep(LOOK)
    return worker_of(agent, job_id)


async def submitted(agent: AgentProcess, place: Place, **options: object) -> str:
    wanted = await place.wanted(**options)
    await agent("submit", wanted)
    return str(wanted["job_id"])


async def again(agent: AgentProcess) -> None:
    await agent.kill()
    await agent.start()


async def assert_ended(agent: AgentProcess, place: Place, job_id: str, status: str) -> str:
    """The job ends so, and its lease agrees; the text of its error."""
    with trio.fail_after(WAIT):
        info = await agent("wait", job_id)
    assert info["status"] == status, info
    if status == "done":
        assert place.copied(job_id)
        await place.assert_recorded(job_id, JobStatus.SUCCEEDED)
    else:
        found = await place.copies.status(job_id)
        assert found.owners == []
        assert found.metadata is not None
        assert found.metadata["job_status"] in {"PENDING", "FAILED"}
    return str(info.get("error", {}).get("message"))


async def assert_stays(agent: AgentProcess, place: Place, job_id: str, status: str) -> None:
    """Another life of the agent says the same."""
    await again(agent)
    await assert_ended(agent, place, job_id, status)


# --- the agent, in each state of a job ----------------------------------------------------------


async def test_a_job_that_waited_runs_in_the_next_life(agent: AgentProcess, place: Place) -> None:
    await agent("pause", True)
    job_id = await submitted(agent, place)
    assert await agent.status(job_id) == "pending"
    await again(agent)
    await assert_ended(agent, place, job_id, "done")


async def test_a_drain_outlives_the_agent_until_it_is_taken_back(
    agent: AgentProcess, place: Place
) -> None:
    running = await submitted(agent, place, limit=SOON)
    await copying(agent, place, running)
    with pytest.raises(Failed, match="NotDrained"):
        await agent("call", "Host.drain", {"timeout": 0})
    waiting = await submitted(agent, place)
    await again(agent)
    await assert_ended(agent, place, running, "done")
    await agent("call", "Host.drain", {})
    assert await agent.status(waiting) == "pending"
    await agent("call", "Host.resume", {})
    await again(agent)
    await assert_ended(agent, place, waiting, "done")


@pytest.mark.sample(4)
@pytest.mark.parametrize("delay", [0, 0.002, 0.004, 0.006, 0.01, 0.015, 0.02, 0.03])
async def test_a_job_whose_worker_was_being_started_ends(
    agent: AgentProcess, place: Place, delay: float
) -> None:
    await assert_ended(agent, place, await submitted(agent, place), "done")  # it is warm
    wanted = await place.wanted()
    job_id = str(wanted["job_id"])
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def submit() -> None:
            with suppress(AgentDied):
                await agent("submit", wanted)

        await trio.sleep(delay)
        assert agent.popen is not None
        agent.popen.kill()
    await again(agent)
    if job_id not in await agent("infos"):  # it was not taken in, and nobody was told it was
        await agent("submit", wanted)
    await assert_ended(agent, place, job_id, "done")


async def test_a_job_that_runs_is_found_again(agent: AgentProcess, place: Place) -> None:
    job_id = await submitted(agent, place, limit=SLOW)
    pid = await copying(agent, place, job_id)
    await again(agent)
    assert await agent.status(job_id) == "running"
    assert await copying(agent, place, job_id) == pid
    await assert_ended(agent, place, job_id, "done")
    await assert_stays(agent, place, job_id, "done")


async def test_an_abort_outlives_the_agent_that_took_it(agent: AgentProcess, place: Place) -> None:
    """Its worker had not heard of it yet: it is stopped."""
    job_id = await submitted(agent, place, limit=SLOW)
    pid = await copying(agent, place, job_id)
    os.kill(pid, signal.SIGSTOP)
    await agent("abort", job_id)
    assert await agent.status(job_id) == "aborting"
    await agent.kill()
    await agent.start()
    await agent.reached(job_id, "aborting")
    os.kill(pid, signal.SIGCONT)
    await assert_ended(agent, place, job_id, "aborted")
    await place.assert_recorded(job_id, JobStatus.FAILED)
    await assert_stays(agent, place, job_id, "aborted")


async def test_a_wish_that_no_worker_heard_is_obeyed(agent: AgentProcess, place: Place) -> None:
    """The agent was killed after it had written the wish down and before it told the worker."""
    job_id = await submitted(agent, place, limit=SLOW)
    await copying(agent, place, job_id)
    await agent.kill()
    folder_of(agent, job_id).ask_abort()
    await agent.start()
    await assert_ended(agent, place, job_id, "aborted")


async def test_a_pending_job_that_was_aborted_never_runs(agent: AgentProcess, place: Place) -> None:
    await agent("pause", True)
    job_id = await submitted(agent, place)
    await agent("abort", job_id)
    await again(agent)
    assert await agent.status(job_id) == "aborted"
    await place.assert_recorded(job_id, JobStatus.PENDING)
    assert not folder_of(agent, job_id).begun


async def test_jobs_that_end_without_an_agent_are_reported_by_the_next(
    agent: AgentProcess, place: Place
) -> None:
    done = await submitted(agent, place, limit=SOON)
    aborted = await submitted(agent, place, limit=SLOW)
    pids = [await copying(agent, place, job_id) for job_id in (done, aborted)]
    await agent.kill()
    os.kill(pids[1], signal.SIGTERM)
    await until(lambda: not any(map(seen, pids)))
    await agent.start()
    await assert_ended(agent, place, done, "done")
    await assert_ended(agent, place, aborted, "aborted")
    await place.assert_recorded(aborted, JobStatus.FAILED)


async def test_adopted_jobs_count_and_the_next_ones_wait_for_them(
    agent: AgentProcess, place: Place
) -> None:
    jobs = [await submitted(agent, place, limit=SLOW) for _ in range(4)]
    pids = [await copying(agent, place, job_id) for job_id in jobs]
    for pid in pids:  # none of them ends before it is wanted
        os.kill(pid, signal.SIGSTOP)
    waiting = await submitted(agent, place)
    await agent.kill()
    agent.concurrency = 2
    await agent.start()
    infos = await agent("infos")
    assert {infos[job_id]["status"] for job_id in jobs} == {"running"}  # more than may be begun
    for job_id, pid in zip(jobs, pids, strict=True):
        assert await agent.status(waiting) == "pending" or job_id == jobs[-1]
        os.kill(pid, signal.SIGCONT)
        await agent("wait", job_id)
    for job_id in (*jobs, waiting):
        await assert_ended(agent, place, job_id, "done")


# --- workers, the warm parent, both ---------------------------------------------------------------


async def test_a_worker_that_was_killed_fails_its_job_alone(
    agent: AgentProcess, place: Place
) -> None:
    victim, other = [await submitted(agent, place, limit=SOON) for _ in range(2)]
    pid = await copying(agent, place, victim)
    await copying(agent, place, other)
    os.kill(pid, signal.SIGKILL)
    said = await assert_ended(agent, place, victim, "failed")
    assert "its lease says PENDING" in said
    await assert_ended(agent, place, other, "done")
    await assert_stays(agent, place, victim, "failed")


async def test_a_worker_that_was_killed_without_an_agent_is_judged_by_the_next(
    agent: AgentProcess, place: Place
) -> None:
    job_id = await submitted(agent, place, limit=SLOW)
    pid = await copying(agent, place, job_id)
    await agent.kill()
    os.kill(pid, signal.SIGKILL)
    await agent.start()
    assert "PENDING" in await assert_ended(agent, place, job_id, "failed")


async def stuck_at_its_ending(agent: AgentProcess, place: Place) -> tuple[str, int]:
    """A job whose lease says SUCCEEDED and whose worker cannot write that down."""
    await agent("pause", True)
    job_id = await submitted(agent, place)
    room = folder_of(agent, job_id).path / "ending.room"
    room.unlink()
    os.mkfifo(room)  # it hangs on opening
    await agent("pause", False)
    with trio.fail_after(WAIT):
        while (await place.copies.status(job_id)).metadata != {} and not place.copied(job_id):  # noqa: ASYNC110
            await trio.sleep(LOOK)
        while True:
            found = await place.copies.status(job_id)
            if found.metadata and found.metadata["job_status"] == "SUCCEEDED":
                break
            await trio.sleep(LOOK)
    pid = worker_of(agent, job_id)
    room.unlink()
    return job_id, pid


async def test_a_worker_killed_between_the_record_and_its_ending_has_done_its_job(
    agent: AgentProcess, place: Place
) -> None:
    job_id, pid = await stuck_at_its_ending(agent, place)
    os.kill(pid, signal.SIGKILL)
    await assert_ended(agent, place, job_id, "done")
    await assert_stays(agent, place, job_id, "done")


async def test_worker_and_agent_killed_between_the_record_and_the_ending_have_done_the_job(
    agent: AgentProcess, place: Place
) -> None:
    job_id, pid = await stuck_at_its_ending(agent, place)
    await agent.kill()
    os.kill(pid, signal.SIGKILL)
    await agent.start()
    await assert_ended(agent, place, job_id, "done")


async def test_a_worker_that_cannot_write_its_ending_tells_it(
    agent: AgentProcess, place: Place
) -> None:
    await agent("pause", True)
    job_id = await submitted(agent, place)
    room = folder_of(agent, job_id).path / "ending.room"
    room.unlink()
    room.mkdir()
    await agent("pause", False)
    await assert_ended(agent, place, job_id, "done")
    await assert_stays(agent, place, job_id, "done")  # its lease tells it


async def test_a_job_is_not_judged_while_something_still_holds_its_lease(
    agent: AgentProcess, place: Place
) -> None:
    """The worker died, and its tool is slow to die."""
    job_id = await submitted(agent, place, limit=SLOW)
    pid = await copying(agent, place, job_id)
    os.kill(pid, signal.SIGSTOP)
    tools = children(pid)
    for tool in tools:
        os.kill(tool, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    await until(lambda: not any(map(seen, tools)))  # even when it is stopped, it dies with it
    lease = await verbs.info(place.copies.store, job_id)
    async with hold(place.copies.store, lease):
        await trio.sleep(0.3)
    await assert_ended(agent, place, job_id, "failed")


async def test_the_warm_parent_may_die_at_any_time(agent: AgentProcess, place: Place) -> None:
    running = await submitted(agent, place, limit=SOON)
    await copying(agent, place, running)
    for _ in range(3):
        [parent] = agent.warm_parents
        os.kill(parent, signal.SIGKILL)
        await assert_ended(agent, place, await submitted(agent, place), "done")
    await assert_ended(agent, place, running, "done")


async def test_warm_parent_and_worker_may_die_together(agent: AgentProcess, place: Place) -> None:
    victim, other = [await submitted(agent, place, limit=SOON) for _ in range(2)]
    pid = await copying(agent, place, victim)
    await copying(agent, place, other)
    for one in (*agent.warm_parents, pid):
        os.kill(one, signal.SIGKILL)
    await assert_ended(agent, place, victim, "failed")
    await assert_ended(agent, place, other, "done")
    await assert_ended(agent, place, await submitted(agent, place), "done")


async def test_a_warm_parent_that_hangs_delays_no_worker_that_runs(
    agent: AgentProcess, place: Place
) -> None:
    running = await submitted(agent, place, limit=SOON)
    await copying(agent, place, running)
    [parent] = agent.warm_parents
    os.kill(parent, signal.SIGSTOP)
    waiting = await submitted(agent, place)
    await assert_ended(agent, place, running, "done")
    await agent("abort", waiting)
    os.kill(parent, signal.SIGCONT)
    await assert_ended(agent, place, waiting, "aborted")


async def test_no_process_is_left(agent: AgentProcess, place: Place) -> None:
    jobs = [await submitted(agent, place, limit=SLOW) for _ in range(3)]
    for job_id in jobs:
        await copying(agent, place, job_id)
    for pid in agent.workers[:2]:
        os.kill(pid, signal.SIGKILL)
    await again(agent)
    for job_id in jobs:
        with suppress(Failed):  # it has ended
            await agent("abort", job_id)
        await agent("wait", job_id)
    await agent.stop()
    await until(lambda: not agent.family)


async def test_an_ending_stands_whoever_comes_later(agent: AgentProcess, place: Place) -> None:
    job_id = await submitted(agent, place)
    await assert_ended(agent, place, job_id, "done")
    folder = folder_of(agent, job_id)
    failed = msgspec.convert({"status": "failed", "ended": 1}, Ending)
    await until(lambda: not folder.alive)
    ending = folder.end_without_worker(failed)
    assert ending is not None
    assert ending.status == "done"
    assert comm(agent.pid)
