"""Faults while vdsm's hooks make disks local: what is left of them, and that the next start works.

With a stand-in for LVM (tests/local_disks.py); with LVM itself they are in the guest.
"""

import json
import os
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import trio

from processes.lvm_report import LogicalVolume
from tests.agent_service import agent_folder
from tests.faults.command import command, until
from tests.hook_runs import SLOW, HookHost, Image, Run, hook_host, said
from tests.servers import users

pytestmark = pytest.mark.tools("qemu-img")

MIB = 1 << 20


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HookHost]:
    with command(tmp_path) as made, agent_folder() as folder, hook_host(made, folder) as host:
        yield host


@contextmanager
def maybe_agent(host: HookHost, served: bool, before: str | None = None) -> Iterator[None]:
    with host.served(before=before) if served else nullcontext():
        yield


LVM = {"localdisk": "lvm"}


async def starts(host: HookHost, image: Image, count: int, backend: str = "lvm") -> list[Run]:
    """So many starts of the VM at once."""
    runs: list[Run] = []

    async def start() -> None:
        runs.append(await host.prepare(image, backend))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(start)
    return runs


async def ready(host: HookHost, image: Image) -> None:
    """The next start works, and its disk is right."""
    done = await host.prepare(image)
    assert done.code == 0, done
    assert done.drive["path"] == str(host.device(image))
    assert host.holds(image)
    [volume] = host.group.volumes().values()
    assert "UPDATING" not in volume.tags
    assert "STARTED" in volume.tags


def created(host: HookHost) -> int:
    return sum(words[0] == "create" for words in host.group.calls())


@pytest.mark.sample(2)
@pytest.mark.parametrize("count", [2, 10])
@pytest.mark.parametrize("served", [False, True], ids=["alone", "agent"])
async def test_starts_at_once_share_one_copy(host: HookHost, count: int, served: bool) -> None:
    image = host.image(4, "raw")
    with maybe_agent(host, served):
        runs = await starts(host, image, count)
    assert [run.code for run in runs] == [0] * count, runs
    assert {run.drive["path"] for run in runs} == {str(host.device(image))}
    assert (created(host), host.holds(image)) == (1, True)


@pytest.mark.sample(3)
@pytest.mark.parametrize(
    "step",
    [
        "prepare:looked",
        "prepare:created",
        "prepare:lease",
        "prepare:begun",
        "local:ready",
        "local:recorded",
        "prepare:copied",
        "prepare:used",
        "hook:done",
        "hook:replaced",
    ],
)
async def test_the_next_start_works_after_kill_9_of_a_hook(host: HookHost, step: str) -> None:
    image = host.image(2, "raw")
    fatal = {**LVM, "LEASEHOLD_DIE_AT": step}
    done = await host("after_disk_prepare", fatal, image.data)
    assert done.code == -signal.SIGKILL, done
    changed = step == "hook:replaced"
    assert (done.drive != image.drive) == changed
    await host.command.alone()
    await ready(host, image)
    again = step in ("prepare:created", "prepare:lease", "prepare:begun")
    assert created(host) == (2 if again else 1), host.group.calls()


@pytest.mark.parametrize("step", ["prepare:forgotten", "prepare:removed"])
async def test_the_next_start_works_after_kill_9_while_a_dead_copy_is_removed(
    host: HookHost, step: str
) -> None:
    image = host.image(2, "raw")
    for fatal in ("prepare:begun", step):
        properties = {**LVM, "LEASEHOLD_DIE_AT": fatal}
        done = await host("after_disk_prepare", properties, image.data)
        assert done.code == -signal.SIGKILL, done
        await host.command.alone()
    await ready(host, image)


async def test_a_hook_goes_on_without_the_agent_that_was_killed(host: HookHost) -> None:
    image = host.image(4, "raw")
    with (
        host.served(before=SLOW) as served,
        host.started("after_disk_prepare", LVM, image.data) as (
            running,
            path,
        ),
    ):
        await said(running, "waiting for job")
        await until(lambda: users(host.device(image)))  # a job that has not begun ends with it
        served.kill()
        ended = await running.wait()
        assert ended.code == 0, ended
        assert json.loads(path.read_bytes())["path"] == str(host.device(image))
        assert "without the agent" in ended.err
    assert (created(host), host.holds(image)) == (1, True)


async def test_a_hook_goes_on_with_the_next_agent(host: HookHost) -> None:
    image = host.image(6, "raw")
    with (
        host.served(before=SLOW) as first,
        host.started("after_disk_prepare", LVM, image.data) as (
            running,
            path,
        ),
    ):
        await said(running, "waiting for job")
        first.kill()
        with host.served():
            ended = await running.wait()
            assert (ended.code, "without the agent" in ended.err) == (0, False), ended
            assert json.loads(path.read_bytes())["path"] == str(host.device(image))
    assert (created(host), host.holds(image)) == (1, True)


async def test_a_copy_goes_on_without_the_hook_that_was_killed(host: HookHost) -> None:
    image = host.image(4, "raw")
    with host.served(before=SLOW):
        with host.started("after_disk_prepare", LVM, image.data) as (running, path):
            await said(running, "waiting for job")
            running.process.kill()
            assert running.process.wait() == -signal.SIGKILL
            assert path.read_bytes() == image.data
        await ready(host, image)
    assert created(host) == 1


async def test_the_progress_of_a_copy_that_another_process_makes_is_told(host: HookHost) -> None:
    image = host.image(8, "raw")
    apart = {**LVM, "LEASEHOLD_LISTEN_SOCKET": str(host.folder / "nobody")}
    with (
        host.served(),
        host.started("after_disk_prepare", apart, image.data, before=SLOW) as (first, _),
    ):
        await until(lambda: users(host.device(image)))
        second = await host.prepare(image)
        assert (second.code, (await first.wait()).code) == (0, 0), second
    assert re.search(r"copying \d+%, .* of 8.00M", second.words), second
    assert (created(host), host.holds(image)) == (1, True)


async def test_kill_9_of_the_worker_is_made_up_for(host: HookHost) -> None:
    image = host.image(4, "raw")
    with (
        host.served(before=SLOW),
        host.started("after_disk_prepare", LVM, image.data) as (running, _),
    ):
        await until(lambda: host.command.tools("qemu-img", "convert", image.path))
        [worker] = host.workers()
        os.kill(worker.pid, signal.SIGKILL)
        ended = await running.wait()
        assert ended.code == 0, ended
    assert (created(host), host.holds(image)) == (2, True)


async def test_a_source_that_is_gone_is_an_error_that_leaves_nothing(host: HookHost) -> None:
    image = host.image(1)
    image.path.unlink()
    done = await host.prepare(image)
    assert (done.code, done.drive, host.group.volumes()) == (1, image.drive, {})
    with host.served():
        done = await host.prepare(image)
    assert (done.code, done.drive, host.group.volumes()) == (1, image.drive, {})


@pytest.mark.parametrize("served", [False, True], ids=["alone", "agent"])
async def test_a_vm_that_is_deleted_during_the_copy_does_not_start(
    host: HookHost, served: bool
) -> None:
    image = host.image(8, "raw")
    with (
        host.served(before=SLOW) if served else open("/dev/null"),
        host.started("after_disk_prepare", LVM, image.data, before=SLOW) as (running, path),
    ):
        await until(lambda: host.command.tools("qemu-img", "convert", image.path))
        done = await host.destroy()
        assert (done.code, host.group.volumes()) == (0, {}), done
        ended = await running.wait()
        assert (ended.code, path.read_bytes()) == (1, image.data), ended


WRONG = {
    "without tags": LogicalVolume("", 4 * MIB),
    "with foreign tags": LogicalVolume("", 4 * MIB, frozenset({"backup"}), active=True),
    "of another image": LogicalVolume(
        "", 4 * MIB, frozenset({f"IU_{'1' * 8}-2222-4333-8444-555555555555"})
    ),
    "used, and of a wrong size": LogicalVolume("", 64 * MIB, frozenset({"STARTED"}), active=True),
}


@pytest.mark.parametrize("served", [False, True], ids=["alone", "agent"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
async def test_a_volume_that_is_not_ours_to_replace_stays_and_the_vm_does_not_start(
    host: HookHost, wrong: LogicalVolume, served: bool
) -> None:
    image = host.image(1, "raw")
    tags = wrong.tags | ({f"IU_{image.drive['imageID']}"} if "STARTED" in wrong.tags else set())
    there = LogicalVolume(image.vol_id, wrong.size, frozenset(tags), wrong.active)
    host.group.add(there)
    with maybe_agent(host, served):
        done = await host.prepare(image)
    assert (done.code, done.drive) == (1, image.drive), done
    assert host.group.volumes() == {image.vol_id: there}


@pytest.mark.parametrize("served", [False, True], ids=["alone", "agent"])
@pytest.mark.parametrize("what", ["group", "pool", "full", "full pool", "lying pool", "broken"])
async def test_without_room_the_vm_does_not_start_and_the_reason_is_told(
    host: HookHost, what: str, served: bool
) -> None:
    image = host.image(1, "raw")
    with host.group.content() as content:
        content.present = what != "group"
        content.pool_size = None if what == "pool" else content.pool_size
        content.size = content.pool_size or 0 if what == "full" else content.size
        content.data_percent = 100.0 if what == "full pool" else 0.0
        content.error_when_full = what != "lying pool"
    if what == "broken":
        host.group.fail("create", "  Device or resource busy")
    with maybe_agent(host, served):
        done = await host.prepare(image, "lvmthin" if "pool" in what else "lvm")
    assert (done.code, done.drive, host.group.volumes()) == (1, image.drive, {}), done
    words = {"group": "vgcreate", "pool": "lvcreate", "full": "vgextend", "full pool": "lvextend"}
    assert words.get(what, "") in done.words
