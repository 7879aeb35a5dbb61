"""Faults of iSCSI targets and of Ceph in the middle of a copy, and writers whose access is cut."""

import signal
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from jobs.job import Job, Status
from processes.tgtadm import Tgtd
from protocol.errors import ConnectionLost, ToolStalled
from protocol.record import JobStatus
from tests.ceph_cluster import POOL, CephCluster
from tests.faults.copies import Copies
from tests.servers import MIB, WAIT, pattern, raw_image, until
from tests.tgt_server import TgtServer, tgt_server
from tests.volumes import tgtadm, unit

full = pytest.mark.full  # it takes the tools many seconds to be given up

SIZE = 64 * MIB
LIMIT = 8 * MIB  # bytes/s: the copy takes long, so that its middle is not missed
STALL = 1.5  # seconds

LeftOver = Callable[..., list[int]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


# --- iSCSI ------------------------------------------------------------------------------------


@pytest.fixture
def tgtd() -> Iterator[TgtServer]:
    with tgt_server() as server:
        yield server


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "unit.raw", SIZE)


def arrived(disk: Path) -> bool:
    return disk.stat().st_blocks > 0


async def mask(server: TgtServer) -> None:
    """Let nobody in any more, and cut off who is in: what a forced disconnect does."""
    tgtadm(server, "unbind", "target", "-I", "ALL")
    daemon = Tgtd(server.socket)
    for target in (await daemon.targets()).values():
        for nexus in target.nexuses:
            for connection in nexus.connections:
                await daemon.cut(target.tid, nexus.number, connection)


async def cut(job: Job, server: TgtServer, disk: Path, how: str) -> None:
    """Run a job, and let its target be gone when data has arrived there."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: arrived(disk) or job.status.ended)
        assert not job.status.ended, repr(job.error)
        if how == "masked":
            await mask(server)
        elif how == "killed":
            server.kill()
        else:
            assert server.process is not None
            server.process.send_signal(signal.SIGSTOP)
        with trio.fail_after(WAIT):
            await job.wait()


@full
@pytest.mark.tools("tgtd", "tgtadm", "qemu-nbd", "nbdcopy")
@pytest.mark.parametrize("how", ["masked", "killed", "stopped"])
async def test_a_copy_to_a_logical_unit_that_is_cut_off_is_given_up(
    copies: Copies, source: Path, tgtd: TgtServer, disk: Path, left_over: LeftOver, *, how: str
) -> None:
    """The initiator in QEMU tries to log in again for ever, and tells nobody."""
    job = copies.job(source, unit(tgtd, disk), await copies.lease(), limit=LIMIT, stall_time=STALL)
    await cut(job, tgtd, disk, how)
    await copies.assert_failed(job, ToolStalled)
    assert tgtd.process is not None
    assert left_over(tgtd.process.pid) == []


@full
@pytest.mark.tools("tgtd", "tgtadm", "qemu-nbd", "nbdcopy")
async def test_who_was_disconnected_by_force_writes_no_more(
    copies: Copies, source: Path, tgtd: TgtServer, disk: Path
) -> None:
    job = copies.job(source, unit(tgtd, disk), await copies.lease(), limit=LIMIT, stall_time=STALL)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: arrived(disk) or job.status.ended)
        await mask(tgtd)
        after = disk.read_bytes()
        assert not job.status.ended, "its tools were to be there still"
        with trio.fail_after(WAIT):
            await job.wait()
    assert disk.read_bytes() == after != source.read_bytes()
    assert "I_T nexus: " not in tgtd.show()
    await copies.assert_failed(job, ToolStalled)


@pytest.mark.tools("tgtd", "tgtadm", "qemu-nbd", "nbdcopy")
async def test_an_aborted_copy_leaves_no_session(
    copies: Copies, source: Path, tgtd: TgtServer, disk: Path
) -> None:
    job = copies.job(source, unit(tgtd, disk), await copies.lease(), limit=LIMIT)
    await aborted(job, lambda: arrived(disk))
    await copies.assert_recorded(job, JobStatus.FAILED, generation=0)
    await until(lambda: "I_T nexus: " not in tgtd.show())  # the daemon notices a moment later


async def aborted(job: Job, in_the_middle: Callable[[], object]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: in_the_middle() or job.status.ended)
        job.abort()
        with trio.fail_after(WAIT):
            await job.wait()
    assert job.status is Status.ABORTED, repr(job.error)


# --- Ceph -------------------------------------------------------------------------------------

CEPH = pytest.mark.tools("ceph-mon", "ceph-mgr", "ceph-osd", "rbd", "qemu-nbd", "nbdcopy")


class Image:
    """An image in the pool of a cluster."""

    def __init__(self, cluster: CephCluster) -> None:
        self.cluster = cluster
        self.name = f"{POOL}/{uuid.uuid4().hex}"
        cluster.tool("rbd", "create", self.name, "--size", f"{SIZE}B")

    @property
    def url(self) -> str:
        return f"rbd:{self.name}:conf={self.cluster.conf}:keyring={self.cluster.keyring}"

    @property
    def watchers(self) -> list[str]:
        """The addresses of those that have it open to write."""
        found = self.cluster.rbd("status", self.name)["watchers"]
        return [watcher["address"] for watcher in found]

    @property
    def arrived(self) -> bool:
        [image] = self.cluster.rbd("du", self.name)["images"]
        return bool(image["used_size"])

    def content(self, folder: Path) -> bytes:
        path = folder / "content"
        self.cluster.tool("rbd", "export", "--no-progress", self.name, path)
        content = path.read_bytes()
        path.unlink()
        return content


@pytest.fixture
def image(ceph_cluster: CephCluster) -> Iterator[Image]:
    made = Image(ceph_cluster)
    yield made
    ceph_cluster.tool("rbd", "rm", "--no-progress", made.name)  # refused while it is watched


@CEPH
@pytest.mark.parametrize("limit", [LIMIT, None], ids=["held back", "as fast as it goes"])
async def test_an_aborted_copy_leaves_no_watcher(
    copies: Copies, source: Path, image: Image, left_over: LeftOver, limit: int | None
) -> None:
    job = copies.job(source, image.url, await copies.lease(), limit=limit)
    await aborted(job, lambda: image.watchers)
    assert image.watchers == []
    await copies.assert_recorded(job, JobStatus.FAILED, generation=0)
    assert left_over(*daemons(image.cluster)) == []


@CEPH
async def test_a_copy_that_is_done_leaves_no_watcher(
    copies: Copies, source: Path, image: Image
) -> None:
    await copies.assert_done(await copies.copied(source, image.url))
    assert image.watchers == []


@CEPH
async def test_who_was_put_on_the_blocklist_writes_no_more(
    copies: Copies, source: Path, image: Image, tmp_path: Path, left_over: LeftOver
) -> None:
    job = copies.job(source, image.url, await copies.lease(), limit=LIMIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: image.arrived or job.status.ended)
        [writer] = image.watchers
        image.cluster.tool("ceph", "osd", "blocklist", "add", writer)
        after = image.content(tmp_path)
        with trio.fail_after(WAIT):
            await job.wait()
    await copies.assert_failed(job, ConnectionLost)
    assert image.content(tmp_path) == after != source.read_bytes()
    image.cluster.tool("ceph", "osd", "blocklist", "rm", writer)
    assert left_over(*daemons(image.cluster)) == []


def daemons(cluster: CephCluster) -> list[int]:
    return list(cluster.pids.values())
