"""A flush that fails: a copy that is not on stable storage is not done, whatever the tool said."""

import os
from pathlib import Path
from typing import Literal

import pytest

from jobs.progress import Progress
from protocol.errors import FlushFailed
from tests.cli.run import Cli
from tests.faults.copies import Copies
from tests.faults.disks import fuse_file, loop_device, mounted
from tests.servers import MIB, bad_flush, flaky, pattern, raw_image
from tests.tgt_server import tgt_server
from tests.volumes import unit

SIZE = MIB
Times = Literal["always", "first"]
TIMES: list[Times] = ["always", "first"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "empty.raw", SIZE)


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize("times", TIMES)
async def test_an_nbd_target_that_cannot_flush_fails_the_job(
    copies: Copies, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    with bad_flush(tmp_path, empty, times=times) as server:
        job = await copies.copied(source, server.url)
        await copies.assert_failed(job, FlushFailed)
        assert server.count >= 1


@pytest.mark.tools("nbdkit", "nbdcopy")
async def test_an_nbd_target_is_flushed_before_the_job_is_done(
    copies: Copies, source: Path, empty: Path, tmp_path: Path
) -> None:
    with bad_flush(tmp_path, empty, times="never") as server:
        await copies.assert_done(await copies.copied(source, server.url))
        assert server.count >= 1
    assert empty.read_bytes() == source.read_bytes()


@pytest.mark.tools("nbdkit", "nbdfuse")
@pytest.mark.parametrize("times", TIMES)
async def test_a_file_that_cannot_be_flushed_fails_the_job(
    copies: Copies, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    with (
        bad_flush(tmp_path, empty, times=times) as server,
        fuse_file(server, tmp_path) as target,
    ):
        await copies.assert_failed(await copies.copied(source, target), FlushFailed)
        assert server.count >= 1


@pytest.mark.tools("nbdkit", "nbdfuse")
async def test_a_file_is_flushed_before_the_job_is_done(
    copies: Copies, source: Path, empty: Path, tmp_path: Path
) -> None:
    with (
        bad_flush(tmp_path, empty, times="never") as server,
        fuse_file(server, tmp_path) as target,
    ):
        await copies.assert_done(await copies.copied(source, target))
        assert server.count >= 1
    assert empty.read_bytes() == source.read_bytes()


@pytest.mark.tools("nbdkit", "nbdfuse", "losetup")
@pytest.mark.parametrize("times", TIMES)
async def test_a_device_that_cannot_be_flushed_fails_the_job(
    copies: Copies, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    with (
        bad_flush(tmp_path, empty, times=times) as server,
        fuse_file(server, tmp_path) as file,
        loop_device(file) as device,
    ):
        server.flushes.unlink(missing_ok=True)  # those of the set-up do not count
        await copies.assert_failed(await copies.copied(source, device), FlushFailed)
        assert server.count >= 1


@pytest.mark.tools("nbdkit", "nbdfuse", "tgtd", "tgtadm", "nbdcopy")
@pytest.mark.parametrize("times", TIMES)
async def test_a_logical_unit_that_cannot_be_flushed_fails_the_job(
    copies: Copies, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    """Its server answers so to the server of ours before it, and that to the copy tool."""
    with (
        bad_flush(tmp_path, empty, times=times) as server,
        fuse_file(server, tmp_path) as file,
        tgt_server() as tgtd,
    ):
        server.flushes.unlink(missing_ok=True)
        await copies.assert_failed(await copies.copied(source, unit(tgtd, file)), FlushFailed)
        assert server.count >= 1


@pytest.mark.tools("nbdkit", "nbdfuse", "losetup", "mkfs.xfs")
async def test_shared_extents_that_cannot_be_flushed_fail_the_job(
    copies: Copies, tmp_path: Path
) -> None:
    """To share extents changes the file system alone, whose log cannot be written here."""
    with (
        flaky(tmp_path, raw_image(tmp_path / "disk", 320 * MIB)) as server,
        fuse_file(server, tmp_path) as disk,
        mounted(disk, "xfs", "-m", "reflink=1") as folder,
    ):
        source = raw_image(folder / "source.raw", SIZE, data=pattern(SIZE))
        os.sync()
        target = raw_image(folder / "target.raw", SIZE)
        healthy = await copies.copied(source, raw_image(folder / "other.raw", SIZE))
        await copies.assert_done(healthy)
        assert healthy.result is not None
        assert "sharing extents" in healthy.result["path_taken"]

        def fail(progress: Progress) -> None:
            if progress.stage == "flushing":
                server.fail()

        job = copies.job(source, target, await copies.lease(), seen=fail)
        await job.run()
        await copies.assert_failed(job, FlushFailed)


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize("times", TIMES)
def test_the_command_tells_of_a_flush_that_failed(
    cli: Cli, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    with bad_flush(tmp_path, empty, times=times) as server:
        failed = cli("copy", source, server.url, "--json")
        assert (failed.code, failed.error["kind"]) == (1, "FlushFailed")
        assert failed.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
