"""Hook, worker and agent are killed while they make a disk local: on real LVM and real thin pools.

A hook as vdsm runs it, an agent as systemd does. The same on a stand-in for LVM:
tests/faults/test_local_disk_hooks.py and test_local_disk_agent.py.
"""

import itertools
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from host.config import Config
from host.config_file import load
from host.hooks.doing import worked
from host.local_disks import gc, in_foreground
from leases.steps import VARIABLE
from tests.agent_service import Service
from tests.faults.command import Running, seen, until
from tests.guest.inside.real_group import RealHost, real_host
from tests.hook_runs import SLOW, Image, order_of
from tests.local_disk_host import TIME, drop, same

RATE = "jobs.rate=2M"  # of an agent: half of it for each of the copies that it does at once
COPYING = "copying"  # no point in our code: while the copy tool runs
# In the order in which they are reached: by a hook that does all itself,
BEGINNING = ("prepare:looked", "prepare:created", "create:record", "prepare:lease", "prepare:begun")
OF_HOOK = (
    *BEGINNING,
    *(COPYING, "local:ready", "local:recorded", "prepare:copied", "prepare:used"),
    *("hook:done", "hook:replaced"),
)
# by an agent, and by the worker of the agent.
OF_AGENT = (*BEGINNING, COPYING, "prepare:used")
OF_WORKER = (COPYING, "local:ready", "local:recorded")
BACKENDS = ("lvm", "lvmthin")
# Each step of a hook with one of them: most are those of a start in test_local_kill.py.
BY_HOOK = [(COPYING, "lvm"), *zip(OF_HOOK, itertools.cycle(BACKENDS), strict=False)]
BY_ASKING_HOOK = [
    *((COPYING, backend) for backend in BACKENDS),
    *(("hook:done", "lvm"), ("hook:replaced", "lvmthin")),
]
BY_AGENT = [(step, backend) for step in OF_AGENT for backend in BACKENDS]
BY_WORKER = [(step, backend) for step in OF_WORKER for backend in BACKENDS]

pytestmark = pytest.mark.full


@pytest.fixture
def host(empty_group: str) -> Iterator[RealHost]:
    folder = Path("/var/tmp/local-agent-kill")
    folder.mkdir()
    with real_host(folder, empty_group) as host:
        yield host
    shutil.rmtree(folder)


def at(step: str) -> dict[str, str]:
    """What has a process kill itself at that step."""
    return {} if step == COPYING else {VARIABLE: step}


def started(
    host: RealHost, image: Image, backend: str, die_at: str = COPYING, before: str = ""
) -> AbstractContextManager[tuple[Running, Path]]:
    """A start of the VM while it runs."""
    properties = {"localdisk": backend, **at(die_at)}
    return host.started("after_disk_prepare", properties, image.data, before=before)


async def copying(host: RealHost, image: Image) -> str:
    """Wait until the disk is being filled; the tag of the job that does it."""
    await until(lambda: host.command.tools("qemu-img", "convert", image.path))
    there = tags(host, image)
    assert "UPDATING" in there
    return job_of(there)


def tags(host: RealHost, image: Image) -> frozenset[str]:
    return host.group.volumes()[image.vol_id].tags


def job_of(there: frozenset[str]) -> str:
    [tag] = [tag for tag in there if tag.startswith("JOB_")]
    return tag


def job(host: RealHost, image: Image) -> str:
    return job_of(tags(host, image))


async def dead(running: Running) -> None:
    """Wait until it was killed, or has killed itself."""
    assert (await running.wait(TIME)).code == -signal.SIGKILL


async def works(host: RealHost, image: Image, backend: str, config: Config) -> None:
    """The next start works: its disk is whole on the device, and its tags say so.

    It is a hook without a process of its own, which would take seconds to begin.
    """
    device = host.group.device(image.vol_id)
    done = await worked(order_of(image, host.vm_id, backend=backend), config)
    assert done.path == str(device)
    drop(device)
    expected = host.command.folder / "expected"
    expected.write_bytes(image.content)
    assert same(device, expected, len(image.content))
    assert list(host.group.volumes()) == [image.vol_id]
    there = tags(host, image)
    assert "UPDATING" not in there
    assert {"STARTED", f"VM_{host.vm_id}"} <= there


async def recovered(host: RealHost, agent: Service, image: Image, backend: str) -> None:
    """The next start works, and then there is no process, no lease, and nothing for gc."""
    config = load(None, {}, host.given)
    await works(host, image, backend, config)
    assert agent.stop() == 0, agent.log
    await host.command.alone()
    here = await in_foreground(config)
    assert await here.leases.all_own() == []
    assert await gc(here, dry_run=True) == []


@pytest.mark.parametrize(("step", "backend"), BY_HOOK)
async def test_the_agent_makes_up_for_a_hook_that_was_killed_when_there_was_none(
    host: RealHost, step: str, backend: str
) -> None:
    image = host.image(8)
    slow = SLOW if step == COPYING else ""
    with started(host, image, backend, step, slow) as (running, path):
        if step == COPYING:
            await copying(host, image)
            running.process.kill()
        await dead(running)
        assert (path.read_bytes() != image.data) is (step == "hook:replaced")
    await host.command.alone()
    with host.served() as agent:
        await recovered(host, agent, image, backend)


@pytest.mark.parametrize(("step", "backend"), BY_ASKING_HOOK)
async def test_an_agent_goes_on_without_the_hook_that_was_killed(
    host: RealHost, step: str, backend: str
) -> None:
    image = host.image(4)
    with host.served(RATE) as agent:
        with started(host, image, backend, step) as (running, path):
            filler = await copying(host, image)
            if step == COPYING:
                running.process.kill()
            await dead(running)
            assert (path.read_bytes() != image.data) is (step == "hook:replaced")
        await recovered(host, agent, image, backend)
    assert job(host, image) == filler


@pytest.mark.parametrize(("step", "backend"), BY_WORKER)
async def test_a_start_goes_on_when_its_worker_was_killed(
    host: RealHost, step: str, backend: str
) -> None:
    image = host.image(4)
    with host.served(RATE, environment=at(step)) as agent:
        with started(host, image, backend) as (running, _):
            filler = await copying(host, image)
            if step == COPYING:
                [worker] = host.workers()
                os.kill(worker.pid, signal.SIGKILL)
            ended = await running.wait(TIME)
            assert ended.code == 0, ended
        await recovered(host, agent, image, backend)
    assert (job(host, image) == filler) is (step != COPYING)


@pytest.mark.parametrize(("step", "backend"), BY_AGENT)
async def test_a_start_goes_on_when_its_agent_was_killed(
    host: RealHost, step: str, backend: str
) -> None:
    """With the next agent, or, if that one is not back in time, without any."""
    image = host.image(4)
    with (
        host.served(RATE, environment=at(step)) as first,
        started(host, image, backend) as (running, _),
    ):
        filler = await copying(host, image) if step == COPYING else ""
        if filler:
            first.kill()
        await dead(first.running)
        with host.served() as second:
            ended = await running.wait(TIME)
            assert ended.code == 0, ended
            await recovered(host, second, image, backend)
    if filler:
        assert job(host, image) == filler


@pytest.mark.parametrize(("step", "backend"), BY_WORKER)
async def test_the_next_start_makes_up_for_worker_and_agent_that_were_killed(
    host: RealHost, step: str, backend: str
) -> None:
    image = host.image(4)
    with host.served(RATE, environment=at(step)) as first:
        with started(host, image, backend) as (running, _):
            filler = await copying(host, image)
            running.process.kill()
        os.kill(first.pid, signal.SIGSTOP)  # it is to hear nothing of the death of its worker
        [worker] = host.workers()
        if step == COPYING:
            os.kill(worker.pid, signal.SIGKILL)
        await until(lambda: seen(worker.pid) != worker)
        first.kill()
    await host.command.alone()
    assert ("UPDATING" in tags(host, image)) is (step == COPYING)
    with host.served() as second:
        await recovered(host, second, image, backend)
    assert (job(host, image) == filler) is (step != COPYING)
