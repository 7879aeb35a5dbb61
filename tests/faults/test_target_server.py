"""NBD servers that die or hang in the middle of a copy."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from jobs.job import Job, Status
from protocol.errors import ConnectionLost, InputOutputError, ToolStalled
from protocol.record import JobStatus
from tests.cli.run import Cli, ended
from tests.faults.copies import Copies
from tests.servers import MIB, WAIT, Pausable, Server, pattern, pausable, qemu_nbd, raw_image, until

SIZE = 32 * MIB
LIMIT = 4 * MIB  # bytes/s: the copy takes long, so that its middle is not missed

LeftOver = Callable[..., list[int]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "disk.raw", SIZE)


@pytest.mark.tools("qemu-nbd", "nbdcopy")
async def test_a_target_that_is_killed_fails_the_job(
    copies: Copies, source: Path, disk: Path, tmp_path: Path, left_over: LeftOver
) -> None:
    with qemu_nbd(disk, tmp_path) as server:
        job = copies.job(source, server.url, await copies.lease(), limit=LIMIT)
        await cut_off_in_the_middle(job, server, disk)
        await copies.assert_failed(job, ConnectionLost)
        assert left_over() == []


@pytest.mark.tools("qemu-nbd", "nbdcopy")
@pytest.mark.parametrize("to_nbd", [False, True], ids=["to a file", "to nbd"])
async def test_a_source_that_is_killed_fails_the_job(
    copies: Copies,
    source: Path,
    disk: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    to_nbd: bool,
) -> None:
    """QEMU answers its reader with EIO when its own server is gone."""
    with qemu_nbd(source, tmp_path) as server, qemu_nbd(disk, tmp_path) as other:
        new = tmp_path / "new.raw"
        target = other.url if to_nbd else new
        job = copies.job(server.url, target, await copies.lease(), limit=LIMIT)
        await cut_off_in_the_middle(job, server, disk if to_nbd else new)
        await copies.assert_failed(job, InputOutputError)
        assert left_over(other.pid) == []


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize("stopped", [False, True], ids=["requests held back", "process stopped"])
async def test_a_target_that_hangs_does_not_keep_an_aborted_job(
    copies: Copies,
    source: Path,
    disk: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    stopped: bool,
) -> None:
    with pausable(tmp_path, disk) as server:
        job = copies.job(source, server.url, await copies.lease(), limit=LIMIT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(job.run)
            await until(lambda: arrived(disk) or job.status.ended)
            with hung(server, stopped=stopped):
                job.abort()
                with trio.fail_after(WAIT):
                    await job.wait()
        assert job.status is Status.ABORTED
        await copies.assert_recorded(job, JobStatus.FAILED, generation=0)
        assert left_over(server.pid) == []


@pytest.mark.tools("nbdkit", "nbdcopy")
async def test_a_target_that_hangs_is_given_up(
    copies: Copies, source: Path, disk: Path, tmp_path: Path, left_over: LeftOver
) -> None:
    with pausable(tmp_path, disk) as server:
        job = copies.job(source, server.url, await copies.lease(), stall_time=1.0)
        with hung(server, stopped=False):
            await job.run()
        await copies.assert_failed(job, ToolStalled)
        assert left_over(server.pid) == []


@pytest.mark.tools("nbdkit", "nbdcopy")
async def test_from_server_to_server_a_hang_is_given_up_and_a_slow_copy_is_not(
    copies: Copies, source: Path, disk: Path, tmp_path: Path
) -> None:
    """No counter of files sees those bytes, and nbdcopy prints a percent each 128 MiB only."""
    with qemu_nbd(source, tmp_path) as reader, pausable(tmp_path, disk) as server:
        lease = await copies.lease()
        job = copies.job(reader.url, server.url, lease, limit=8 * MIB, stall_time=1.0)
        await job.run()
        await copies.assert_done(job)
        job = copies.job(reader.url, server.url, await copies.lease(), stall_time=1.0)
        with hung(server, stopped=False):
            await job.run()
        await copies.assert_failed(job, ToolStalled)


@pytest.mark.tools("nbdkit", "nbdcopy")
async def test_the_command_is_not_kept_by_a_target_that_hangs(
    cli: Cli, source: Path, disk: Path, tmp_path: Path, left_over: LeftOver
) -> None:
    with (
        pausable(tmp_path, disk) as server,
        cli.started("copy", source, server.url, "--json", "--limit", LIMIT) as process,
    ):
        await until(lambda: arrived(disk))
        with hung(server, stopped=False):
            process.send_signal(signal.SIGTERM)
            aborted = await trio.to_thread.run_sync(ended, process)
        assert (aborted.code, aborted.error["kind"]) == (4, "ActionStopped")
        assert aborted.error["data"]["lease"]["owners"] == []
        assert aborted.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
        assert left_over(server.pid) == []


async def cut_off_in_the_middle(job: Job, server: Server, disk: Path) -> None:
    """Run the job, kill the server when data has arrived in the file `disk`."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: arrived(disk) or job.status.ended)
        server.kill()
        with trio.fail_after(WAIT):
            await job.wait()


@contextmanager
def hung(server: Pausable, *, stopped: bool) -> Iterator[None]:
    """A server that answers nothing for the body; stopped: its connections neither."""
    if stopped:
        os.kill(server.pid, signal.SIGSTOP)
    else:
        server.pause()
    try:
        yield
    finally:
        if stopped:
            os.kill(server.pid, signal.SIGCONT)
        else:
            server.resume()


def arrived(disk: Path) -> bool:
    """Whether the sparse file has got data."""
    return disk.exists() and disk.stat().st_blocks > 0
