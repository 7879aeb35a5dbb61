"""A domain that vanishes under a job: the copy is cut off, and its lease never says SUCCEEDED."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from jobs.progress import Progress
from protocol.errors import (
    InvalidDomain,
    LeaseLost,
)
from protocol.record import JobStatus
from tests.faults.copies import Copies
from tests.faults.lease_disks import LeaseDisk
from tests.faults.outcomes import assert_unresolved, broken
from tests.servers import MIB, pattern, raw_image, tool

SIZE = 8 * MIB
TOOLS = pytest.mark.tools("losetup", "mkfs.ext4")


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


def renamed(copies: Copies, back: ExitStack) -> None:
    path = Path(copies.domain.path)
    gone = path.rename(path.with_name("elsewhere"))
    back.callback(gone.rename, path)


def its_volume_removed(copies: Copies, back: ExitStack) -> None:
    path = Path(copies.store.volume.path)
    kept = path.with_name("kept")
    os.link(path, kept)
    path.unlink()
    back.callback(kept.rename, path)


def its_volume_replaced(copies: Copies, back: ExitStack) -> None:
    """By one with the same bytes: whoever opens that finds the lease free."""
    path = Path(copies.store.volume.path)
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    its_volume_removed(copies, back)
    other.rename(path)


VANISHED = [renamed, its_volume_removed, its_volume_replaced]


@pytest.mark.parametrize("vanish", VANISHED)
async def test_a_domain_that_vanishes_in_the_middle_cuts_the_copy_off(
    copies: Copies, source: Path, target: Path, vanish: Callable[[Copies, ExitStack], None]
) -> None:
    with ExitStack() as back:
        job = copies.job(source, target, await copies.lease(), limit=MIB)
        await broken(job, lambda: vanish(copies, back), LeaseLost)
        assert target.read_bytes() != source.read_bytes()
        if vanish is its_volume_replaced:
            await copies.assert_recorded(job, JobStatus.PENDING, generation=0)
        else:
            with pytest.raises(InvalidDomain):
                await copies.status(job.id)
    await assert_unresolved(copies, job)


@pytest.mark.parametrize("vanish", VANISHED)
async def test_a_domain_that_vanishes_after_the_last_byte_gets_no_success(
    copies: Copies, source: Path, target: Path, vanish: Callable[[Copies, ExitStack], None]
) -> None:
    """Its lease volume is still open, and could be written: but whose leases are these now?"""
    with ExitStack() as back:

        def seen(progress: Progress) -> None:
            if progress.stage == "flushing":
                vanish(copies, back)

        job = copies.job(source, target, await copies.lease(), seen=seen)
        await job.run()
        assert type(job.error) is LeaseLost, repr(job.error)
        assert target.read_bytes() == source.read_bytes()
    await assert_unresolved(copies, job)


@pytest.mark.parametrize("vanish", [renamed, its_volume_removed])
async def test_a_domain_that_vanished_before_lets_no_job_begin(
    copies: Copies, source: Path, target: Path, vanish: Callable[[Copies, ExitStack], None]
) -> None:
    with ExitStack() as back:
        job = copies.job(source, target, await copies.lease())
        vanish(copies, back)
        await job.run()
        assert type(job.error) is InvalidDomain, repr(job.error)
        assert target.read_bytes() == bytes(SIZE)
    await assert_unresolved(copies, job)


@TOOLS
async def test_a_file_system_that_is_unmounted_under_a_job_cuts_the_copy_off(
    disk: LeaseDisk, source: Path, target: Path
) -> None:
    with disk.healthy():
        copies = await disk.create()
        job = copies.job(source, target, await copies.lease(), limit=MIB)

        def unmount() -> None:
            tool(["umount", "--lazy", str(disk.mount)])

        await broken(job, unmount, LeaseLost)
        with pytest.raises(InvalidDomain):
            await copies.status(job.id)
    with disk.healthy():
        await assert_unresolved(await disk.open(), job)
