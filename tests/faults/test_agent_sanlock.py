"""The sanlock daemon under an agent dies, or loses its storage: the jobs fail with a clear error,
nothing writes any more, the agent goes on, joins again by itself, and later jobs work.

Times: at io_timeout 1.
"""

import os
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.faults.agents import AgentProcess, agent_process, new_id
from tests.faults.lease_disks import LeaseDisk
from tests.sanlock_hosts import IO_TIMEOUT, Host, running
from tests.servers import LOOK, MIB, WAIT, Flaky, flaky, pattern, tool, until

pytestmark = pytest.mark.tools("sanlock", "qemu-img")

SD = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
SIZE = 8 * MIB
SLOW = MIB // 4  # bytes per second
ENDED = "the sanlock daemon of this host has ended"
NOT_JOINED = 4011
NOT_RENEWED = re.compile("has not renewed its membership|cannot be written: .*Input/output error")
LONG = 4 * WAIT  # the daemon gives a lockspace up after 8 s, then the host joins again


@dataclass
class Site:
    """An agent on a host of sanlock, which has activated the domain SD in `mount`."""

    agent: AgentProcess
    daemon: Host
    mount: Path
    volumes: dict[str, str] = field(default_factory=dict)  # by job: the target's id

    async def __call__(self, method: str, /, **params: Any) -> Any:
        return await self.agent("call", method, params)

    async def begin(self) -> None:
        await self.agent.start()
        (self.agent.folder / "source").write_bytes(pattern(SIZE))
        options = {"store": "sanlock", "io_timeout": IO_TIMEOUT, "leases": 8}
        await self("StorageDomain.create", storagedomainID=SD, path=str(self.mount), **options)
        await self("StorageDomain.activate", storagedomainID=SD, host_id=self.daemon.host_id)

    async def copy(self, job_id: str | None = None, limit: int | None = SLOW) -> str:
        """Begin a copy to a file. job_id: that of a lease which is there."""
        job_id = job_id or await self.lease()
        self._target(job_id).write_bytes(bytes(SIZE))
        lease = {"sd_id": SD, "lease_id": job_id}
        target = self._end(str(self._target(job_id)), lease=lease, generation=0)
        await self._copied(job_id, target, limit)
        return job_id

    async def lease(self) -> str:
        job_id = new_id()
        record = {"type": "JOB", "job_id": job_id, "generation": 0, "job_status": "PENDING"}
        lease = {"sd_id": SD, "lease_id": job_id}
        await self._task("Lease.create", lease=lease, metadata=record)
        return job_id

    async def copy_to_volume(self, limit: int | None = SLOW) -> str:
        job_id, vol_id = new_id(), new_id()
        ids = {"storagedomainID": SD, "imageID": vol_id, "volumeID": vol_id}
        await self._task("Volume.create", **ids, volFormat="RAW", size=str(SIZE))
        ends = {"sd_id": SD, "img_id": vol_id, "vol_id": vol_id, "generation": 0}
        self.volumes[job_id] = vol_id
        await self._copied(job_id, {"endpoint_type": "div", **ends}, limit)
        return job_id

    async def _copied(self, job_id: str, target: dict[str, Any], limit: int | None) -> None:
        source = self._end(str(self.agent.folder / "source"))
        options = {} if limit is None else {"limit": limit}
        await self("SDM.copy_data", job_id=job_id, source=source, destination=target, **options)

    def _end(self, url: str, **other: Any) -> dict[str, Any]:
        return {"endpoint_type": "external", "url": url, "format": "raw", **other}

    def _target(self, job_id: str) -> Path:
        return self.agent.folder / f"{job_id}.target"

    async def _task(self, method: str, **params: Any) -> None:
        with trio.fail_after(WAIT):
            while True:
                status = await self("Task.getStatus", taskID=await self(method, **params))
                if status["code"] != NOT_JOINED:
                    break
                await trio.sleep(LOOK)  # it was joined this moment, and is not quite open yet
        assert status["taskResult"] == "success", status

    async def copying(self, *jobs: str) -> None:
        """Wait until bytes of all of them have moved."""
        with trio.fail_after(WAIT):
            for job_id in jobs:
                while not (info := (await self.agent("infos"))[job_id]).get("bytes"):
                    assert info["status"] in {"pending", "running"}, info
                    await trio.sleep(LOOK)

    async def ended(self, job_id: str) -> dict[str, Any]:
        with trio.fail_after(LONG):
            info: dict[str, Any] = await self.agent("wait", job_id)
        return info

    async def failed(self, job_id: str) -> dict[str, Any]:
        """The error of a job that has failed."""
        info = await self.ended(job_id)
        assert info["status"] == "failed", info
        error: dict[str, Any] = info["error"]
        return error

    async def nothing_writes(self) -> None:
        """Neither workers nor tools are left; the agent is."""
        await until(lambda: not self.agent.workers and not self.agent.tools)
        assert await self("Host.ping2") is True

    async def joined(self) -> None:
        """Wait until the agent has joined the domain again by itself."""
        assert (await self._state("joined"))["host_id"] == self.daemon.host_id

    async def out(self) -> None:
        """Wait until the daemon has given the domain up."""
        await self._state("not joined", "joining or leaving")

    async def _state(self, *states: str) -> dict[str, Any]:
        with trio.fail_after(LONG):
            while True:
                found: dict[str, Any] = (await self("Host.getCapabilities"))["domains"][SD]
                if found["state"] in states:
                    return found
                await trio.sleep(LOOK)

    async def assert_recorded(self, job_id: str, status: str) -> None:
        """Its lease is free, or soon will be, and says so; its bytes agree."""
        with trio.fail_after(WAIT):
            while True:
                lease = {"sd_id": SD, "lease_id": job_id}
                found = await self("Lease.status", lease=lease)
                if not found["owners"]:
                    break
                await trio.sleep(LOOK)
        assert found["metadata"]["job_status"] == status
        whole = self._target(job_id).read_bytes() == (self.agent.folder / "source").read_bytes()
        assert whole == (status == "SUCCEEDED")

    async def volume(self, job_id: str) -> tuple[str, int]:
        vol_id = self.volumes[job_id]
        ids = {"storagedomainID": SD, "imageID": vol_id, "volumeID": vol_id}
        info = await self("Volume.getInfo", **ids)
        return info["legality"], info["generation"]

    async def works(self) -> None:
        """Later jobs do."""
        job_id = await self.copy(limit=None)
        info = await self.ended(job_id)
        assert info["status"] == "done", info
        await self.assert_recorded(job_id, "SUCCEEDED")


@contextmanager
def site_on(folder: Path, mount: Path) -> Iterator[Site]:
    mount.mkdir(exist_ok=True)
    with (
        running("a", folder, 1) as daemon,
        agent_process(folder, concurrency=8, environment=daemon.environment) as agent,
    ):
        yield Site(agent, daemon, mount)


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with site_on(tmp_path, tmp_path / "mount") as made:
        await made.begin()
        yield made


async def test_jobs_fail_when_the_daemon_dies_and_later_ones_work_when_it_is_back(
    site: Site,
) -> None:
    """One that comes meanwhile waits for it."""
    jobs = [await site.copy() for _ in range(3)]
    volume, spare = await site.copy_to_volume(), await site.lease()
    await site.copying(*jobs, volume)
    site.daemon.kill()
    for job_id in (*jobs, volume):
        error = await site.failed(job_id)
        assert (error["kind"], error["data"]["reason"]) == ("LeaseLost", ENDED)
    await site.nothing_writes()
    early = await site.copy(spare, limit=None)
    await site.agent.reached(early, "running")
    await trio.to_thread.run_sync(site.daemon.start)
    await site.joined()
    for job_id in jobs:
        await site.assert_recorded(job_id, "PENDING")
    assert (await site.ended(early))["status"] == "done"
    await site.assert_recorded(early, "SUCCEEDED")
    assert await site.volume(volume) == ("ILLEGAL", 0)
    await site.works()


async def test_a_worker_that_dies_with_its_daemon_is_judged_when_the_host_has_joined_again(
    site: Site,
) -> None:
    job_id = await site.copy()
    await site.copying(job_id)
    [worker] = site.agent.workers
    os.kill(worker, signal.SIGSTOP)
    site.daemon.kill()
    os.kill(worker, signal.SIGKILL)
    await trio.to_thread.run_sync(site.daemon.start)
    error = await site.failed(job_id)
    assert (error["kind"], error["data"]["said"]) == ("WorkerDied", "its lease says PENDING")
    await site.nothing_writes()
    await site.joined()
    await site.assert_recorded(job_id, "PENDING")
    await site.works()


async def test_a_host_that_starts_anew_joins_again_and_does_what_waited(site: Site) -> None:
    """Everything has died: the daemon, the agent, workers and tools."""
    lost, waiting = await site.copy(), await site.lease()
    await site.copying(lost)
    await site.agent("pause", True)
    await site.copy(waiting, limit=None)
    site.daemon.signal(signal.SIGSTOP)  # it sees nobody's end
    await site.agent.kill()
    for process in site.agent.family:
        os.kill(process.pid, signal.SIGKILL)
    site.daemon.kill()
    await trio.to_thread.run_sync(site.daemon.start)
    await site.agent.start()
    assert (await site.ended(waiting))["status"] == "done"
    await site.joined()
    await site.assert_recorded(waiting, "SUCCEEDED")
    assert (await site.failed(lost))["kind"] == "WorkerDied"
    await site.assert_recorded(lost, "PENDING")


async def test_an_agent_that_was_killed_finds_what_failed_without_its_daemon(site: Site) -> None:
    jobs = [await site.copy() for _ in range(2)]
    await site.copying(*jobs)
    await site.agent.kill()
    site.daemon.kill()
    await until(lambda: not site.agent.workers)
    await site.agent.start()
    for job_id in jobs:
        assert (await site.failed(job_id))["data"]["reason"] == ENDED
    await site.nothing_writes()


@pytest.fixture
async def failing(tmp_path: Path) -> AsyncIterator[tuple[Site, Flaky]]:
    """Nothing can be written to the storage of leases. Volumes and their leases lie elsewhere."""
    disk = LeaseDisk.made(tmp_path)
    with (
        flaky(tmp_path, disk.image, on="write") as server,
        disk.behind(server, tmp_path),
        site_on(tmp_path, disk.mount) as made,
        ExitStack() as undo,
    ):
        await made.begin()
        images, elsewhere = disk.mount / SD / "images", tmp_path / "images"
        elsewhere.mkdir()
        tool(["mount", "--bind", str(elsewhere), str(images)])
        undo.callback(tool, ["umount", str(images)])
        yield made, server
        server.heal()
    disk.image.unlink()  # pytest would keep it


@pytest.mark.tools("nbdkit", "nbdfuse", "losetup", "mkfs.ext4")
async def test_jobs_whose_host_loses_the_storage_of_leases_have_failed(
    failing: tuple[Site, Flaky],
) -> None:
    """The daemon stops them by SIGTERM after 8 s. Nobody has aborted them."""
    site, server = failing
    job, volume = await site.copy(), await site.copy_to_volume()
    await site.copying(job, volume)
    server.fail()
    for job_id in (job, volume):
        error = await site.failed(job_id)
        assert error["kind"] in {"LeaseLost", "SanlockLVBError"}
        assert NOT_RENEWED.search(error["message"]), error
    await site.nothing_writes()
    await site.out()
    server.heal()
    await site.joined()
    await site.assert_recorded(job, "PENDING")
    assert await site.volume(volume) == ("ILLEGAL", 0)
    await site.works()
