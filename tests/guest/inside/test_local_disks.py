"""Local disks are prepared on real LVM: whole, once, and never over what somebody needs."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from host.local_disks import Here, Prepared, gc, prepared, remove
from jobs.progress import Progress
from processes.lvm import Lvm
from processes.lvm_operation import Operation
from protocol.errors import (
    ImageMissing,
    LocalDiskInUse,
    LocalDiskRefused,
    NoLocalSpace,
    ThinPoolMissing,
    VolumeGroupMissing,
)
from protocol.reported import Reported
from tests.guest.inside.conftest import POOL, lvm
from tests.local_disk_host import EXTENT, IMG, MIB, OTHER_VOL, VM, VOL, DiskHost, drop, same

BACKENDS = pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
SIZE = 10 * MIB  # of the source: no whole extents
DATA = 3 * MIB  # of that


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """On a disk: leases are not kept in memory."""
    made = Path("/var/tmp/local-disks")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def host(folder: Path, empty_group: str) -> DiskHost:
    content = os.urandom(MIB) + bytes(2 * MIB) + os.urandom(MIB) + bytes(5 * MIB) + os.urandom(MIB)
    return DiskHost(folder, {"volume_group": empty_group, "keep": 0}).set_up(content)


@pytest.fixture
async def here(host: DiskHost) -> Here:
    return await host.here()


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


async def made(here: Here, host: DiskHost, **other: object) -> Prepared:
    return await prepared(here, host.request(**other), ignored)


def tags(group: str, name: str = VOL) -> set[str]:
    return set(lvm("lvs", "--noheadings", "-o", "lv_tags", f"{group}/{name}").split(","))


def allocated(group: str) -> float:
    """Bytes of a thin volume that hold something."""
    told = lvm(
        *("lvs", "--noheadings", "--units", "b", "--nosuffix", "--separator", " "),
        *("-o", "lv_size,data_percent", f"{group}/{VOL}"),
    )
    size, percent = told.split()
    return int(size) * float(percent) / 100


@BACKENDS
async def test_a_chain_is_copied_flat_and_used_again(
    here: Here, host: DiskHost, empty_group: str, backend: str
) -> None:
    base, top = host.source.with_name("base.qcow2"), host.source.with_name("top.qcow2")
    for path in (base, top):
        path.unlink(missing_ok=True)
    run = subprocess.check_call
    run(["qemu-img", "convert", "-O", "qcow2", str(host.source), str(base)])
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", str(top)])
    run(["qemu-io", "-c", "write -q -P 7 5M 64k", str(top)])
    run(["qemu-img", "convert", "-O", "raw", str(top), str(host.source)])  # what is expected
    source = {"endpoint_type": "external", "url": str(top), "format": "qcow2"}
    new = await made(here, host, backend=backend, source=source)
    assert not new.reused
    drop(Path(new.path))
    assert same(Path(new.path), host.source, SIZE)
    assert {f"IU_{IMG}", f"VM_{VM}", f"JOB_{new.job_id}"} <= tags(empty_group)
    assert not {"UPDATING", "STARTED"} & tags(empty_group)
    if backend == "lvmthin":
        assert allocated(empty_group) <= 1.05 * (DATA + 64 * 1024)
    lvm("lvchange", "-an", f"{empty_group}/{VOL}")
    again = await made(here, host, backend=backend, source=source, start=True)
    assert (again.reused, again.changed, again.path) == (True, False, new.path)
    assert Path(again.path).is_block_device()
    assert "STARTED" in tags(empty_group)
    assert await here.leases.all_own() == []


@dataclass(frozen=True)
class Counting(Lvm):
    counted: list[str] = field(default_factory=list)

    async def do(self, operation: Operation) -> bytes:
        self.counted.append(operation.verb)
        return await super().do(operation)


async def test_a_ready_disk_costs_three_commands(here: Here, host: DiskHost) -> None:
    await made(here, host)
    counting = Counting(here.disks.lvm.volume_group)
    here = replace(here, disks=replace(here.disks, lvm=counting))
    assert (await made(here, host, start=True)).reused
    assert len(counting.counted) <= 3


async def test_what_a_linear_disk_held_before_is_overwritten(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    """Also where the source has zeros; and an image that it began with is no reason to refuse."""
    lvm("lvcreate", "-qq", "-y", "-Wn", "-Zn", "-L", "12M", "-n", "before", empty_group)
    with open(f"/dev/{empty_group}/before", "r+b", buffering=0) as device:
        device.write(b"QFI\xfb" + b"\xff" * (12 * MIB - 4))
        os.fsync(device.fileno())
    lvm("lvremove", "-qq", "-f", f"{empty_group}/before")
    new = await made(here, host, backend="lvm")
    drop(Path(new.path))
    assert same(Path(new.path), host.source, SIZE)


@pytest.mark.parametrize("size", [SIZE + 512, 2 * MIB])
@pytest.mark.sample(1)
async def test_what_others_had_behind_the_source_is_gone(
    here: Here, host: DiskHost, empty_group: str, size: int
) -> None:
    lvm("lvcreate", "-qq", "-y", "-Wn", "-Zn", "-L", "12M", "-n", "before", empty_group)
    with open(f"/dev/{empty_group}/before", "r+b", buffering=0) as device:
        device.write(b"\xaa" * 12 * MIB)
        os.fsync(device.fileno())
    lvm("lvremove", "-qq", "-f", f"{empty_group}/before")
    host.source.write_bytes(os.urandom(size))
    new = await made(here, host, backend="lvm", verify=True)
    drop(Path(new.path))
    assert same(Path(new.path), host.source, size)
    behind = Path(new.path).read_bytes()[size:]
    assert (len(behind), behind.count(0)) == (-size % EXTENT,) * 2


async def test_a_thin_copy_takes_the_chunks_that_were_counted(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    """4 KiB of data in each MiB; and what one copy took is no room for the next one."""
    small = replace(here, disks=replace(here.disks, pool="small"))
    words = ("--chunksize", "64k", "-L", "8M", "-n", "small")
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", *words, empty_group)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{empty_group}/small")
    host.source.write_bytes(b"")
    os.truncate(host.source, 96 * MIB)
    with host.source.open("r+b") as file:
        for place in range(0, 96 * MIB, MIB):
            os.pwrite(file.fileno(), os.urandom(4096), place)
    await made(small, host)
    assert allocated(empty_group) == pytest.approx(6 * MIB, abs=96 * MIB / 10_000)
    with pytest.raises(NoLocalSpace, match="lvextend") as caught:
        await made(small, host, vol_id=OTHER_VOL)
    assert caught.value.needed == 6 * MIB


async def test_a_full_pool_is_told_before_anything_is_made(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    small = replace(here, disks=replace(here.disks, pool="small"))
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "4M", "-n", "small", empty_group)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{empty_group}/small")
    host.source.write_bytes(os.urandom(SIZE))
    with pytest.raises(NoLocalSpace, match="lvextend"):
        await made(small, host)
    assert await small.disks.find(VOL) is None
    with host.source.open("r+b") as file:
        file.truncate(1 << 43)
    with pytest.raises(NoLocalSpace, match="vgextend"):
        await made(here, host, backend="lvm")
    assert await here.disks.find(VOL) is None
    assert await here.leases.all_own() == []


async def test_a_pool_that_fills_up_fails_the_copy_and_keeps_the_mark(
    folder: Path, empty_group: str
) -> None:
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "16M", "-n", "small", empty_group)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{empty_group}/small")
    settings = {"volume_group": empty_group, "thin_pool": "small", "keep": 0}
    host = DiskHost(folder, settings).set_up(os.urandom(12 * MIB))
    here = await host.here()
    lvm("lvcreate", "-qq", "-V", "16M", "-T", f"{empty_group}/small", "-n", "other")
    full: list[bool] = []

    def fill(progress: Progress) -> None:
        """Others take the room that was there when the copy began."""
        if not full:
            full.append(True)
            with open(f"/dev/{empty_group}/other", "r+b", buffering=0) as device:
                device.write(os.urandom(10 * MIB))
                os.fsync(device.fileno())

    with pytest.raises(Reported) as caught:
        await prepared(here, host.request(limit=4 * MIB), fill)
    assert caught.value.rpc["kind"] in ("NoSpaceLeft", "InputOutputError", "FlushFailed")
    assert "UPDATING" in tags(empty_group)
    [job_id] = await here.leases.all_own()
    assert (await here.leases.look(job_id)).lease.value == "FAILED"
    lvm("lvremove", "-qq", "-f", f"{empty_group}/other")
    new = await made(here, host)
    drop(Path(new.path))
    assert same(Path(new.path), host.source, 12 * MIB)


async def test_missing_groups_and_pools_are_named(folder: Path, host: DiskHost, here: Here) -> None:
    other = DiskHost(folder, {"volume_group": "nowhere"}).set_up(b"x" * MIB)
    with pytest.raises(VolumeGroupMissing):
        await made(await other.here(), other)
    without = replace(here, disks=replace(here.disks, pool="nowhere"))
    with pytest.raises(ThinPoolMissing):
        await made(without, host)


@BACKENDS
@pytest.mark.sample(1)
async def test_an_open_disk_stays_whatever_is_asked(
    here: Here, host: DiskHost, empty_group: str, backend: str
) -> None:
    new = await made(here, host, backend=backend)
    with open(new.path, "rb"):
        assert (await made(here, host, backend=backend)).reused
        for wanted in (remove(here, vol_id=VOL), made(here, host, backend=backend, again=True)):
            with pytest.raises(LocalDiskInUse):
                await wanted
        assert await gc(here, vms=[]) == []
    assert (await made(here, host, backend=backend)).reused
    assert await remove(here, vm_id=VM) == [VOL]
    assert not os.path.lexists(new.path)


@pytest.mark.parametrize("active", ["y", "n"])
async def test_what_others_have_made_stays(
    here: Here, host: DiskHost, empty_group: str, active: str
) -> None:
    for name, tag in ((VOL, "backup"), (OTHER_VOL, f"IU_{VM}")):
        lvm("lvcreate", "-qq", "-y", "-L", "12M", "-n", name, "--addtag", tag, empty_group)
        lvm("lvchange", "-a", active, f"{empty_group}/{name}")
    for name in (VOL, OTHER_VOL):
        with pytest.raises(LocalDiskRefused):
            await made(here, host, vol_id=name)
    with pytest.raises(LocalDiskRefused):
        await remove(here, vol_id=VOL)
    assert tags(empty_group) == {"backup"}


async def test_a_disk_of_the_wrong_size_is_replaced_only_before_a_vm_has_it(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    await made(here, host)
    host.source.write_bytes(os.urandom(SIZE + EXTENT))
    new = await made(here, host, start=True)
    assert same(Path(new.path), host.source, SIZE + EXTENT)
    host.source.write_bytes(os.urandom(SIZE))
    with pytest.raises(LocalDiskRefused):
        await made(here, host)


async def test_an_unfinished_disk_of_ovirts_hook_is_made_again(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    words = ["--addtag", f"IU_{IMG}", "--addtag", "UPDATING", "--addtag", f"VM_{VM}"]
    lvm("lvcreate", "-qq", "-V", "12M", "-T", f"{empty_group}/{POOL}", "-n", VOL, *words)
    new = await made(here, host)
    assert not new.reused
    assert same(Path(new.path), host.source, SIZE)


async def test_a_source_that_is_gone_makes_nothing(
    here: Here, host: DiskHost, empty_group: str
) -> None:
    await made(here, host)
    host.source.unlink()
    assert (await made(here, host)).reused
    with pytest.raises(ImageMissing):
        await made(here, host, vol_id=OTHER_VOL)
    assert await here.disks.find(OTHER_VOL) is None
