"""Errors of the disks in the middle of a copy: the job fails and says why, on disk as well."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from protocol.errors import Error, InputOutputError, NoSpaceLeft
from tests.cli.run import Cli, ended
from tests.faults.copies import Copies
from tests.faults.disks import fuse_file, small_file_system
from tests.servers import (
    MIB,
    Flaky,
    Server,
    flaky,
    nbdkit,
    pattern,
    qcow2_image,
    raw_image,
    until,
)

SIZE = 32 * MIB
LIMIT = 4 * MIB  # bytes/s: the copy takes long, so that its middle is not missed
ERRORS = [("EIO", InputOutputError), ("ENOSPC", NoSpaceLeft)]
ENDS = ("error", "kind")

LeftOver = Callable[..., list[int]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "empty.raw", SIZE)


async def broken_in_the_middle(
    copies: Copies,
    source: Path | str,
    target: Path | str,
    server: Flaky,
    kind: type[Error],
    *,
    written: Path,
) -> None:
    """Copy, break the server when data has arrived in the file `written`, see the copy fail."""
    job = copies.job(source, target, await copies.lease(), limit=LIMIT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: arrived(written) or job.status.ended)
        server.fail()
    await copies.assert_failed(job, kind)


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize(ENDS, ERRORS)
async def test_an_error_of_an_nbd_target_fails_the_job_by_its_class(
    copies: Copies,
    source: Path,
    empty: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    error: str,
    kind: type[Error],
) -> None:
    with flaky(tmp_path, empty, error=error) as server:
        await broken_in_the_middle(copies, source, server.url, server, kind, written=empty)
        assert left_over(server.pid) == []


@pytest.mark.tools("nbdkit", "nbdfuse")
@pytest.mark.parametrize(ENDS, ERRORS)
async def test_an_error_of_a_target_file_fails_the_job_by_its_class(
    copies: Copies,
    source: Path,
    empty: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    error: str,
    kind: type[Error],
) -> None:
    with flaky(tmp_path, empty, error=error) as server, fuse_file(server, tmp_path) as target:
        known = left_over()
        await broken_in_the_middle(copies, source, target, server, kind, written=empty)
        assert left_over(*known) == []


@pytest.mark.tools("nbdkit", "nbdfuse")
async def test_a_qcow2_target_whose_tables_cannot_be_written_fails_the_job(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    """qemu-img writes them last, when it closes the image, and exits 0 when that fails."""
    image = qcow2_image(tmp_path / "target.qcow2", SIZE)
    with image.open("r+b") as file:
        file.truncate(SIZE + MIB)  # an export does not grow
    with (
        broken_tables(tmp_path, image) as server,
        fuse_file(server, tmp_path) as target,
    ):
        job = await copies.copied(source, target, format="qcow2")
        await copies.assert_failed(job, InputOutputError)


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize("to_nbd", [False, True], ids=["to a file", "to nbd"])
async def test_a_source_that_cannot_be_read_fails_the_job(
    copies: Copies,
    source: Path,
    empty: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    to_nbd: bool,
) -> None:
    with (
        flaky(tmp_path, source, error="EIO", on="read") as server,
        flaky(tmp_path, empty) as healthy,
    ):
        new = tmp_path / "new.raw"
        await broken_in_the_middle(
            copies,
            server.url,
            healthy.url if to_nbd else new,
            server,
            InputOutputError,
            written=empty if to_nbd else new,
        )
        assert left_over(server.pid, healthy.pid) == []
        assert not new.exists()


@pytest.mark.tools("mkfs.ext4", "mount", "losetup")
@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_new_file_that_does_not_fit_is_removed_again(
    copies: Copies, source: Path, tmp_path: Path, left_over: LeftOver, format: str
) -> None:
    with small_file_system(tmp_path, 8 * MIB) as folder:
        job = await copies.copied(source, folder / "target", format=format)
        await copies.assert_failed(job, NoSpaceLeft)
        assert [one.name for one in folder.iterdir()] == ["lost+found"]
        assert left_over() == []


@pytest.mark.tools("mkfs.ext4", "mount", "losetup")
async def test_an_existing_file_on_a_full_disk_fails_the_job_and_stays(
    copies: Copies, source: Path, tmp_path: Path, left_over: LeftOver
) -> None:
    with small_file_system(tmp_path, 8 * MIB) as folder:
        target = raw_image(folder / "target", SIZE)
        await copies.assert_failed(await copies.copied(source, target), NoSpaceLeft)
        assert target.stat().st_size == SIZE
        assert left_over() == []


@pytest.mark.tools("mkfs.ext4", "mount", "losetup")
def test_the_command_tells_of_a_full_disk(
    cli: Cli, source: Path, tmp_path: Path, left_over: LeftOver
) -> None:
    with small_file_system(tmp_path, 8 * MIB) as folder:
        failed = cli("copy", source, folder / "target", "--json")
        assert (failed.code, failed.error["kind"]) == (1, "NoSpaceLeft")
        assert_recorded_as_failed(failed.error["data"]["lease"])
        assert left_over() == []


@pytest.mark.tools("nbdkit", "nbdcopy")
@pytest.mark.parametrize(ENDS, ERRORS)
async def test_the_command_tells_of_an_nbd_target_that_breaks(
    cli: Cli,
    source: Path,
    empty: Path,
    tmp_path: Path,
    *,
    left_over: LeftOver,
    error: str,
    kind: type[Error],
) -> None:
    with (
        flaky(tmp_path, empty, error=error) as server,
        cli.started("copy", source, server.url, "--json", "--limit", LIMIT) as process,
    ):
        await until(lambda: arrived(empty))
        server.fail()
        failed = ended(process)
        assert (failed.code, failed.error["kind"]) == (1, kind.__name__)
        assert_recorded_as_failed(failed.error["data"]["lease"])
        assert left_over(server.pid) == []


def arrived(image: Path) -> bool:
    """Whether the sparse file is there and has got data."""
    return image.exists() and image.stat().st_blocks > 0


def assert_recorded_as_failed(lease: dict[str, object]) -> None:
    """The status of a lease, as the command prints it."""
    metadata = lease["metadata"]
    assert isinstance(metadata, dict)
    assert lease["owners"] == []
    assert (metadata["job_status"], metadata["generation"]) == ("FAILED", 0)


@contextmanager
def broken_tables(folder: Path, image: Path) -> Iterator[Server]:
    """Serve a new qcow2 image; once there is data in it, its tables cannot be written any more.

    The tables of an image that qemu-img has just made stand in its first 320 KiB.
    """
    tables, seen = 320 << 10, folder / "data was written"
    pwrite = (
        f"if [ $4 -ge {tables} ]; then touch '{seen}'; "
        f"elif [ -e '{seen}' ]; then echo 'EIO bad sector' >&2; exit 1; fi; "
        f"dd of='{image}' bs=1M seek=$4 oflag=seek_bytes conv=notrunc"
    )
    methods = {
        "get_size": f"stat -c %s '{image}'",
        "pread": f"dd if='{image}' bs=1M skip=$4 count=$3 iflag=count_bytes,skip_bytes",
        "pwrite": pwrite,
        "can_write": "exit 0",
        "can_flush": "exit 0",
        "flush": "exit 0",
    }
    with nbdkit(folder, ["eval", *(f"{name}={script}" for name, script in methods.items())]) as it:
        yield it
