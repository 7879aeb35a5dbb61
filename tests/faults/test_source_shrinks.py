"""A source that gets shorter in the middle of a copy."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.progress import Progress
from protocol.errors import SourceShrank
from tests.faults.copies import Copies
from tests.servers import MIB, pattern, qemu_nbd, raw_image, tool

SIZE = 16 * MIB


def once_begun(act: Callable[[], object]) -> Callable[[Progress], None]:
    done = False

    def seen(progress: Progress) -> None:
        nonlocal done
        if (progress.bytes or 0) > MIB and not done:
            done = True
            act()

    return seen


@pytest.mark.parametrize("to_nbd", [False, True], ids=["to a file", "to nbd"])
async def test_a_source_that_shrinks_fails_the_job(
    copies: Copies, tmp_path: Path, *, to_nbd: bool
) -> None:
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    disk = raw_image(tmp_path / "disk.raw", SIZE)
    shrink = once_begun(lambda: os.truncate(source, 12 * MIB))
    with qemu_nbd(disk, tmp_path) as server:
        target = server.url if to_nbd else tmp_path / "new.raw"
        job = copies.job(source, target, await copies.lease(), limit=8 * MIB, seen=shrink)
        await job.run()
    await copies.assert_failed(job, SourceShrank)
    assert not (tmp_path / "new.raw").exists()


async def test_a_source_that_shrank_before_the_first_byte_leaves_the_target_as_it_was(
    copies: Copies, tmp_path: Path
) -> None:
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    target = raw_image(tmp_path / "target.raw", SIZE, data=pattern(SIZE, seed=2))

    def shrink(progress: Progress) -> None:
        if progress.stage == "preparing":
            os.truncate(source, 12 * MIB)

    job = copies.job(source, target, await copies.lease(), seen=shrink)
    await job.run()
    await copies.assert_failed(job, SourceShrank)
    assert target.read_bytes() == pattern(SIZE, seed=2)


async def test_a_backing_file_that_disappears_fails_the_job(copies: Copies, tmp_path: Path) -> None:
    base = raw_image(tmp_path / "base.raw", SIZE, data=pattern(SIZE))
    top = tmp_path / "top.qcow2"
    tool(["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", str(top)])
    gone = once_begun(base.unlink)
    target = tmp_path / "new.raw"
    job = copies.job(top, target, await copies.lease(), limit=8 * MIB, seen=gone)
    await job.run()
    await copies.assert_failed(job, SourceShrank)
