"""Local disks on real LVM and real thin pools."""

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from processes.lvm import Lvm
from processes.lvm_operation import Operation
from protocol.errors import (
    LocalDiskChanged,
    LocalDiskInUse,
    LocalDiskRefused,
    NoLocalSpace,
    ThinPoolMissing,
    ThinPoolUnsafe,
    VolumeGroupMissing,
)
from storage.local_disk import Backend, LocalDisk
from storage.local_disks import LocalDisks
from tests.guest.inside.conftest import lvm

VOLUME = "77777777-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "88888888-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "11111111-2222-4333-8444-555555555555"
JOB2 = "21111111-2222-4333-8444-555555555555"
VM = "dddddddd-eeee-4fff-8000-111111111111"
NOW = 1_700_000_000
MIB = 1 << 20
EXTENT = 4 * MIB
BACKENDS = pytest.mark.parametrize("backend", ["lvm", "lvmthin"])


@dataclass(frozen=True)
class Counting(Lvm):
    """counted: the words of every command of LVM."""

    counted: list[list[str]] = field(default_factory=list)

    async def do(self, operation: Operation) -> bytes:
        self.counted.append(operation.words())
        return await super().do(operation)


@pytest.fixture
def group(empty_group: str) -> Counting:
    return Counting(empty_group)


@pytest.fixture
def disks(group: Counting) -> LocalDisks:
    return LocalDisks(group)


@pytest.fixture
def small(group: Counting) -> Iterator[LocalDisks]:
    """On a pool of 64 MiB that fails when it is full."""
    name, vg = "small", group.volume_group
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "64M", "-n", name, vg)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{vg}/{name}")
    yield LocalDisks(group, name)
    lvm("lvremove", "-qq", "-f", f"{vg}/{name}")


def fill(path: str, size: int) -> None:
    """Write so many bytes, each MiB to the disk before the next."""
    fd = os.open(path, os.O_WRONLY)
    try:
        for _ in range(size // MIB):
            os.write(fd, b"x" * MIB)
            os.fsync(fd)
    finally:
        os.close(fd)


async def made(disks: LocalDisks, backend: Backend = "lvmthin", *, job: str = JOB) -> LocalDisk:
    return await disks.create(
        VOLUME, EXTENT + 512, backend, image_id=IMAGE, job_id=job, vm_id=VM, generation=7, now=NOW
    )


async def found(disks: LocalDisks, volume_id: str = VOLUME) -> LocalDisk:
    disk = await disks.find(volume_id)
    assert disk is not None
    return disk


@BACKENDS
async def test_a_disk_is_made_filled_used_and_removed(disks: LocalDisks, backend: Backend) -> None:
    new = await made(disks, backend)
    assert new == await found(disks)
    assert new == LocalDisk(
        VOLUME,
        2 * EXTENT,
        backend,
        image_id=IMAGE,
        vm_id=VM,
        job_id=JOB,
        generation=7,
        prepared=NOW,
        filling=True,
        active=True,
        data_percent=0.0 if backend == "lvmthin" else None,
    )
    assert new.blank == (backend == "lvmthin")
    assert new.fits(EXTENT + 512)
    device = Path(disks.path(VOLUME))
    with device.open("r+b", buffering=0) as file:
        file.write(b"x" * MIB)
        os.fsync(file.fileno())
    assert not (await found(disks)).blank
    await disks.ready(VOLUME, JOB)
    await disks.deactivate(VOLUME)
    assert not os.path.lexists(device)
    used = await disks.use(await found(disks), now=NOW + 1, start=True)
    assert (used.filling, used.started, used.prepared) == (False, True, NOW + 1)
    assert (await found(disks)).started
    assert device.read_bytes()[:MIB] == b"x" * MIB
    await disks.remove(used)
    assert await disks.find(VOLUME) is None
    assert await disks.all() == []


@BACKENDS
async def test_a_ready_disk_is_handed_out_with_three_commands(
    disks: LocalDisks, group: Counting, backend: Backend
) -> None:
    await made(disks, backend)
    await disks.ready(VOLUME, JOB)
    await disks.deactivate(VOLUME)
    group.counted.clear()
    await disks.use(await found(disks), now=NOW + 1, vm_id=VM, start=True)
    assert [words[0] for words in group.counted] == ["volume", "change", "activate"]
    assert Path(disks.path(VOLUME)).is_block_device()


async def test_a_new_disk_says_all_in_its_tags(disks: LocalDisks, group: Counting) -> None:
    """Those of oVirt's hook among them."""
    await disks.create(
        VOLUME, MIB, "lvm", image_id=IMAGE, job_id=JOB, now=NOW, vm_id=VM, generation=7
    )
    volume = await group.volume(VOLUME)
    assert volume is not None
    parent = "PU_00000000-0000-0000-0000-000000000000"
    of_job = {f"JOB_{JOB}", "GEN_7", f"AT_{NOW}"}
    assert volume.tags == {"UPDATING", f"IU_{IMAGE}", parent, f"VM_{VM}", *of_job}
    disk = await found(disks)
    assert (disk.generation, disk.prepared, disk.vm_id) == (7, NOW, VM)


async def test_a_disk_is_made_ready_by_its_job_and_once(disks: LocalDisks) -> None:
    await made(disks)
    with pytest.raises(LocalDiskChanged, match=JOB2):
        await disks.ready(VOLUME, JOB2)
    assert (await found(disks)).filling
    await disks.ready(VOLUME, JOB)
    with pytest.raises(LocalDiskChanged, match="already"):
        await disks.ready(VOLUME, JOB)


async def test_a_disk_that_is_being_filled_is_not_handed_out(disks: LocalDisks) -> None:
    new = await made(disks)
    with pytest.raises(LocalDiskChanged, match="being filled"):
        await disks.use(new, now=NOW + 1, start=True)
    assert await found(disks) == new


async def test_a_disk_that_a_vm_was_started_with_stays_so(disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    await disks.use(await found(disks), now=NOW + 1, start=True)
    used = await disks.use(await found(disks), now=NOW + 2)
    assert used.started
    assert (await found(disks)).started


async def test_a_disk_without_its_device_is_not_handed_out(
    disks: LocalDisks, group: Counting
) -> None:
    """LVM has done its part, and says so; whoever makes the names of devices has not."""
    await made(disks)
    await disks.ready(VOLUME, JOB)
    elsewhere = LocalDisks(Counting(group.volume_group, dev="/dev/elsewhere"))
    with pytest.raises(LocalDiskChanged, match="there is no /dev/elsewhere"):
        await elsewhere.use(await found(disks), now=NOW + 1)


@pytest.mark.parametrize(
    ("tags", "active"),
    [((), True), ((), False), (("backup", "UPDATING"), True), ((f"JOB_{JOB}",), False)],
)
async def test_a_volume_of_others_is_never_touched(
    disks: LocalDisks, group: Counting, tags: tuple[str, ...], active: bool
) -> None:
    words = [word for tag in tags for word in ("--addtag", tag)]
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", VOLUME, *words, group.volume_group)
    lvm("lvchange", "-qq", "-ay" if active else "-an", f"{group.volume_group}/{VOLUME}")
    before = await group.volume(VOLUME)
    disk = await found(disks)
    for call in (
        disks.ready(VOLUME, JOB),
        disks.activate(VOLUME),
        disks.deactivate(VOLUME),
        disks.remove(disk),
    ):
        with pytest.raises(LocalDiskRefused):
            await call
    with pytest.raises(LocalDiskChanged):
        await made(disks)
    assert await group.volume(VOLUME) == before
    assert before is not None
    assert (before.tags, before.active) == (frozenset(tags), active)
    assert await disks.all() == []


async def test_foreign_tags_are_kept(disks: LocalDisks, group: Counting) -> None:
    await made(disks)
    lvm("lvchange", "-qq", "--addtag", "backup=daily", f"{group.volume_group}/{VOLUME}")
    await disks.ready(VOLUME, JOB)
    used = await disks.use(await found(disks), now=NOW + 1, vm_id=OTHER, start=True)
    assert used.foreign == {"backup=daily"}
    assert (await found(disks)).foreign == {"backup=daily"}


async def test_the_disks_of_ovirts_hook_are_taken_over(disks: LocalDisks, group: Counting) -> None:
    words = ["--addtag", f"IU_{IMAGE}", "--addtag", f"VM_{VM}"]
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", VOLUME, *words, group.volume_group)
    disk = await found(disks)
    assert (disk.ours, disk.filling, disk.vm_id, disk.job_id) == (True, False, VM, None)
    await disks.use(disk, now=NOW, start=True)
    assert (await found(disks)).prepared == NOW


@BACKENDS
@pytest.mark.sample(1)
async def test_an_open_disk_stays(disks: LocalDisks, backend: Backend) -> None:
    before = await made(disks, backend)
    with open(disks.path(VOLUME), "rb"):
        with pytest.raises(LocalDiskInUse):
            await disks.remove(await found(disks))
        with pytest.raises(LocalDiskInUse):  # it was opened after it was looked at
            await disks.remove(before)
        with pytest.raises(LocalDiskInUse):
            await disks.deactivate(VOLUME)
    assert await found(disks) == before


async def test_a_disk_that_was_made_since_is_not_removed(disks: LocalDisks) -> None:
    old = await made(disks)
    await disks.remove(old)
    await disks.remove(old)  # it is gone: no error
    new = await made(disks, job=JOB2)
    with pytest.raises(LocalDiskChanged):
        await disks.remove(old)
    assert await found(disks) == new


async def test_of_ten_that_make_one_disk_one_succeeds(disks: LocalDisks) -> None:
    jobs = [f"{n:08x}-2222-4333-8444-555555555555" for n in range(10)]
    winners: list[str] = []

    async def make(job: str) -> None:
        try:
            await made(disks, job=job)
        except LocalDiskChanged:
            return
        winners.append(job)

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(make, job)
    assert winners == [(await found(disks)).job_id]


async def test_a_missing_group_or_pool_is_named_before_anything_is_made(
    group: Counting,
) -> None:
    without = LocalDisks(Lvm("no-such-group"))
    backends: tuple[Backend, ...] = ("lvm", "lvmthin")
    for backend in backends:
        with pytest.raises(VolumeGroupMissing, match="vgcreate no-such-group"):
            await without.check_space(backend, EXTENT)
        with pytest.raises(VolumeGroupMissing):
            await made(without, backend)
    without = LocalDisks(group, "nopool")
    with pytest.raises(ThinPoolMissing, match="lvcreate --type thin-pool"):
        await without.check_space("lvmthin", EXTENT)
    with pytest.raises(ThinPoolMissing):
        await made(without)
    assert await group.volume(VOLUME) is None


async def test_a_full_group_is_told_before_and_after_the_look(disks: LocalDisks) -> None:
    with pytest.raises(NoLocalSpace, match="vgextend ovirt-local"):
        await disks.check_space("lvm", 1 << 40)
    with pytest.raises(NoLocalSpace, match="vgextend ovirt-local"):
        await disks.create(VOLUME, 1 << 40, "lvm", image_id=IMAGE, job_id=JOB, now=NOW)
    assert await disks.find(VOLUME) is None


async def test_the_command_that_is_named_makes_room_in_a_pool(small: LocalDisks) -> None:
    await small.check_space("lvmthin", 1 << 40, data=64 * MIB)
    with pytest.raises(NoLocalSpace, match="thin pool ovirt-local/small") as caught:
        await small.check_space("lvmthin", 1 << 40, data=100 * MIB)
    assert caught.value.available == 64 * MIB
    lvm(*shlex.split(caught.value.command))
    await small.check_space("lvmthin", 1 << 40, data=100 * MIB)


async def test_the_command_that_is_named_makes_room_for_metadata(group: Counting) -> None:
    name, vg = "narrow", group.volume_group
    sizes = ["-L", "6G", "--poolmetadatasize", "4M", "--chunksize", "64k"]
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", *sizes, "-n", name, vg)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{vg}/{name}")
    narrow = LocalDisks(group, name)
    await narrow.check_space("lvmthin", 2 << 30)
    with pytest.raises(NoLocalSpace, match="the metadata of thin pool") as caught:
        await narrow.check_space("lvmthin", 5 << 30)
    lvm(*shlex.split(caught.value.command))
    await narrow.check_space("lvmthin", 5 << 30)
    lvm("lvremove", "-qq", "-f", f"{vg}/{name}")


async def test_a_pool_that_lets_writes_wait_is_refused_until_the_command_is_run(
    small: LocalDisks,
) -> None:
    lvm("lvchange", "-qq", "--errorwhenfull", "n", f"{small.lvm.volume_group}/{small.pool}")
    with pytest.raises(ThinPoolUnsafe) as caught:
        await small.check_space("lvmthin", EXTENT)
    lvm(*shlex.split(caught.value.command))
    await small.check_space("lvmthin", EXTENT)


async def test_a_pool_that_does_not_clear_what_it_gives_out_is_refused_until_the_command_is_run(
    small: LocalDisks,
) -> None:
    lvm("lvchange", "-qq", "--zero", "n", f"{small.lvm.volume_group}/{small.pool}")
    with pytest.raises(ThinPoolUnsafe) as caught:
        await small.check_space("lvmthin", EXTENT)
    lvm(*shlex.split(caught.value.command))
    await small.check_space("lvmthin", EXTENT)


async def test_a_sleeping_pool_is_woken_to_be_asked(small: LocalDisks) -> None:
    lvm("lvchange", "-qq", "-an", f"{small.lvm.volume_group}/{small.pool}")
    await small.check_space("lvmthin", EXTENT)
    with pytest.raises(NoLocalSpace):
        await small.check_space("lvmthin", 100 * MIB)


async def test_what_is_in_a_pool_already_is_counted(small: LocalDisks) -> None:
    await small.create(OTHER, 64 * MIB, "lvmthin", image_id=IMAGE, job_id=JOB2, now=NOW)
    fill(small.path(OTHER), 48 * MIB)
    await small.check_space("lvmthin", 16 * MIB)
    with pytest.raises(NoLocalSpace) as caught:
        await small.check_space("lvmthin", 17 * MIB)
    assert caught.value.available == pytest.approx(16 * MIB, abs=MIB / 64)


async def test_a_pool_that_becomes_full_leaves_the_disk_as_being_filled(small: LocalDisks) -> None:
    await small.create(VOLUME, 128 * MIB, "lvmthin", image_id=IMAGE, job_id=JOB, now=NOW)
    with pytest.raises(OSError, match=r"No space left on device|Input/output error"):
        fill(small.path(VOLUME), 128 * MIB)
    disk = await found(small)
    assert (disk.filling, disk.job_id, disk.open) == (True, JOB, False)
    await small.remove(disk)
    await small.check_space("lvmthin", 64 * MIB)
