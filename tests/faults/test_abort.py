"""An abort is never lost: wherever it meets a copy, nothing writes on and the lease tells how it
ended."""

import os
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trio
from trio.abc import Instrument
from trio.lowlevel import Task

from endpoints.disk import NAMESPACE
from endpoints.locks import Lock, Mode, held
from endpoints.tracked import Tracked
from endpoints.url import PathUrl
from jobs.job import Job, Status
from jobs.progress import Progress
from leases import verbs
from leases.grant import Grant
from protocol.messages import Format
from protocol.record import JobStatus
from tests import servers
from tests.faults.command import (
    Command,
    children,
    command,
    new_job_id,
    target_is_unlocked,
    until,
    writers,
)
from tests.faults.copies import Copies
from tests.faults.roads import LIMIT, Road, ends
from tests.faults.watch import Watch
from tests.servers import MIB, Server, pattern, qemu_nbd, raw_image

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo", "nbdkit", "setpriv")
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", 2 * MIB, data=pattern(MIB))


async def aborted(copies: Copies, job: Job) -> None:
    """The job is aborted without another error, and its free lease says FAILED."""
    assert (job.status, job.error) == (Status.ABORTED, None)
    await copies.assert_recorded(job, JobStatus.FAILED, generation=0)


# --- by a signal to the command ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("road", "number"),
    [*(("qemu-img", number) for number in SIGNALS), ("nbdcopy", signal.SIGINT)],
)
async def test_signal_in_the_tool(
    road: Road, number: signal.Signals, leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    with ends(road, tmp_path) as both:
        order = ("copy", both.source, both.target, "--json", "--limit", LIMIT // 4)
        with leasehold.started(*order) as running:
            await until(lambda: both.copied)
            running.signal(number)
            end = await running.wait()
        assert not both.writing(leasehold)  # already when the command has ended
        assert (end.code, end.error["code"], end.error["kind"]) == (4, 443, "ActionStopped"), end
        data = end.error["data"]
        assert data["job"]["status"] == "aborted"
        assert data["lease"]["owners"] == []
        assert data["lease"]["metadata"]["job_status"] == "FAILED"
        assert await leasehold.record(data["job_id"]) == ("FAILED", 0)
        await leasehold.nothing_left()
        await target_is_unlocked(both.target)
        assert (await leasehold("copy", both.source, both.target)).code == 0
        assert both.equal


async def test_a_file_that_the_aborted_copy_made_is_removed(
    leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    with ends("qemu-img", tmp_path, exists=False) as both:
        order = ("copy", both.source, both.target, "--json", "--limit", LIMIT // 4)
        with leasehold.started(*order) as running:
            await until(lambda: both.copied)
            running.signal(signal.SIGINT)
            assert (await running.wait()).code == 4
        assert not both.disk.exists()
        await leasehold.nothing_left()


async def test_signal_while_the_ends_are_looked_at_makes_no_lease(
    leasehold: Command, tmp_path: Path
) -> None:
    await leasehold.prepared()
    with servers.silent(tmp_path) as socket:
        order = ("copy", f"nbd+unix:///?socket={socket}", tmp_path / "new", "--json")
        with leasehold.started(*order) as running:
            await until(lambda: leasehold.tools("nbdinfo"))
            running.signal(signal.SIGTERM)
            end = await running.wait()
    assert (end.code, end.error["code"]) == (4, 443), end
    assert await leasehold.leases() == []
    assert not (tmp_path / "new").exists()
    await leasehold.nothing_left()


async def test_signal_while_another_copy_has_the_target(leasehold: Command, tmp_path: Path) -> None:
    await leasehold.prepared()
    job_id = new_job_id()
    with ends("qemu-img", tmp_path) as both:
        other = raw_image(tmp_path / "other.raw", MIB, data=pattern(MIB, 2))
        slow = ("copy", both.source, both.target, "--limit", LIMIT // 8, "--json")
        order = ("copy", other, both.target, "--job-id", job_id, "--json")
        with leasehold.started(*slow) as first:
            await until(lambda: both.copied)
            with leasehold.started(*order) as second:
                while await leasehold.status(job_id) is None:
                    assert not second.over
                second.signal(signal.SIGINT)
                end = await second.wait()
            assert (end.code, end.error["code"]) == (4, 443), end
            assert end.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
            assert await leasehold.record(job_id) == ("FAILED", 0)
            assert not first.over
            first.signal(signal.SIGINT)
            assert (await first.wait()).code == 4
        await leasehold.nothing_left()


# So that what comes between the release of the lease and the end of the process can be seen.
LINGER = """
import cli.foreground, trio
ended = cli.foreground.ended
async def later(*arguments):
    await trio.sleep(0.5)
    return await ended(*arguments)
cli.foreground.ended = later
"""


async def test_more_signals_leave_no_writer(leasehold: Command, tmp_path: Path) -> None:
    """The tool is stopped and does not listen to SIGTERM; until it is gone its lease is held."""
    await leasehold.prepared()
    job_id = new_job_id()
    with ends("qemu-img", tmp_path) as both:
        watch = Watch(leasehold, both, job_id)
        order = ("copy", both.source, both.target, "--json", "--job-id", job_id)
        with leasehold.started(*order, "--limit", LIMIT // 4, before=LINGER) as running:
            await until(lambda: both.copied)
            (tool,) = both.writing(leasehold)
            os.kill(tool.pid, signal.SIGSTOP)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch.run)
                for number in (*SIGNALS, *SIGNALS):
                    running.signal(number)
                    await trio.sleep(0.01)
                end = await running.wait()
                await until(lambda: watch.looks)
                nursery.cancel_scope.cancel()
        assert not writers(both.disk)
        assert watch.violations == []
        assert (end.code, end.error["code"]) == (4, 443), end
        assert await leasehold.record(job_id) == ("FAILED", 0)
        await leasehold.nothing_left()


async def test_signal_while_the_server_flushes(leasehold: Command, tmp_path: Path) -> None:
    """Nothing says that the flush succeeded: the copy is not done."""
    await leasehold.prepared()
    source = raw_image(tmp_path / "source.raw", MIB, data=pattern(MIB))
    with slow_flush(tmp_path) as (server, flushing, go):
        order = ("copy", source, server.url, "--json")
        with leasehold.started(*order) as running:
            await until(flushing.exists)
            running.signal(signal.SIGTERM)
            end = await running.wait()
        go.touch()
    assert (end.code, end.error["code"]) == (4, 443), end
    assert end.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
    await leasehold.nothing_left()


@contextmanager
def slow_flush(folder: Path) -> Iterator[tuple[Server, Path, Path]]:
    """A server that touches the first path when it is asked to flush, and waits for the second."""
    disk, flushing, go = folder / "disk", folder / "flushing", folder / "go"
    raw_image(disk, MIB)
    flush = f"touch {flushing}; while [ ! -e {go} ]; do sleep 0.01; done"
    methods = {
        "get_size": f"echo {MIB}",
        "pread": f"dd if={disk} bs=64k skip=$4 count=$3 iflag=count_bytes,skip_bytes",
        "pwrite": f"dd of={disk} bs=64k seek=$4 oflag=seek_bytes conv=notrunc",
        "can_write": "exit 0",
        "can_flush": "exit 0",
        "flush": flush,
    }
    plugin = ["eval", *(f"{name}={script}" for name, script in methods.items())]
    with servers.nbdkit(folder, plugin) as server:
        try:
            yield server, flushing, go
        finally:
            go.touch()


# --- by job.abort(), at one moment -------------------------------------------------------------


async def test_abort_while_inspecting(copies: Copies, tmp_path: Path) -> None:
    before = children(os.getpid())  # daemons, perhaps, for other tests
    with servers.silent(tmp_path) as socket:
        url = f"nbd+unix:///?socket={socket}"
        job = copies.job(url, tmp_path / "new", await copies.lease())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run)
            await until(lambda: servers.users(socket))
            job.abort()
    await aborted(copies, job)
    assert not (tmp_path / "new").exists()
    assert children(os.getpid()) == before


async def test_abort_while_flushing_is_one_or_the_other(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    """fsync cannot be interrupted: the job says what its lease says."""
    target = raw_image(tmp_path / "target.raw", 2 * MIB)

    def seen(progress: Progress) -> None:
        if progress.stage == "flushing" and job.status is Status.RUNNING:
            job.abort()

    job = copies.job(source, target, await copies.lease(), seen=seen)
    await job.run()
    if job.status is Status.ABORTED:
        await aborted(copies, job)
    else:
        await copies.assert_done(job)
        assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_abort_after_the_last_byte_comes_too_late(
    moment: str, copies: Copies, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the result is recorded: the copy is done, and never `aborted` with SUCCEEDED."""
    succeed = Tracked.succeed

    async def interrupted(self: Tracked, grant: Grant) -> None:
        if moment == "before":
            job.abort()
        await succeed(self, grant)
        if moment == "after":
            job.abort()
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Tracked, "succeed", interrupted)
    target = tmp_path / "target.raw"
    job = copies.job(source, target, await copies.lease())
    await job.run()
    await copies.assert_done(job)
    assert target.read_bytes() == source.read_bytes()


async def test_abort_while_waiting_for_the_target(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    job = waiting_job(copies, source, tmp_path / "target.raw", await copies.lease())
    async with held(locks_of(tmp_path / "target.raw")):
        await job.run()
    await aborted(copies, job)
    assert not (tmp_path / "target.raw").exists()


async def test_abort_while_waiting_and_another_holds_the_lease_leaves_it_pending(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    job_id = await copies.lease()
    job = waiting_job(copies, source, tmp_path / "target.raw", job_id)
    lease = await verbs.info(copies.store, job_id)
    async with held(locks_of(tmp_path / "target.raw")):
        grant = await copies.store.acquire(lease)
        await job.run()
        await copies.store.release(grant)
    assert (job.status, job.error) == (Status.ABORTED, None)
    await copies.assert_recorded(job, JobStatus.PENDING, generation=0)


def waiting_job(copies: Copies, source: Path, target: Path, job_id: str) -> Job:
    """A job that aborts itself when it waits for a lock."""

    def seen(progress: Progress) -> None:
        if "waiting" in (progress.stage or "") and job.status is Status.RUNNING:
            job.abort()

    job = copies.job(source, target, job_id, seen=seen)
    return job


def locks_of(target: Path) -> list[Lock]:
    return [Lock(NAMESPACE, PathUrl(str(target)).key, Mode.EXCLUSIVE)]


# --- by job.abort(), at every moment -----------------------------------------------------------


class AbortAfter(Instrument):
    """Aborts `job` when the task that runs it waits for the `count`-th time."""

    def __init__(self, job: Job, count: int) -> None:
        self.job = job
        self.left = count
        self.fired = False

    def after_task_step(self, task: Task) -> None:
        if task.name == self.job.id and not self.job.status.ended:
            self.left -= 1
            if self.left == 0:
                self.fired = True
                self.job.abort()


async def run_with(job: Job, instrument: Instrument) -> None:
    trio.lowlevel.add_instrument(instrument)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run, name=job.id)
    finally:
        trio.lowlevel.remove_instrument(instrument)


@dataclass(frozen=True)
class Traces:
    """What a copy could leave behind in this process and beside it."""

    descriptors: dict[str, str]
    children: set[int]
    temporary: list[str]

    @classmethod
    def now(cls) -> "Traces":
        return cls(descriptors(), children(os.getpid()), os.listdir(tempfile.gettempdir()))


def descriptors() -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:  # the one of the listing itself
            continue
    return found


STRIDE = 4
LARGEST = 500  # awaits of a tiny copy, at most


@pytest.mark.sample(6)
@pytest.mark.parametrize("start", range(1, STRIDE + 1))
@pytest.mark.parametrize("kind", ["new raw", "new qcow2", "disk", "nbd"])
async def test_abort_at_every_await(
    kind: str, start: int, copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    source = raw_image(tmp_path / "source.raw", 256 << 10, data=pattern(128 << 10))
    disk = tmp_path / "target"
    if kind in ("disk", "nbd"):
        raw_image(disk, 256 << 10)
    format: Format = "qcow2" if "qcow2" in kind else "raw"
    if kind == "nbd":
        with qemu_nbd(disk, tmp_path) as server:
            await abort_everywhere(copies, source, server.url, disk, start=start, format=format)
    else:
        await abort_everywhere(copies, source, str(disk), disk, start=start, format=format)


async def abort_everywhere(
    copies: Copies, source: Path, url: str, disk: Path, *, start: int, format: Format
) -> None:
    made = not disk.exists()
    done = await copies.copied(source, url, format=format)  # healthy first
    await copies.assert_done(done)
    before = Traces.now()
    for count in range(start, LARGEST, STRIDE):
        if made:
            disk.unlink(missing_ok=True)
        job = copies.job(source, url, await copies.lease(), format=format)
        instrument = AbortAfter(job, count)
        await run_with(job, instrument)
        with trio.move_on_after(servers.WAIT):
            # A look at the lease that was left behind closes its file a moment later.
            while Traces.now() != before:  # noqa: ASYNC110
                await trio.sleep(0.01)
        assert Traces.now() == before, count
        await target_is_unlocked(url)
        if job.status is Status.DONE:
            await copies.assert_done(job)
        else:
            await aborted(copies, job)
            assert disk.exists() != made, count
        await verbs.delete(copies.store, job.id)
        if not instrument.fired:
            assert count > start  # some were aborted
            assert disk.exists()
            return
    raise AssertionError("the copy waits more often than was thought")
