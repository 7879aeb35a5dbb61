"""A flush that fails: a copy that is not on stable storage is not done, whatever the tool said."""

from pathlib import Path
from typing import Literal

import pytest

from protocol.errors import FlushFailed
from tests.cli.run import Cli
from tests.faults.copies import Copies
from tests.faults.disks import fuse_file, loop_device
from tests.servers import MIB, bad_flush, pattern, raw_image

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


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize("times", TIMES)
def test_the_command_tells_of_a_flush_that_failed(
    cli: Cli, source: Path, empty: Path, tmp_path: Path, times: Times
) -> None:
    with bad_flush(tmp_path, empty, times=times) as server:
        failed = cli("copy", source, server.url, "--json")
        assert (failed.code, failed.error["kind"]) == (1, "FlushFailed")
        assert failed.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"
