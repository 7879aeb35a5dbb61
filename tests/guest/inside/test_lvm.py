"""LVM does what processes/lvm.py takes it to do."""

import os
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from processes.lvm import Lvm
from processes.lvm_report import LogicalVolume
from protocol.errors import (
    BadParameter,
    LocalDiskInUse,
    NoSuchLocalDisk,
    ToolFailed,
    VolumeGroupMissing,
)
from storage import local_disk
from tests.guest.inside.conftest import DATA, POOL, SPARE, lvm

DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "88888888-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "IU_66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "JOB_11111111-2222-4333-8444-555555555555"
MIB = 1 << 20
EXTENT = 4 * MIB
Change: TypeAlias = Callable[[str, list[str]], Awaitable[object]]
KINDS = pytest.mark.parametrize("pool", [None, POOL], ids=["linear", "thin"])


@pytest.fixture
def group(empty_group: str) -> Lvm:
    return Lvm(empty_group)


@pytest.fixture
def small_pool(empty_group: str) -> Iterator[str]:
    """A pool of 16 MiB that is set up as LVM does it without being told."""
    name = "small"
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "16M", "-n", name, empty_group)
    yield name
    lvm("lvremove", "-qq", "-f", f"{empty_group}/{name}")


@pytest.fixture
def source() -> Iterator[Path]:
    """A file to copy from, where it can be read past the page cache."""
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        yield Path(file.name)


def size_of(path: str) -> int:
    with open(path, "rb") as device:
        return device.seek(0, os.SEEK_END)


@KINDS
async def test_a_new_volume_is_active_tagged_and_rounded_up(group: Lvm, pool: str | None) -> None:
    await group.create(DISK, EXTENT + 512, ["UPDATING", IMAGE, JOB], pool)
    assert await group.volume(DISK) == LogicalVolume(
        DISK,
        2 * EXTENT,
        frozenset({"UPDATING", IMAGE, JOB}),
        active=True,
        pool=pool,
        data_percent=0.0 if pool else None,
        extent_size=EXTENT,
    )
    assert Path(group.path(DISK)).is_block_device()
    assert size_of(group.path(DISK)) == 2 * EXTENT


@pytest.fixture
def fine_group() -> Iterator[str]:
    """A group with small extents."""
    name = "fine"
    lvm("vgcreate", "-qq", "--physicalextentsize", "1M", name, SPARE)
    yield name
    lvm("vgremove", "-qq", "-ff", name)


async def test_sizes_are_rounded_to_the_extents_of_the_group(fine_group: str) -> None:
    group = Lvm(fine_group)
    await group.create(DISK, MIB + 512, [IMAGE], None)
    found = await group.volume(DISK)
    assert found is not None
    assert (found.size, found.extent_size) == (2 * MIB, MIB)
    of_group = await group.group()
    assert of_group is not None
    assert of_group.extent_size == MIB
    disk = local_disk.of(found)
    assert disk.fits(MIB + 512)
    assert not disk.fits(MIB)


async def test_a_new_linear_volume_holds_what_was_there_before(group: Lvm) -> None:
    """So nobody may take it for zeros; a thin one reads as zeros."""
    await group.create(DISK, EXTENT, [IMAGE], None)
    with open(group.path(DISK), "r+b", buffering=0) as device:
        device.write(b"secret" * 1000)
        os.fsync(device.fileno())
    await group.remove(DISK, [IMAGE])
    await group.create(OTHER, EXTENT, [IMAGE], None)
    assert Path(group.path(OTHER)).read_bytes()[:6] == b"secret"
    await group.create(DISK, EXTENT, [IMAGE], POOL)
    assert not any(Path(group.path(DISK)).read_bytes())


async def test_what_is_written_to_a_thin_volume_is_counted(group: Lvm) -> None:
    await group.create(DISK, 64 * MIB, [IMAGE], POOL)
    with open(group.path(DISK), "r+b", buffering=0) as device:
        device.write(bytes(MIB))
        os.fsync(device.fileno())
    found = await group.volume(DISK)
    assert found is not None
    assert found.data_percent == pytest.approx(100 / 64, abs=0.2)


@KINDS
async def test_tags_come_and_go_at_once(group: Lvm, pool: str | None) -> None:
    await group.create(DISK, EXTENT, ["UPDATING", IMAGE], pool)
    lvm("lvchange", "-qq", "--addtag", "backup=daily", f"{group.volume_group}/{DISK}")
    for _ in range(2):  # the second time there is nothing to change, which is no error
        added = ["STARTED", "AT_1700000000"]
        await group.change_tags(DISK, [IMAGE], added, remove=["UPDATING"])
        found = await group.volume(DISK)
        assert found is not None
        assert found.tags == {IMAGE, "backup=daily", "STARTED", "AT_1700000000"}


@KINDS
async def test_a_volume_sleeps_and_wakes(group: Lvm, pool: str | None) -> None:
    await group.create(DISK, EXTENT, [IMAGE], pool)
    for _ in range(2):
        await group.deactivate(DISK, [IMAGE])
        assert not os.path.lexists(group.path(DISK))
        found = await group.volume(DISK)
        assert found is not None
        assert (found.active, found.data_percent) == (False, None)
    for _ in range(2):
        await group.activate(DISK, [IMAGE])
        assert Path(group.path(DISK)).is_block_device()
        found = await group.volume(DISK)
        assert found is not None
        assert found.active


@KINDS
@pytest.mark.parametrize("active", [True, False], ids=["active", "asleep"])
async def test_a_volume_is_removed(group: Lvm, pool: str | None, active: bool) -> None:
    await group.create(DISK, EXTENT, [IMAGE], pool)
    if not active:
        await group.deactivate(DISK, [IMAGE])
    await group.remove(DISK, [IMAGE])
    assert await group.volume(DISK) is None
    assert not os.path.lexists(group.path(DISK))


@KINDS
@pytest.mark.sample(1)
async def test_an_open_volume_is_neither_removed_nor_put_to_sleep(
    group: Lvm, pool: str | None
) -> None:
    await group.create(DISK, EXTENT, [IMAGE], pool)
    with open(group.path(DISK), "rb"):
        found = await group.volume(DISK)
        assert found is not None
        assert found.open
        changes: list[Change] = [group.remove, group.deactivate]
        for change in changes:
            with pytest.raises(LocalDiskInUse):
                await change(DISK, [IMAGE])
        assert await group.volume(DISK) == found
    found = await group.volume(DISK)
    assert found is not None
    assert (found.open, found.active) == (False, True)


async def test_a_volume_with_other_tags_is_not_removed(group: Lvm) -> None:
    await group.create(DISK, EXTENT, [IMAGE, "STARTED"], None)
    await group.remove(DISK, [IMAGE, JOB])
    assert await group.volume(DISK) is not None
    await group.remove(DISK, [IMAGE, "STARTED"])
    assert await group.volume(DISK) is None


async def test_no_change_reaches_a_volume_without_our_tags(group: Lvm) -> None:
    """Whoever asks for it, and however its name was come by."""
    lvm("lvcreate", "-qq", "-y", "-Wn", "-an", "-L", "4M", "-n", DISK, group.volume_group)
    lvm("lvchange", "-qq", "--addtag", "backup", f"{group.volume_group}/{DISK}")
    changes: list[Change] = [group.activate, group.deactivate, group.remove]
    for change in changes:
        await change(DISK, [IMAGE])
    await group.change_tags(DISK, [IMAGE], add=["STARTED"])
    found = await group.volume(DISK)
    assert found is not None
    assert (found.tags, found.active) == (frozenset({"backup"}), False)
    lvm("lvchange", "-qq", "-ay", f"{group.volume_group}/{DISK}")
    await group.deactivate(DISK, [IMAGE])
    assert Path(group.path(DISK)).is_block_device()


async def test_what_is_missing_is_named(group: Lvm) -> None:
    assert await group.volume(DISK) is None
    assert await group.pool("pool1") is None
    assert await group.pool(DISK) is None
    changes: list[Change] = [group.activate, group.deactivate, group.remove]
    for change in changes:
        with pytest.raises(NoSuchLocalDisk):
            await change(DISK, [IMAGE])
    with pytest.raises(NoSuchLocalDisk):
        await group.change_tags(DISK, [IMAGE], add=["STARTED"])
    missing = Lvm("no-such-group")
    assert await missing.group() is None
    for look in (missing.volumes(), missing.volume(DISK), missing.pool(POOL)):
        with pytest.raises(VolumeGroupMissing, match="vgcreate no-such-group"):
            await look
    with pytest.raises(VolumeGroupMissing):
        await missing.create(DISK, EXTENT, [IMAGE], None)


async def test_a_volume_that_is_no_pool_is_not_taken_for_one(group: Lvm) -> None:
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", "linear", group.volume_group)
    assert await group.pool("linear") is None


async def test_group_and_pool_tell_their_sizes(group: Lvm) -> None:
    before, pool = await group.group(), await group.pool(POOL)
    assert before is not None
    assert pool is not None
    assert (before.extent_size, pool.size, pool.error_when_full) == (EXTENT, 8 << 30, True)
    assert 15 << 30 < before.size <= 16 << 30
    assert 7 << 30 < before.free < 8 << 30
    assert pool.chunk_size >= 64 << 10
    assert pool.metadata_size >= EXTENT
    await group.create(DISK, 3 * EXTENT, [IMAGE], None)
    after = await group.group()
    assert after is not None
    assert before.free - after.free == 3 * EXTENT


async def test_a_pool_that_sleeps_is_woken(group: Lvm) -> None:
    lvm("lvchange", "-qq", "-an", f"{group.volume_group}/{POOL}")
    asleep = await group.pool(POOL)
    assert asleep is not None
    assert (asleep.data_percent, asleep.metadata_percent) == (None, None)
    await group.activate_pool(POOL)
    awake = await group.pool(POOL)
    assert awake is not None
    assert awake.data_percent == 0.0
    assert awake.metadata_percent is not None


async def test_a_pool_tells_how_it_is_set_up(group: Lvm, small_pool: str) -> None:
    before = await group.pool(small_pool)
    assert before is not None
    assert (before.error_when_full, before.zeroing) == (False, True)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{group.volume_group}/{small_pool}")
    lvm("lvchange", "-qq", "--zero", "n", f"{group.volume_group}/{small_pool}")
    after = await group.pool(small_pool)
    assert after is not None
    assert (after.error_when_full, after.zeroing) == (True, False)


@KINDS
async def test_a_name_that_is_taken_stays_what_it_is(group: Lvm, pool: str | None) -> None:
    await group.create(DISK, EXTENT, [IMAGE, JOB], pool)
    with pytest.raises(ToolFailed, match="already exists in volume group"):
        await group.create(DISK, 2 * EXTENT, [IMAGE], pool)
    found = await group.volume(DISK)
    assert found is not None
    assert (found.size, found.tags) == (EXTENT, frozenset({IMAGE, JOB}))


async def test_of_a_volume_that_does_not_fit_nothing_is_left(group: Lvm) -> None:
    with pytest.raises(ToolFailed, match="insufficient free space"):
        await group.create(DISK, 1 << 40, [IMAGE], None)
    assert await group.volume(DISK) is None


async def test_only_the_named_devices_are_looked_at(group: Lvm) -> None:
    name = group.volume_group
    assert await Lvm(name, devices=(SPARE,)).group() is None
    for devices in ((DATA,), (os.path.realpath(DATA),), (SPARE, DATA)):
        found = await Lvm(name, devices=devices).group()
        assert found is not None
    narrow = Lvm(name, devices=(DATA,))
    await narrow.create(DISK, EXTENT, [IMAGE], POOL)
    await narrow.deactivate(DISK, [IMAGE])
    await narrow.activate(DISK, [IMAGE])
    await narrow.remove(DISK, [IMAGE])


async def test_of_ten_that_make_one_volume_one_succeeds(group: Lvm) -> None:
    outcomes: list[str] = []

    async def make() -> None:
        try:
            await group.create(DISK, EXTENT, [IMAGE], POOL)
        except ToolFailed as e:
            outcomes.append(e.detail)
        else:
            outcomes.append("")

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(make)
    made, *others = sorted(outcomes)
    assert made == ""
    assert ["already exists" in outcome for outcome in others] == [True] * 9


@pytest.mark.parametrize("name", ["--help", "../x", f"{DISK}\n", "pool0", f"{DISK} x", "@x", "ä"])
async def test_a_hostile_name_changes_nothing(group: Lvm, name: str) -> None:
    before = await group.volumes()
    changes: list[Change] = [group.activate, group.deactivate, group.remove]
    for change in changes:
        with pytest.raises(BadParameter):
            await change(name, [IMAGE])
    with pytest.raises(BadParameter):
        await group.volume(name)
    with pytest.raises(BadParameter):
        await group.create(name, EXTENT, [IMAGE], None)
    assert await group.volumes() == before


def converted(source: Path, target: str, *options: str) -> "subprocess.CompletedProcess[str]":
    command = ["qemu-img", "convert", "-n", *options, "-f", "raw", "-O", "raw", str(source), target]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


async def test_a_full_pool_lies_to_a_copy_through_the_page_cache(
    group: Lvm, small_pool: str, source: Path
) -> None:
    """Why copies go past it, and why their flush is checked."""
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{group.volume_group}/{small_pool}")
    source.write_bytes(os.urandom(24 * MIB))
    await group.create(DISK, 32 * MIB, [IMAGE], small_pool)
    lying = converted(source, group.path(DISK))
    compare = ["qemu-img", "compare", "-T", "none", "-f", "raw", "-F", "raw"]
    same = subprocess.run([*compare, source, group.path(DISK)], capture_output=True, check=False)
    assert lying.returncode == 0, lying.stderr  # once it tells the truth, this test can go
    assert same.returncode != 0
    await group.remove(DISK, [IMAGE])
    await group.create(DISK, 32 * MIB, [IMAGE], small_pool)
    honest = converted(source, group.path(DISK), "-t", "none")
    assert honest.returncode != 0
    assert "No space left on device" in honest.stderr
    pool = await group.pool(small_pool)
    assert pool is not None
    assert pool.data_percent == 100.0
    await group.remove(DISK, [IMAGE])
