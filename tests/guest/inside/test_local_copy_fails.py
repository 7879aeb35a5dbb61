"""A copy to a local disk fails in the middle, on real thin pools: the disk keeps its mark, and the
next start makes up for it when the reason is gone."""

import errno
import fcntl
import itertools
import os
import shlex
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from host.local_disks import Here, prepared
from jobs.progress import Progress
from protocol.errors import CannotConnect, NoLocalSpace
from protocol.reported import Reported
from tests.guest.inside.conftest import lvm
from tests.local_disk_host import MIB, VOL, DiskHost, drop, same
from tests.servers import Server, qemu_nbd

SIZE = 8 * MIB
POOL = "narrow"
# Source: linux/dm-ioctl.h, version 4 of struct dm_ioctl; DM_TARGET_MSG is 0xC138FD0E.
MESSAGE = 0xC138FD0E
HEAD = struct.Struct("3I7IQ128s129s7x")
NUMBERS = itertools.count(1 << 20)  # of thin devices; LVM counts from 1


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path("/var/tmp/local-copy-fails")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def narrow(empty_group: str) -> Iterator[str]:
    """A thin pool with as little metadata as LVM makes."""
    words = ("--type", "thin-pool", "-L", "64M", "--poolmetadatasize", "4M", "-n", POOL)
    lvm("lvcreate", "-qq", "-y", *words, empty_group)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{empty_group}/{POOL}")
    yield empty_group
    lvm("lvremove", "-qq", "-f", f"{empty_group}/{POOL}")


def set_up(folder: Path, group: str, **localdisk: object) -> DiskHost:
    settings = {"volume_group": group, "keep": 0, **localdisk}
    return DiskHost(folder, settings).set_up(os.urandom(SIZE))


def once_begun(act: Callable[[], object]) -> Callable[[Progress], None]:
    done = False

    def seen(progress: Progress) -> None:
        nonlocal done
        if progress.bytes and not done:
            done = True
            act()

    return seen


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


async def fails(here: Here, host: DiskHost, act: Callable[[], object], **other: object) -> Reported:
    """A copy in whose middle something is done that it cannot bear."""
    with pytest.raises(Reported) as caught:
        await prepared(here, host.request(**{"limit": 2 * MIB, **other}), once_begun(act))
    assert "UPDATING" in tags(host)
    [job_id] = await here.leases.all_own()
    assert f"JOB_{job_id}" in tags(host)
    assert (await here.leases.look(job_id)).lease.value == "FAILED"
    return caught.value


async def works(here: Here, host: DiskHost, **other: object) -> None:
    """The next start: another copy, whole on the device."""
    new = await prepared(here, host.request(**other), ignored)
    assert not new.reused
    drop(Path(new.path))
    assert same(Path(new.path), host.source, SIZE)
    assert "UPDATING" not in tags(host)
    assert f"JOB_{new.job_id}" in tags(host)
    assert await here.leases.all_own() == []


def tags(host: DiskHost) -> list[str]:
    group = host.localdisk["volume_group"]
    words = lvm("lvs", "--noheadings", "-o", "lv_tags", "-S", f"lv_name={VOL}", group)
    return words.split(",")


def fill_metadata(group: str, count: int = 1 << 20) -> None:
    """Make so many thin devices that LVM knows nothing of, each with a block of metadata, or as
    many as there is room for."""
    pool = f"{group.replace('-', '--')}-{POOL}"
    if Path("/dev/mapper", f"{pool}-tpool").exists():  # as soon as there is a volume in it
        pool = f"{pool}-tpool"
    with open("/dev/mapper/control", "r+b", buffering=0) as control:
        for number in itertools.islice(NUMBERS, count):
            try:
                fcntl.ioctl(control, MESSAGE, message(pool, f"create_thin {number}"))
            except OSError as e:
                if e.errno not in (errno.ENOSPC, errno.EOPNOTSUPP):  # full, or read-only already
                    raise
                return


def message(device: str, text: str) -> bytearray:
    body = struct.pack("Q", 0) + text.encode() + b"\0"
    size = HEAD.size + len(body)
    head = HEAD.pack(4, 0, 0, size, HEAD.size, *(0,) * 5, 0, device.encode(), b"")
    return bytearray(head + body)


async def test_a_pool_whose_metadata_fill_up_fails_the_copy_until_there_is_room(
    folder: Path, narrow: str
) -> None:
    host = set_up(folder, narrow, thin_pool=POOL)
    here = await host.here()
    fill_metadata(narrow, 600)  # of 1024 blocks; LVM makes a volume as long as 256 are free
    error = await fails(here, host, lambda: fill_metadata(narrow), limit=MIB)
    assert error.rpc["kind"] in ("InputOutputError", "NoSpaceLeft", "FlushFailed")
    with pytest.raises(NoLocalSpace, match="the metadata of thin pool") as caught:
        await prepared(here, host.request(), ignored)
    lvm(*shlex.split(caught.value.command))
    await works(here, host)


@pytest.mark.full
async def test_a_pool_with_less_metadata_left_than_lvm_wants_is_told_before_anything_is_made(
    folder: Path, narrow: str
) -> None:
    host = set_up(folder, narrow, thin_pool=POOL)
    here = await host.here()
    fill_metadata(narrow, 700)
    with pytest.raises(NoLocalSpace, match="the metadata of thin pool") as caught:
        await prepared(here, host.request(), ignored)
    assert await here.disks.find(VOL) is None
    lvm(*shlex.split(caught.value.command))
    await works(here, host)


def nbd(server: Server) -> dict[str, str]:
    return {"endpoint_type": "external", "url": server.url, "format": "raw"}


@pytest.mark.full
async def test_a_server_of_the_source_that_dies_fails_the_copy_until_it_is_back(
    folder: Path, empty_group: str
) -> None:
    host = set_up(folder, empty_group)
    here = await host.here()
    with qemu_nbd(host.source, folder, read_only=True) as server:
        error = await fails(here, host, server.kill, source=nbd(server))
        assert error.rpc["kind"] in ("InputOutputError", "ConnectionLost")
        with pytest.raises(CannotConnect):
            await prepared(here, host.request(source=nbd(server)), ignored)
    assert "UPDATING" in tags(host)
    with qemu_nbd(host.source, folder, read_only=True) as server:
        await works(here, host, source=nbd(server))


@pytest.mark.full
@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
@pytest.mark.parametrize("removed", [False, True], ids=["shorter", "removed"])
async def test_a_source_that_vanishes_fails_the_copy_until_it_is_back(
    folder: Path, empty_group: str, removed: bool, backend: str
) -> None:
    host = set_up(folder, empty_group)
    here = await host.here()
    kept = host.source.with_name("kept")
    shutil.copy(host.source, kept)

    def vanish() -> None:
        if removed:
            host.source.unlink()
        else:
            os.truncate(host.source, MIB)

    error = await fails(here, host, vanish, backend=backend)
    assert error.rpc["kind"] == "SourceShrank"
    kept.rename(host.source)
    await works(here, host, backend=backend)
