"""Whoever prepares a local disk is killed: on real LVM, as tests/faults/test_local_disk_kill.py."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from host.local_disks import gc, remove
from tests.guest.inside.conftest import lvm
from tests.local_disk_host import MIB, VM, VOL, DiskHost, drop, same

SIZE = 8 * MIB
# The first start is killed at the first, the one that makes up for it at the second.
QUICK = [("prepare:created", ""), ("prepare:begun", "prepare:forgotten"), ("local:ready", "")]
LONG = [
    ("prepare:looked", ""),
    ("create:record", "prepare:removed"),
    ("prepare:lease", "fence:lvb"),
    ("prepare:begun", "prepare:created"),
    ("prepare:begun", "prepare:begun"),
    ("local:ready", "prepare:used"),
    ("local:recorded", ""),
    ("prepare:copied", ""),
    ("prepare:used", ""),
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    made = Path("/var/tmp/local-kill")
    made.mkdir()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def host(folder: Path, empty_group: str) -> DiskHost:
    content = os.urandom(2 * MIB) + bytes(SIZE - 2 * MIB)
    return DiskHost(folder, {"volume_group": empty_group, "keep": 0}).set_up(content)


def check(host: DiskHost, made: dict[str, object]) -> None:
    path = Path(str(made["path"]))
    drop(path)
    assert same(path, host.source, SIZE)
    assert "UPDATING" not in tags(host)
    assert trio.run(leases, host) == []


async def leases(host: DiskHost) -> list[str]:
    return await (await host.here()).leases.all_own()


def tags(host: DiskHost) -> str:
    group = host.localdisk["volume_group"]
    return lvm("lvs", "--noheadings", "-o", "lv_tags", "-S", f"lv_name={VOL}", group)


def die_and_recover(host: DiskHost, first: str, second: str) -> None:
    host.dies(first)
    if second:
        host.dies(second)
    made = host.started()
    check(host, made)
    assert made["reused"] is first.startswith(("local", "prepare:copied", "prepare:used"))


@pytest.mark.parametrize(("first", "second"), QUICK)
def test_a_start_that_is_killed_is_made_up_for(host: DiskHost, first: str, second: str) -> None:
    die_and_recover(host, first, second)


@pytest.mark.full
@pytest.mark.parametrize(("first", "second"), LONG)
def test_a_start_that_is_killed_at_any_other_step(host: DiskHost, first: str, second: str) -> None:
    die_and_recover(host, first, second)


@pytest.mark.parametrize("backend", ["lvm", pytest.param("lvmthin", marks=pytest.mark.full)])
def test_a_copy_that_is_killed_is_begun_anew(host: DiskHost, backend: str) -> None:
    start = host.began(limit=MIB, backend=backend)
    start.wait_for_copy()
    start.kill()
    assert "UPDATING" in tags(host)
    check(host, host.started(backend=backend))


@pytest.mark.full
def test_ten_starts_at_once_share_one_copy(host: DiskHost) -> None:
    made = [start.ended() for start in [host.began(limit=MIB) for _ in range(10)]]
    assert len({one["job_id"] for one in made}) == 1
    check(host, made[0])


def test_the_disk_of_a_vm_that_is_deleted_during_the_copy_is_removed(host: DiskHost) -> None:
    start = host.began(limit=MIB)
    start.wait_for_copy()

    async def delete() -> None:
        here = await host.here()
        assert await gc(here, vms=[]) == []  # not under its writer
        assert await remove(here, vm_id=VM, abort=True) == [VOL]
        assert await here.disks.find(VOL) is None

    trio.run(delete)
    assert start.failed()["kind"] == "ActionStopped"
