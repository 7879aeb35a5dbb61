"""A local disk that is open for a moment only: udev looks at what was just written and closed."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from host import local_disk_look
from host.local_disks import Here, prepare, prepared, remove
from jobs.progress import Progress
from processes.lvm import Lvm
from processes.lvm_report import LogicalVolume
from protocol.errors import LocalDiskInUse
from tests.local_disk_host import EXTENT, IMG, MIB, VM, VOL, DiskHost
from tests.local_disks import StandIn

pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def host(tmp_path: Path, group: StandIn) -> DiskHost:
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    return DiskHost(tmp_path, settings).set_up(os.urandom(MIB))


@pytest.fixture
async def here(host: DiskHost) -> Here:
    return await host.here()


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


def open_until_looked_at_again(group: StandIn, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The disk is open when it is looked at, and closed after that; all looks."""
    looks: list[str] = []
    look: Callable[[Lvm, str], Awaitable[LogicalVolume | None]] = Lvm.volume

    async def looked(self: Lvm, name: str) -> Any:
        found = await look(self, name)
        looks.append(name)
        with group.content() as content:
            for volume in content.volumes:
                volume.open = False
        return found

    with group.content() as content:
        content.volumes[0].open = True
    monkeypatch.setattr(Lvm, "volume", looked)
    return looks


async def test_a_disk_at_which_udev_just_looks_is_removed(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its VM has just stopped, say."""
    await prepared(here, host.request(start=True), ignored)
    open_until_looked_at_again(group, monkeypatch)
    assert await remove(here, vm_id=VM) == [VOL]


async def test_a_disk_whose_copy_has_just_died_is_copied_again_though_udev_looks_at_it(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = frozenset({f"IU_{IMG}", "UPDATING"})
    group.add(LogicalVolume(VOL, EXTENT, words, active=True))
    open_until_looked_at_again(group, monkeypatch)
    assert (await prepared(here, host.request(backend="lvm"), ignored)).state == "ready"


async def test_a_disk_that_stays_open_is_soon_said_to_be_in_use(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await prepared(here, host.request(), ignored)
    with group.content() as content:
        content.volumes[0].open = True
    with trio.fail_after(30), pytest.raises(LocalDiskInUse):
        await remove(here, vol_id=VOL)


async def test_a_copy_that_has_its_disk_open_is_not_waited_for(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = await prepare(here, host.request())
    looks = open_until_looked_at_again(group, monkeypatch)
    found = await prepare(await host.here(), host.request())
    here.jobs.forget()  # type: ignore[attr-defined]
    assert (found.state, found.job_id) == ("filling", begun.job_id)
    assert looks == [VOL]
    assert local_disk_look.LOOKS * local_disk_look.LOOK < 5
