"""A limit of bandwidth beside holes, slow requests and loop devices."""

from pathlib import Path

import trio

from endpoints.disk import files_of
from endpoints.url import PathUrl
from tests.faults.copies import Copies
from tests.faults.disks import loop_device
from tests.servers import MIB, WAIT, pattern, raw_image


async def test_holes_do_not_use_up_the_limit(copies: Copies, tmp_path: Path) -> None:
    """8 GiB of them at 8 MiB/s would take a quarter of an hour."""
    size = 8 << 30
    source = raw_image(tmp_path / "source.raw", size, data=pattern(2 * MIB))
    target = raw_image(tmp_path / "target.raw", size)
    with trio.fail_after(WAIT):
        job = await copies.copied(source, target, limit=8 * MIB, stall_time=5.0)
    await copies.assert_done(job)
    assert target.stat().st_blocks * 512 < 4 * MIB


async def test_a_low_limit_is_no_stall(copies: Copies, tmp_path: Path) -> None:
    source = raw_image(tmp_path / "source.raw", 4 * MIB, data=pattern(4 * MIB))
    job = await copies.copied(source, tmp_path / "new.raw", limit=MIB, stall_time=0.5)
    await copies.assert_done(job)


def test_a_loop_device_is_the_file_behind_it(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "image.raw", MIB)
    with loop_device(image) as device:
        assert files_of(PathUrl(str(image))) < files_of(PathUrl(str(device)))
