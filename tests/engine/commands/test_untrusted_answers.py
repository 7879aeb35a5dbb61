"""Copies whose hosts answer what no host should: it is the job that is judged, not the answer."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.commands import copying
from engine.commands.copy_disk import CopyDisk
from engine.commands.run import Progress
from engine.db import commands, jobs
from engine.lease_poller import ExternalLeasePoller
from engine.metrics import Copied
from protocol.client import HostError
from protocol.errors import BadParameter, EngineBusy
from tests.engine.commands import copy_world
from tests.engine.commands.copy_world import (
    ARRAY,
    DATA,
    DATA2,
    OTHER,
    Estate,
    World,
    estate,
)
from tests.engine.commands.test_copy_disk import SOURCE, begin, nothing_is_left
from tests.engine.stand_in import until

HUGE = 10**400  # more than any float; JSON has such numbers
TARGETS = [(DATA, ARRAY), (DATA, DATA2)]  # with a lease of its own, and a volume


@pytest.fixture(autouse=True)
def _written_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_world, "QUICK", replace(copy_world.QUICK, progress=0.01))


async def copying_disk(made: Estate, source: str, target: str) -> tuple[str, CopyDisk]:
    """A copy whose job runs."""
    await made.disk(source, SOURCE)
    command, spec = await begin(made, target)
    await until(lambda: any(spec.job in host.jobs for host in made.world.hosts.values()))
    return command, spec


def job_of(made: Estate, spec: CopyDisk) -> dict[str, Any]:
    [job] = [host.jobs[spec.job] for host in made.world.hosts.values() if spec.job in host.jobs]
    return job


async def rounds(made: Estate, number: int = 2) -> None:
    """The next ones: when the second begins, what was told before them was heard."""
    for _ in range(number):
        begun = trio.Event()
        made.world.before["Host.getJobs"] = begun.set
        with trio.fail_after(20):
            await begun.wait()


async def until_written(made: Estate, spec: CopyDisk, holds: Callable[[Any], bool]) -> None:
    with trio.fail_after(20):
        while not holds(await made.read(partial(jobs.get, id=spec.job))):  # noqa: ASYNC110
            await trio.sleep(0.005)


async def ends_well(made: Estate, command: str, spec: CopyDisk) -> None:
    """Nothing was taken away from the job while it ran, and it counts."""
    taken = {"Image.delete", "Lease.delete", "ManagedVolume.detach_volume"}
    assert not taken & set(made.world.order())
    made.world.end(spec.job, "done")
    row = await made.ended(command)
    assert row.state == "succeeded", row.error
    await nothing_is_left(made, spec)


# --- how far a job is ---------------------------------------------------------------------------


NONSENSE: dict[str, dict[str, Any]] = {
    "bytes-above-64-bits": {"bytes": 1 << 63},
    "bytes-negative": {"bytes": -1},
    "bytes-no-whole-number": {"bytes": 0.5},
    "bytes-huge": {"bytes": HUGE},
    "bytes-infinite": {"bytes": float("inf")},
    "bytes-no-number": {"bytes": float("nan")},
    "bytes-true": {"bytes": True},
    "total-huge": {"total_bytes": HUGE},
    "total-no-number": {"total_bytes": float("nan")},
    "rate-huge": {"rate": HUGE},
    "rate-infinite": {"rate": float("inf")},
    "rate-no-number": {"rate": float("nan")},
    "rate-text": {"rate": "fast"},
    "eta-negative": {"eta": -1},
    "eta-huge": {"eta": HUGE},
    "percent-above-100": {"progress": 100.1},
    "percent-negative": {"progress": -0.1},
    "percent-huge": {"progress": HUGE},
    "percent-no-number": {"progress": float("nan")},
    "percent-true": {"progress": True},
}
SANE: dict[str, Any] = {
    "progress": 30.0,
    "bytes": 4096,
    "total_bytes": 8192,
    "rate": 1.5,
    "eta": 2.5,
}


@pytest.mark.parametrize("what", NONSENSE)
@pytest.mark.parametrize(("source", "target"), TARGETS)
async def test_a_number_that_cannot_be_is_dropped_and_the_job_runs_on(
    tmp_path: Path, source: str, target: str, what: str
) -> None:
    [name] = NONSENSE[what]
    async with estate(tmp_path, World("running")) as made:
        command, spec = await copying_disk(made, source, target)
        await until_written(made, spec, lambda row: row.progress == 25.0)
        job = job_of(made, spec)
        job.update(SANE | NONSENSE[what])
        await rounds(made)
        told = made.commands.progress(command)
        assert told is not None
        if name == "progress":  # the rest is worth nothing then
            assert told == Progress(25.0, 1 << 20)
        else:
            assert getattr(told, name) is None
            await until_written(made, spec, lambda row: row.progress == 30.0)
        counted = Copied()
        for kind, id, data in made.world.told:
            if kind == "job.progress":
                counted.count(id, data)
        job.update(SANE | {"progress": 40.0})
        await until_written(made, spec, lambda row: row.progress == 40.0)
        assert made.commands.progress(command) == Progress(40.0, 4096, 1.5, 8192, 2.5)
        await ends_well(made, command, spec)


@pytest.mark.parametrize(
    "fault", [BadParameter("number", "no"), RuntimeError("x"), ValueError("y")], ids=str
)
async def test_progress_that_cannot_be_written_down_ends_no_judgement(
    tmp_path: Path,
    fault: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tries = 0

    def report(*args: Any, **more: Any) -> None:
        nonlocal tries
        tries += 1
        raise fault

    monkeypatch.setattr(jobs, "report", report)
    async with estate(tmp_path, World("running")) as made:
        command, spec = await copying_disk(made, DATA, DATA2)
        job = job_of(made, spec)
        for percent in (31.0, 32.0, 33.0):
            before = tries
            job.update(SANE | {"progress": percent})
            await until(lambda before=before: tries > before)  # type: ignore[misc]
        await ends_well(made, command, spec)
    lines = [line for line in caplog.records if "progress" in line.getMessage()]
    assert len(lines) == 1
    assert str(fault) in lines[0].getMessage()


async def test_an_engine_whose_database_was_taken_judges_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one goes on with the command: here it has not ended, nor is anything undone."""

    def report(*args: Any, **more: Any) -> None:
        raise EngineBusy("the other")

    world = World("running")

    async def run() -> None:
        async with estate(tmp_path, world) as made:
            await copying_disk(made, DATA, DATA2)
            await trio.sleep_forever()

    with monkeypatch.context() as patch:
        patch.setattr(jobs, "report", report)
        with pytest.raises(EngineBusy, match="the other"):
            await run()
    async with estate(tmp_path, world) as made:
        [row] = await made.read(lambda c: commands.in_states(c, ["running"]))
        await ends_well(made, row.id, CopyDisk(**row.spec))


async def test_what_a_host_answers_to_an_abort_ends_no_judgement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as what cannot even be read."""
    world = World("running")
    call, asked = world.call, 0

    async def unreadable(host: str, verb: str, params: Any) -> Any:
        nonlocal asked
        if verb == "Job.abort":
            asked += 1
            if asked < 3:
                raise RecursionError
        return await call(host, verb, params)

    monkeypatch.setattr(world, "call", unreadable)
    async with estate(tmp_path, world) as made:
        command, spec = await copying_disk(made, DATA, DATA2)
        await made.commands.abort(command)
        row = await made.ended(command)
        assert (row.state, asked) == ("aborted", 3)
        await nothing_is_left(made, spec)


async def test_a_job_that_was_given_is_judged_whatever_the_host_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("running")
    call, asked = world.call, 0

    async def unreadable(host: str, verb: str, params: Any) -> Any:
        nonlocal asked
        answer = await call(host, verb, params)
        if verb == "SDM.copy_data":
            asked += 1
            raise RecursionError
        return answer

    monkeypatch.setattr(world, "call", unreadable)
    async with estate(tmp_path, world) as made:
        command, spec = await copying_disk(made, DATA, DATA2)
        await rounds(made)
        assert asked == 1
        await ends_well(made, command, spec)


# --- the verdict --------------------------------------------------------------------------------


async def test_a_judgement_that_fails_leaves_the_job_alone_and_can_be_asked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault of ours."""

    async def broken(self: Any, *args: Any, **more: Any) -> Any:
        raise AssertionError("x")

    world = World("running")
    async with estate(tmp_path, world) as made:
        with monkeypatch.context() as patch:
            patch.setattr(ExternalLeasePoller, "judge", broken)
            command, spec = await copying_disk(made, DATA, DATA2)
            row = await made.ended(command)
        assert row.state == "unresolved"
        assert row.verdict["action"] == copying.ASK_AGAIN
        assert (await made.read(partial(jobs.get, id=spec.job))).state == "unresolved"
        await made.commands.resolve(command)
        await rounds(made)
        await ends_well(made, command, spec)


LONG_WORDS = "\x01" * 300_000  # six bytes each, as JSON


@pytest.mark.parametrize("what", ["a look that fails", "a record", "a status", "owners"])
async def test_a_verdict_is_written_down_whatever_hosts_have_said(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World("running")
    call, told = world.call, 0

    async def wordy(host: str, verb: str, params: Any) -> Any:
        nonlocal told
        answer = await call(host, verb, params)
        if verb == "Host.getJobs" and what == "a status" and told < 2:
            told += 1
            return {id: {**info, "status": LONG_WORDS} for id, info in answer.items()}
        if verb == "Lease.status" and told < 2 and what != "a status":
            told += 1
            if what == "a look that fails":
                raise HostError({"code": 100, "kind": "", "message": LONG_WORDS, "data": {}})
            if what == "owners":
                return {"owners": [10**18] * 100_000, "version": 1}
        if verb == "Lease.status" and what == "a record":
            return {**answer, "metadata": {**answer["metadata"], "job_id": LONG_WORDS}}
        return answer

    monkeypatch.setattr(world, "call", wordy)
    async with estate(tmp_path, world) as made:
        command, spec = await copying_disk(made, DATA, ARRAY)
        await rounds(made)
        world.end(spec.job, "done")
        row = await made.ended(command)
        expected = "unresolved" if what == "a record" else "succeeded"
        assert row.state == expected, row.error
        job = await made.read(partial(jobs.get, id=spec.job))
        assert told >= (what != "a record")
        assert job.state == ("unresolved" if what == "a record" else "done")
        assert job.verdict["story"]


async def test_a_job_whose_host_was_removed_while_the_engine_was_away_is_judged(
    tmp_path: Path,
) -> None:
    """That it has begun was not written down yet."""
    world = World("running")
    reached = world.stop_at("SDM.copy_data", after=True)
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await reached.wait()
    world.end(spec.job, "done")
    [[host, _]] = world.of("SDM.copy_data")
    del world.hosts[host]
    async with estate(tmp_path, world) as made:
        row = await made.ended(command)
        assert row.state == "succeeded", row.error
        await nothing_is_left(made, spec)
