"""Local disks are removed while their copies end, and one is no reason to leave the others."""

import os
import threading
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import structlog
import trio

from endpoints import disk
from endpoints.locks import Mode, held
from endpoints.tracked import TrackedLease
from endpoints.url import PathUrl
from host import abort_wish, local_disk_removal
from host.folder import Folder
from host.local_disk_here import in_agent
from host.local_disk_jobs import OwnJobs
from host.local_disk_look import Looked, look
from host.local_disks import Here, prepare, prepared, remove
from jobs.progress import Progress
from leases.grant import Grant
from protocol.errors import ActionStopped, JobNotActive, LocalDiskInUse
from storage.local_disk import LocalDisk
from storage.local_disks import LocalDisks
from tests.host.verbs.a_host import AHost, a_host, config, external
from tests.local_disk_host import IMG, MIB, OTHER_VOL, VM, VOL, DiskHost
from tests.local_disks import POOL, StandIn
from tests.servers import LOOK, WAIT

pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def host(tmp_path: Path, group: StandIn) -> DiskHost:
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    return DiskHost(tmp_path, settings).set_up(os.urandom(MIB))


@pytest.fixture
async def here(host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch) -> Here:
    """With a stand-in for LVM that is quick, for the copies of this process too."""
    disks = LocalDisks(group.lvm, POOL)
    monkeypatch.setattr("host.copying.local_disks", lambda told: disks)
    return replace(await host.here(), disks=disks)


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


class _Gone(Exception):
    """A start finds no disk any more, and would copy it anew."""


async def not_again(*ignored: object) -> None:
    raise _Gone


async def until_asked(folder: Folder) -> None:
    with trio.fail_after(WAIT):
        while not folder.abort_asked:  # noqa: ASYNC110 - a file
            await trio.sleep(LOOK)


async def test_a_copy_that_is_past_its_abort_is_waited_for_and_its_disk_removed(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not fill the disk any more, and has not said yet that it has succeeded."""
    succeed, complete, go_on = TrackedLease.succeed, trio.Event(), trio.Event()

    async def late(lease: TrackedLease, grant: Grant) -> None:
        complete.set()
        await go_on.wait()
        await succeed(lease, grant)

    monkeypatch.setattr(TrackedLease, "succeed", late)
    other = replace(await host.here(), disks=here.disks)
    removed = list[str]()

    async def start() -> None:
        with suppress(_Gone):
            await prepared(here, host.request(), ignored)

    async def removal() -> None:
        removed.extend(await remove(other, vm_id=VM, abort=True))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await complete.wait()
        try:
            [tags] = (one.tags for one in group.volumes().values())
            assert "UPDATING" not in tags
            [job_id] = (tag.removeprefix("JOB_") for tag in tags if tag.startswith("JOB_"))
            with pytest.raises(LocalDiskInUse, match="abort that first"):
                await remove(other, vm_id=VM)
            monkeypatch.setattr("host.local_disks.begun", not_again)
            nursery.start_soon(removal)
            await until_asked(Folder(here.config.journal / job_id))
        finally:
            go_on.set()
    assert group.volumes() == {}
    assert removed == [VOL]


async def test_a_copy_that_does_not_let_go_is_not_waited_for_without_end(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk_removal, "ABORT_TIME", 0.05)
    monkeypatch.setattr(local_disk_removal, "GONE_TIME", 0.05)
    found = await prepare(here, host.request())  # its process lives, and does nothing
    other = replace(await host.here(), disks=here.disks)
    with (
        trio.fail_after(WAIT),
        pytest.raises(LocalDiskInUse, match="though it was asked to stop") as caught,
    ):
        await remove(other, vol_id=VOL, abort=True)
    assert caught.value.job_id == found.job_id
    assert set(group.volumes()) == {VOL}
    assert isinstance(here.jobs, OwnJobs)
    here.jobs.forget()
    assert await remove(other, vol_id=VOL, abort=True) == [VOL]


async def test_what_lets_go_of_a_disk_a_moment_after_its_copy_is_waited_for(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that the process of the copy has started, say."""
    await prepare(here, host.request())
    here.jobs.forget()  # type: ignore[attr-defined]
    release, looks, has_it = trio.Event(), list[Looked](), trio.Event()

    async def tool() -> None:
        async with held(disk.locks(PathUrl(here.disks.path(VOL)), Mode.EXCLUSIVE)):
            has_it.set()
            await release.wait()

    async def counted(here: Here, vol_id: str) -> Looked:
        looks.append(await look(here, vol_id))
        if len(looks) > 1:
            release.set()
        return looks[-1]

    monkeypatch.setattr(local_disk_removal, "look", counted)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tool)
        await has_it.wait()
        assert await remove(here, vol_id=VOL, abort=True) == [VOL]
    assert [one.alive for one in looks[:2]] == [True, True]
    assert group.volumes() == {}


async def test_all_disks_of_a_vm_are_tried_and_the_first_error_is_raised(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await prepared(here, host.request(), ignored)
    await prepared(here, host.request(vol_id=OTHER_VOL), ignored)
    with group.content() as content:
        content.volumes[0].open = True
    with structlog.testing.capture_logs() as told, pytest.raises(LocalDiskInUse) as caught:
        await remove(here, vm_id=VM)
    assert VOL in str(caught.value)
    assert set(group.volumes()) == {VOL}
    [warning] = [one for one in told if one["event"] == "local disk not removed"]
    assert (warning["local_disk"], warning["error"]) == (VOL, str(caught.value))
    with group.content() as content:
        content.volumes[0].open = False
    assert await remove(here, vm_id=VM) == [VOL]


async def test_every_error_of_the_disks_of_a_vm_is_told(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await prepared(here, host.request(), ignored)
    await prepared(here, host.request(vol_id=OTHER_VOL), ignored)
    with group.content() as content:
        content.volumes[0].open = True
    group.fail("remove")
    with structlog.testing.capture_logs() as told, pytest.raises(LocalDiskInUse, match="open"):
        await remove(here, vm_id=VM)
    warnings = [one for one in told if one["event"] == "local disk not removed"]
    assert [one["local_disk"] for one in warnings] == [VOL, OTHER_VOL]


async def test_what_nobody_has_foreseen_ends_a_removal_at_once(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await prepared(here, host.request(), ignored)
    await prepared(here, host.request(vol_id=OTHER_VOL), ignored)

    tried = list[str]()

    async def broken(disks: LocalDisks, one: LocalDisk) -> None:
        tried.append(one.volume_id)
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(LocalDisks, "remove", broken)
    with pytest.raises(RuntimeError):
        await remove(here, vm_id=VM)
    assert tried == [VOL]
    assert set(group.volumes()) == {VOL, OTHER_VOL}


@pytest.fixture
async def agent(tmp_path: Path, group: StandIn) -> AsyncIterator[AHost]:
    usual = config(tmp_path)
    stand_in = {"helper": group.helper, "dev": str(tmp_path / "dev")}
    own = msgspec.structs.replace(usual.localdisk, **stand_in)
    async with a_host(tmp_path, msgspec.structs.replace(usual, localdisk=own)) as found:
        (found.disks / "source").write_bytes(os.urandom(MIB))
        yield found


@pytest.mark.parametrize("forgotten", [False, True])
async def test_a_copy_that_ends_while_its_abort_is_written_down_has_ended(
    agent: AHost, monkeypatch: pytest.MonkeyPatch, forgotten: bool
) -> None:
    """forgotten: and its folder is gone, as the agent keeps jobs only for a while."""
    write, ended = abort_wish.write, threading.Event()

    def late(folder: Folder) -> bool:
        assert ended.wait(WAIT)
        if forgotten:
            folder.remove()
        return write(folder)

    monkeypatch.setattr(abort_wish, "write", late)
    wanted = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "vm_id": VM}
    source = external(agent.disks / "source")
    job_id = (await agent.call("LocalDisk.prepare", source=source, **wanted))["job_id"]
    jobs = in_agent(agent.host).jobs
    async with trio.open_nursery() as nursery:
        nursery.start_soon(jobs.abort, job_id)
        assert (await agent.ended(job_id))["status"] == "done"
        ended.set()
    assert await agent.call("LocalDisk.remove", vm_id=VM, abort=True) == [VOL]


async def test_a_start_that_waits_for_a_queued_copy_is_told_that_it_was_aborted(
    agent: AHost, here: Here, host: DiskHost, group: StandIn
) -> None:
    """It does not copy the disk of a VM that has stopped."""
    agent.host.agent.queue.paused = True
    wanted = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "vm_id": VM}
    await agent.call("LocalDisk.prepare", source=external(agent.disks / "source"), **wanted)
    waits, heard = trio.Event(), list[str]()

    def seen(progress: Progress) -> None:
        heard.append(progress.stage)
        waits.set()

    async def start() -> None:
        with pytest.raises(ActionStopped):
            await prepared(here, host.request(), seen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await waits.wait()
        other = replace(await host.here(), disks=here.disks)
        assert await remove(other, vm_id=VM, abort=True) == [VOL]
    assert "waiting for job" in heard[0]
    assert group.volumes() == {}


async def test_a_copy_that_is_aborted_just_as_it_is_taken_in_is_not_begun(
    here: Here, host: DiskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = Folder.lock

    def late(folder: Folder) -> int | None:
        monkeypatch.undo()
        assert abort_wish.write(folder)
        return lock(folder)

    monkeypatch.setattr(Folder, "lock", late)
    with pytest.raises(ActionStopped):
        await prepared(here, host.request(), ignored)
    assert isinstance(here.jobs, OwnJobs)
    [job_id] = await here.leases.all_own()
    assert (await here.leases.look(job_id)).lease.value == "PENDING"  # as nobody has taken it up
    assert not await here.jobs.alive(job_id)


async def test_an_abort_that_cannot_be_written_down_is_told(
    agent: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.host.agent.queue.paused = True

    def broken(folder: Folder) -> bool:
        raise OSError("no such device")

    wanted = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "vm_id": VM}
    source = external(agent.disks / "source")
    job_id = (await agent.call("LocalDisk.prepare", source=source, **wanted))["job_id"]
    monkeypatch.setattr(abort_wish, "write", broken)
    with trio.fail_after(WAIT), pytest.raises(OSError, match="no such device"):
        await in_agent(agent.host).jobs.abort(job_id)
    monkeypatch.undo()
    await agent.call("Job.abort", job_id=job_id)
    with pytest.raises(JobNotActive):  # who asks for an abort by its name is told
        await agent.call("Job.abort", job_id=job_id)
