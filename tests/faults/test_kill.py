"""SIGKILL at any moment, of the copying process or of a tool: nothing writes on, and the lease
tells what is known."""

import os
import random
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from tests.cli.run import Ended
from tests.faults.command import (
    LOOK,
    PATIENCE,
    Command,
    Running,
    command,
    new_job_id,
    target_is_unlocked,
    until,
    writers,
)
from tests.faults.roads import DATA, LIMIT, ROADS, Ends, Road, ends
from tests.faults.watch import Watch

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo", "setpriv")
STARTUP = 0.6  # seconds in which a command is sure to be beginning
TAIL = 0.1  # seconds after the tool in which the result is recorded


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


async def kill_at_random(road: Road, seed: int, leasehold: Command, folder: Path) -> None:
    """One round: kill, look at what is left, then take the job up again or fence it."""
    chance = random.Random(seed * 2 + ROADS.index(road))
    await leasehold.prepared()
    with ends(road, folder, exists=chance.random() < 0.5) as both:
        job_id = new_job_id()
        order = ("copy", both.source, both.target, "--keep-lease", "--json", "--job-id")
        watch = Watch(leasehold, both, job_id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch.run)
            with leasehold.started(*order, job_id, "--limit", LIMIT) as running:
                await random_moment(chance, running, both, leasehold)
                await running.kill()
            await leasehold.alone()
            await until(lambda: watch.looks)
            nursery.cancel_scope.cancel()
        assert watch.violations == []
        record = await found_after_kill(leasehold, both, job_id)
        if record == ("SUCCEEDED", 1):
            assert both.equal
            await refused(leasehold, (*order, job_id), code=912)
        elif record is not None and chance.random() < 0.5:
            await fenced(leasehold, (*order, job_id), job_id)
            job_id = new_job_id()
        if record != ("SUCCEEDED", 1):
            both.spoil()
            again = await leasehold(*order, job_id)
            assert again.code == 0, again
            assert both.equal
            assert await leasehold.record(job_id) == ("SUCCEEDED", 1)
        await leasehold.nothing_left(temporary=False)


async def random_moment(
    chance: random.Random, running: Running, both: Ends, leasehold: Command
) -> None:
    """Wait for a moment of the copy: somewhere in its beginning, its middle or its end."""
    part = chance.choice(["beginning", "middle", "middle", "end"])
    if part == "beginning":
        await trio.sleep(chance.uniform(0, STARTUP))
    elif part == "middle":
        wanted = chance.uniform(0, DATA)
        await until(lambda: running.over or both.copied >= wanted)
    else:
        await until(lambda: running.over or both.writing(leasehold))
        await until(lambda: running.over or not both.writing(leasehold))
        await trio.sleep(chance.uniform(0, TAIL))


async def found_after_kill(leasehold: Command, both: Ends, job_id: str) -> tuple[str, int] | None:
    """The free lease's record, and the target is nobody's; None: it died before the lease was."""
    await target_is_unlocked(both.target)
    with trio.fail_after(PATIENCE):
        while (status := await leasehold.status(job_id)) and status.owners:  # noqa: ASYNC110
            await trio.sleep(LOOK)
    if status is None:
        return None
    record = await leasehold.record(job_id)
    assert record in {("PENDING", 0), ("SUCCEEDED", 1)}
    return record


async def refused(leasehold: Command, order: tuple[object, ...], *, code: int) -> None:
    again = await leasehold(*order)
    assert (again.code, again.error["code"]) == (6, code), again


async def fenced(leasehold: Command, order: tuple[object, ...], job_id: str) -> None:
    """Fence the job; then its id is used up."""
    fence = await leasehold.fence(job_id)
    assert fence.code == 0, fence
    assert await leasehold.record(job_id) == ("FENCED", 1)
    await refused(leasehold, order, code=912)
    assert await leasehold.record(job_id) == ("FENCED", 1)


@pytest.mark.sample(6)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("road", ROADS)
async def test_killed_at_a_random_moment(
    road: Road, seed: int, leasehold: Command, tmp_path: Path
) -> None:
    await kill_at_random(road, seed, leasehold, tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6, 106))
@pytest.mark.parametrize("road", ROADS)
async def test_killed_at_a_random_moment_200_times(
    road: Road, seed: int, leasehold: Command, tmp_path: Path
) -> None:
    await kill_at_random(road, seed, leasehold, tmp_path)


@pytest.mark.parametrize("road", ROADS)
async def test_killed_with_its_process_group(
    road: Road, leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    job_id = new_job_id()
    with ends(road, tmp_path) as both:
        order = ("copy", both.source, both.target, "--job-id", job_id, "--json")
        with leasehold.started(*order, "--limit", LIMIT // 8, group=True) as running:
            await until(lambda: both.copied)
            os.killpg(running.pid, signal.SIGKILL)
            await running.wait()
        await leasehold.alone()
        assert both.copied < DATA  # the tool did not go on to its end
        assert await found_after_kill(leasehold, both, job_id) == ("PENDING", 0)
        both.spoil()
        assert (await leasehold(*order)).code == 0
        assert both.equal


# Where setpriv would ask for the signal at the parent's death: a tool that is held up here has
# not asked yet.
HELD_UP = """
import os, pathlib, processes.guard
assert processes.guard._SETPRIV == "/usr/bin/setpriv"
processes.guard._SETPRIV = os.environ["HELD_UP"]
"""
SETPRIV_LATER = """#!/bin/sh
case "$*" in
*" convert "*|*"/nbdcopy "*)
    echo $$ > {folder}/pid
    while [ ! -e {folder}/go ]; do sleep 0.01; done;;
esac
exec /usr/bin/setpriv "$@"
"""


@contextmanager
def held_up(leasehold: Command, folder: Path, both: Ends, *options: object) -> Iterator[Running]:
    """A copy whose tool is held up until the file `go` appears; its pid is in the file `pid`."""
    setpriv = folder / "setpriv"
    setpriv.write_text(SETPRIV_LATER.format(folder=folder))
    setpriv.chmod(0o755)
    with leasehold.started(
        *("copy", both.source, both.target, "--json", *options),
        before=HELD_UP,
        environment={"HELD_UP": str(setpriv)},
    ) as running:
        yield running


async def held_up_pid(folder: Path) -> int:
    return int(await until(lambda: read(folder / "pid")))


def read(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


@pytest.mark.parametrize("road", ROADS)
async def test_killed_before_its_tool_can_notice(
    road: Road, leasehold: Command, tmp_path: Path
) -> None:
    """The tool is on its way: it holds the lease, then sees that its parent is gone, and ends."""
    await leasehold.prepared()
    job_id = new_job_id()
    with ends(road, tmp_path) as both:
        order = ("copy", both.source, both.target, "--job-id", job_id, "--json")
        with held_up(leasehold, tmp_path, both, "--job-id", job_id) as running:
            await held_up_pid(tmp_path)
            await running.kill()
        owned = await leasehold.status(job_id)
        assert owned is not None
        assert owned.owners
        await refused(leasehold, order, code=651)
        (tmp_path / "go").touch()
        await leasehold.alone()
        assert await found_after_kill(leasehold, both, job_id) == ("PENDING", 0)
        assert both.copied == 0  # it never came to write
        assert (await leasehold(*order)).code == 0
        assert both.equal


@pytest.mark.parametrize("road", ROADS)
async def test_a_tool_that_is_killed_before_it_begins_fails_the_job(
    road: Road, leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    with ends(road, tmp_path) as both, held_up(leasehold, tmp_path, both) as running:
        os.kill(await held_up_pid(tmp_path), signal.SIGKILL)
        end = await running.wait()
        await failed(leasehold, both, end, {"ToolKilled"})


@pytest.mark.parametrize(
    ("road", "victim", "kinds"),
    [
        ("qemu-img", "qemu-img", {"ToolKilled"}),
        ("nbdcopy", "nbdcopy", {"ToolKilled"}),
        ("nbdcopy", "qemu-nbd", {"ConnectionLost"}),
    ],
)
async def test_a_killed_tool_fails_the_job(
    road: Road, victim: str, kinds: set[str], leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    with ends(road, tmp_path) as both:
        order = ("copy", both.source, both.target, "--json", "--limit", LIMIT)
        with leasehold.started(*order) as running:
            await until(lambda: both.copied)
            for process in leasehold.tools(victim):
                os.kill(process.pid, signal.SIGKILL)
            end = await running.wait()
        await failed(leasehold, both, end, kinds)


async def failed(leasehold: Command, both: Ends, end: Ended, kinds: set[str]) -> None:
    """The job failed for that reason, its lease says so, nothing is left; another copy works."""
    assert (end.code, end.error["kind"] in kinds) == (1, True), end
    assert end.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
    job_id = end.error["data"]["job_id"]
    assert await leasehold.record(job_id) == ("FAILED", 0)
    await leasehold.nothing_left()
    await target_is_unlocked(both.target)
    order = ("copy", both.source, both.target, "--json")
    await refused(leasehold, (*order, "--job-id", job_id), code=912)
    assert (await leasehold(*order)).code == 0
    assert both.equal


async def test_a_killed_server_of_the_target_fails_the_job(
    leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    job_id = new_job_id()
    with ends("nbdcopy", tmp_path) as both:
        order = ("copy", both.source, both.target, "--job-id", job_id, "--json")
        with leasehold.started(*order, "--limit", LIMIT) as running:
            await until(lambda: both.copied)
            (server,) = writers(both.disk)
            os.kill(server.pid, signal.SIGKILL)
            end = await running.wait()
        assert (end.code, end.error["kind"]) == (1, "ConnectionLost"), end
        assert await leasehold.record(job_id) == ("FAILED", 0)
        await leasehold.nothing_left()


# --- killed while the lease or its domain is made, and while it is removed ----------------------


STEPS_OF_CREATE = ["locked", "slot", "record"]
STEPS_OF_DELETE = ["locked", "acquired", "lvb", "record", "released", "slot"]


@pytest.mark.parametrize("step", STEPS_OF_CREATE)
async def test_killed_while_its_lease_is_made(
    step: str, leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    job_id = new_job_id()
    with ends("qemu-img", tmp_path, exists=False) as both:
        order = ("copy", both.source, both.target, "--job-id", job_id, "--json", "--keep-lease")
        died = await leasehold(*order, environment={"LEASEHOLD_DIE_AT": f"create:{step}"})
        assert died.code == -signal.SIGKILL
        assert not both.disk.exists()
        record = await found_after_kill(leasehold, both, job_id)
        assert record == (("PENDING", 0) if step == "record" else None)
        assert (await leasehold(*order)).code == 0
        assert both.equal
        assert await leasehold.leases() == [job_id]


@pytest.mark.parametrize("step", STEPS_OF_DELETE)
async def test_killed_while_its_lease_is_removed(
    step: str, leasehold: Command, tmp_path: Path
) -> None:
    """The copy is done and stays so; whatever the lease says, it does not say that it failed."""
    await leasehold.prepared()
    job_id = new_job_id()
    with ends("qemu-img", tmp_path, exists=False) as both:
        order = ("copy", both.source, both.target, "--json", "--job-id")
        died = await leasehold(*order, job_id, environment={"LEASEHOLD_DIE_AT": f"delete:{step}"})
        assert died.code == -signal.SIGKILL
        await leasehold.alone()
        assert both.equal
        status = await leasehold.status(job_id)
        assert status is None or status.owners == []
        if status is not None and status.metadata:
            assert await leasehold.record(job_id) == ("SUCCEEDED", 1)
            await refused(leasehold, (*order, job_id), code=912)
        elif status is not None:
            await refused(leasehold, (*order, job_id), code=2009)
        found = leasehold.domain_folder()
        assert found is not None
        assert (await leasehold("lease", "delete", found.id, job_id)).code == 0
        assert await leasehold.leases() == []
        assert (await leasehold(*order, job_id)).code == 0


# What appears in the home, in this order, when the first copy makes the domain for its lease.
BEGINNINGS = ["home", "home/lock", "home/leases", "home/leases/.*.new-*", "home/leases/*/dom_md"]
BEGINNINGS += ["home/leases/.*.new-*/dom_md/xleases", "home/domains.json"]


@pytest.mark.parametrize("beginning", BEGINNINGS)
async def test_killed_in_its_first_use(beginning: str, leasehold: Command, tmp_path: Path) -> None:
    with ends("qemu-img", tmp_path, exists=False) as both:
        order = ("copy", both.source, both.target, "--json", "--keep-lease")
        with leasehold.started(*order) as running:
            while not (running.over or any(leasehold.folder.glob(beginning))):
                pass  # as fast as can be: some are there for a millisecond
            await running.kill()
        await leasehold.alone()
        assert (await leasehold(*order)).code == 0
        assert both.equal
        found = leasehold.domain_folder()
        assert found is not None
        assert [path.name for path in (leasehold.home / "leases").iterdir()] == [found.id]
        listed = await leasehold("domain", "list", "--json")
        assert found.id in listed.out
