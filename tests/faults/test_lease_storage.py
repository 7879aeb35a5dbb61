"""Faults of the storage that the leases are on. Whatever happens to it, a job that could not record
its success is not done, and its lease never says SUCCEEDED."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from jobs.job import Status
from leases import verbs
from protocol.errors import (
    LeaseLost,
    NoSpace,
    SanlockLVBError,
    StorageDomainCreationError,
)
from protocol.record import Expectation
from tests.cli.run import Cli, ended
from tests.faults.copies import Copies
from tests.faults.disks import small_file_system
from tests.faults.lease_disks import LEASES, LeaseDisk, bad_sector, fill
from tests.faults.outcomes import assert_unresolved, broken
from tests.servers import MIB, flaky, pattern, raw_image, tool, until

SIZE = 8 * MIB
LIMIT = 8 * MIB  # bytes/s: time enough for a fault in the middle
TOOLS = pytest.mark.tools("nbdkit", "nbdfuse", "losetup", "mkfs.ext4")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "target.raw", SIZE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LeaseDisk]:
    made = LeaseDisk.made(tmp_path)
    yield made
    made.image.unlink()  # pytest would keep it


# --- the value block cannot be written, or read -------------------------------------------------


@TOOLS
async def test_a_success_that_cannot_be_written_is_none(
    disk: LeaseDisk, source: Path, target: Path, tmp_path: Path
) -> None:
    """Every write to the lease storage fails from the middle of the copy on, with EIO."""
    with flaky(tmp_path, disk.image) as server, disk.behind(server, tmp_path):
        copies = await disk.create()
        job = copies.job(source, target, await copies.lease(), limit=LIMIT)
        error = await broken(job, server.fail, SanlockLVBError)
        assert error.code == 703
        assert os.strerror(errno.EIO) in str(error)
        assert any("PENDING" in note for note in error.__notes__)
        assert target.read_bytes() == source.read_bytes()  # all was copied, and it is not done
        server.heal()
        await assert_unresolved(copies, job)


@TOOLS
async def test_a_bad_sector_under_the_value_block_fails_the_job_at_its_end(
    disk: LeaseDisk, source: Path, target: Path, tmp_path: Path
) -> None:
    """Only this one sector cannot be written: the lease itself is well until the last byte."""
    with disk.healthy():
        copies = await disk.create()
        job_id = await copies.lease()
        block = await copies.block(job_id)
        place = disk.place(block.path, block.offset)
    with bad_sector(tmp_path, disk.image, place, on="write") as s, disk.behind(s, tmp_path):
        copies = await disk.open()
        job = copies.job(source, target, job_id)
        await job.run()
        assert job.status is Status.FAILED
        assert type(job.error) is SanlockLVBError, repr(job.error)
        expected = Expectation(job_id, 0)
        with pytest.raises(SanlockLVBError, match="written"):
            await verbs.fence(copies.store, job_id, expected, now=1, hardware_id="h")
    with disk.healthy():  # the sector was mended
        await assert_unresolved(await disk.open(), job)


@TOOLS
async def test_a_value_block_that_cannot_be_read_lets_no_job_begin(
    disk: LeaseDisk, source: Path, target: Path, tmp_path: Path
) -> None:
    """Neither the target nor the value block is written, and nobody takes it for empty."""
    with disk.healthy():
        copies = await disk.create()
        job_id = await copies.lease()
        block = await copies.block(job_id)
        before = block.read()
        place = disk.place(block.path, block.offset)
    expected = Expectation(job_id, 0)
    with bad_sector(tmp_path, disk.image, place, on="read") as s, disk.behind(s, tmp_path):
        copies = await disk.open()
        job = copies.job(source, target, job_id)
        await job.run()
        assert job.status is Status.FAILED
        assert type(job.error) is SanlockLVBError, repr(job.error)
        assert "cannot be read" in str(job.error)
        assert target.read_bytes() == bytes(SIZE)
        with pytest.raises(SanlockLVBError, match="read"):
            await copies.status(job_id)
        with pytest.raises(SanlockLVBError, match="read"):
            await verbs.fence(copies.store, job_id, expected, now=1, hardware_id="h")
        done = await verbs.rebuild(copies.store, now=1)
        assert [one.lease_id for one in done.kept] == [job_id]
    with disk.healthy():
        copies = await disk.open()
        assert (await copies.block(job_id)).read() == before
        again = copies.job(source, target, job_id)
        await again.run()
        await copies.assert_done(again)


@TOOLS
async def test_a_rebuild_passes_over_a_bad_sector_and_mends_the_rest(
    disk: LeaseDisk, tmp_path: Path
) -> None:
    with disk.healthy():
        copies = await disk.create()
        bad, good = await copies.lease(), await copies.lease()
        lease = await verbs.info(copies.store, bad)
        place = disk.place(lease.path, lease.offset)
        with open(lease.path, "r+b") as volume:
            volume.seek(copies.store.volume.geometry.index_offset + 512)
            volume.write(b"?" * 128)  # both records
    with bad_sector(tmp_path, disk.image, place, on="read") as s, disk.behind(s, tmp_path):
        copies = await disk.open()
        done = await verbs.rebuild(copies.store, now=1)
        assert [one.offset for one in done.failed] == [lease.offset]
        assert [one.lease_id for one in done.restored] == [good]
        assert (await copies.status(good)).owners == []
    with disk.healthy():
        copies = await disk.open()
        done = await verbs.rebuild(copies.store, now=1)
        assert [one.lease_id for one in done.restored] == [bad]


@TOOLS
async def test_lease_storage_that_dies_in_the_middle_cuts_the_copy_off(
    disk: LeaseDisk, source: Path, target: Path, tmp_path: Path
) -> None:
    """Reads fail as well: whether the lease is still ours cannot be seen any more."""
    with (
        flaky(tmp_path, disk.image, on="all") as server,
        disk.behind(server, tmp_path),
    ):
        copies = await disk.create()
        job = copies.job(source, target, await copies.lease(), limit=MIB)
        await broken(job, server.fail, LeaseLost)
        assert target.read_bytes() != source.read_bytes()
        server.heal()
        await assert_unresolved(copies, job)


@TOOLS
async def test_the_command_says_that_a_success_was_not_recorded(
    disk: LeaseDisk, cli: Cli, source: Path, target: Path, tmp_path: Path
) -> None:
    with flaky(tmp_path, disk.image) as server, disk.behind(server, tmp_path):
        copies = await disk.create()
        assert cli("domain", "open", disk.mount).code == 0
        sd, job_id = copies.domain.id, "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
        options = ("--domain", sd, "--job-id", job_id, "--limit", LIMIT, "--json")
        with cli.started("copy", source, target, *options) as process:
            await until(lambda: os.stat(target).st_blocks > 0)
            server.fail()
            told = await trio.to_thread.run_sync(ended, process)
        assert (told.code, told.error["code"]) == (1, 703)
        server.heal()
        status = cli("lease", "status", sd, job_id, "--json").json
        assert (status["owners"], status["metadata"]["job_status"]) == ([], "PENDING")


# --- no space -----------------------------------------------------------------------------------


async def test_a_full_lease_volume_refuses_a_job_before_anything_is_done(
    copies: Copies, cli: Cli, source: Path, target: Path, tmp_path: Path
) -> None:
    for _ in range(LEASES):
        await copies.lease()
    with pytest.raises(NoSpace):
        await copies.lease()
    assert cli("domain", "open", Path(copies.domain.path).parent).code == 0
    told = cli("copy", source, target, "--domain", copies.domain.id, "--json")
    assert (told.code, told.error["kind"]) == (6, "NoSpace")
    assert target.read_bytes() == bytes(SIZE)
    assert len(await verbs.leases(copies.store)) == LEASES


@pytest.mark.tools("mkfs.ext4")
async def test_leases_need_no_space_once_their_volume_is_there(
    source: Path, target: Path, tmp_path: Path
) -> None:
    """It is allocated in full, so a full disk stops no job, and none from being resolved."""
    with small_file_system(tmp_path, 80 * MIB) as folder:
        disk = LeaseDisk(tmp_path, folder)
        copies = await disk.create()
        fill(folder)
        for _ in range(2):
            job = await copies.copied(source, target)
            await copies.assert_done(job)
            await verbs.delete(copies.store, job.id)
        left = [await copies.lease() for _ in range(LEASES)]
        for job_id in left:
            await verbs.fence(copies.store, job_id, Expectation(job_id, 0), now=1, hardware_id="h")
        await verbs.rebuild(copies.store, now=1)
        with pytest.raises(StorageDomainCreationError):
            await disk.create()
        assert sorted(os.listdir(folder)) == sorted([copies.domain.id, "filler", "lost+found"])


@pytest.mark.tools("mkfs.ext4", "fallocate")
async def test_a_sparse_lease_volume_on_a_full_disk_is_left_as_it_was(
    source: Path, target: Path, tmp_path: Path
) -> None:
    """Another program may have made it so. A lease that cannot be written is not published."""
    with small_file_system(tmp_path, 80 * MIB) as folder:
        copies = await LeaseDisk(tmp_path, folder).create()
        there = await copies.lease()
        geometry = copies.store.volume.geometry
        hole = (geometry.offset(1), (LEASES - 1) * geometry.alignment)
        punch = ["fallocate", "--punch-hole", "-o", str(hole[0]), "-l", str(hole[1])]
        tool([*punch, copies.store.volume.path])
        filler = fill(folder)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            await copies.lease()
        assert [one.lease_id for one in await verbs.leases(copies.store)] == [there]
        job = copies.job(source, target, there)
        await job.run()
        await copies.assert_done(job)
        filler.unlink()
        await copies.assert_done(await copies.copied(source, target))
