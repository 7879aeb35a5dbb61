"""LVM understands the commands: its own program, on a loop device, without a device mapper.

So nothing is activated, and there are no thin volumes: for that see tests/guest/inside.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from processes.lvm import Lvm
from processes.lvm_report import LogicalVolume
from protocol.errors import NoSuchLocalDisk, ToolFailed, ToolStalled, VolumeGroupMissing
from tests.conftest import SEARCH_PATH

GROUP = "leasehold-test"
DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "IU_66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "JOB_11111111-2222-4333-8444-555555555555"
EXTENT = 4 << 20
Change: TypeAlias = Callable[[str, list[str]], Awaitable[object]]
TOP = Path(__file__).parents[2]
CONFIGURATION = """
devices {{ obtain_device_list_from_udev=0 external_device_info_source="none" use_devicesfile=0 }}
activation {{ udev_sync=0 udev_rules=0 monitoring=0 }}
backup {{ backup=0 archive=0 }}
global {{ locking_dir="{folder}" }}
"""
# A helper program that says for each command that there is no device mapper.
HELPER = """
import os, sys
sys.path.insert(0, {top!r})
from processes.lvm_command import command
from processes.lvm_operation import parsed
lvm, verb, *rest = command(parsed(sys.argv[1:]), {group!r}, {devices!r})
os.execvp(lvm, [lvm, verb, "--driverloaded", "n", *rest])
"""
# The same as the helper of root looks, which gives up after a moment.
LOOK = (
    HELPER.replace("os.execvp(lvm, [", "argv = [").replace("*rest])", "*rest]")
    + """
import shutil
from host.helpers import bounded
from processes.lvm_operation import STALLED
ended = bounded.run(shutil.which(lvm), argv, os.environ, 0.3)
sys.exit(STALLED if ended is None else ended)
"""
)
pytestmark = [
    pytest.mark.tools("lvm", "losetup"),
    pytest.mark.skipif(os.geteuid() != 0, reason="root alone makes loop devices"),
]


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A loop device, and LVM that writes nothing but to it."""
    (tmp_path / "lvm.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    monkeypatch.setenv("LVM_SYSTEM_DIR", str(tmp_path))
    monkeypatch.setenv("LVM_SUPPRESS_FD_WARNINGS", "1")
    monkeypatch.setenv("PATH", SEARCH_PATH)
    disk = tmp_path / "disk"
    disk.touch()
    os.truncate(disk, 68 << 20)
    made = subprocess.run(
        ["losetup", "--find", "--show", disk], capture_output=True, text=True, check=True
    )
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


@pytest.fixture
def group(device: str, tmp_path: Path) -> Lvm:
    config = f'devices {{ use_devicesfile=0 filter=["a|^{device}$|","r|.*|"] }}'
    subprocess.run(
        ["lvm", "vgcreate", "-qq", "--driverloaded", "n", "--config", config, GROUP, device],
        check=True,
    )
    return without_device_mapper(tmp_path / "helper.py", GROUP, device)


def without_device_mapper(program: Path, group: str, device: str) -> Lvm:
    program.write_text(HELPER.format(top=str(TOP), group=group, devices=(device,)))
    return Lvm(group, helper=(sys.executable, str(program)))


async def test_a_volume_is_made_shown_changed_and_removed(group: Lvm) -> None:
    before = await group.group()
    assert before is not None
    assert (before.name, before.size, before.free) == (GROUP, 64 << 20, 64 << 20)
    await group.create(DISK, EXTENT + 512, ["UPDATING", IMAGE, JOB], None)
    made = LogicalVolume(DISK, 2 * EXTENT, frozenset({"UPDATING", IMAGE, JOB}))
    assert await group.volume(DISK) == made
    assert await group.volumes() == [made]
    after = await group.group()
    assert after is not None
    assert after.free == before.free - 2 * EXTENT
    await group.change_tags(
        DISK, [IMAGE, JOB], add=["STARTED", "AT_1700000000"], remove=["UPDATING"]
    )
    changed = await group.volume(DISK)
    assert changed is not None
    assert changed.tags == {IMAGE, JOB, "STARTED", "AT_1700000000"}
    await group.activate(DISK, [IMAGE])
    await group.deactivate(DISK, [IMAGE])
    await group.remove(DISK, [IMAGE, "UPDATING"])  # it has not both
    assert await group.volume(DISK) == changed
    await group.remove(DISK, [IMAGE, JOB, "STARTED"])
    assert await group.volumes() == []


async def test_a_look_that_waits_for_a_lock_of_lvm_is_ended(
    group: Lvm, device: str, tmp_path: Path
) -> None:
    """As it blocks all signals but two while it waits, a timer would not end it."""
    program = tmp_path / "look.py"
    program.write_text(LOOK.format(top=str(TOP), group=GROUP, devices=(device,)))
    with (tmp_path / f"V_{GROUP}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ToolStalled):
            await Lvm(GROUP, helper=(sys.executable, str(program))).volumes()
    assert await group.volumes() == []


async def test_a_volume_without_our_tags_is_not_changed(group: Lvm) -> None:
    await group.create(DISK, EXTENT, ["UPDATING"], None)
    before = await group.volume(DISK)
    await group.change_tags(DISK, [IMAGE], add=["STARTED"])
    await group.remove(DISK, [IMAGE])
    assert await group.volume(DISK) == before


async def test_what_is_missing_is_named(group: Lvm, device: str, tmp_path: Path) -> None:
    assert await group.volume(DISK) is None
    assert await group.pool("pool0") is None
    changes: list[Change] = [group.activate, group.deactivate, group.remove]
    for change in changes:
        with pytest.raises(NoSuchLocalDisk):
            await change(DISK, [IMAGE])
    other = without_device_mapper(tmp_path / "other.py", "no-such-group", device)
    assert await other.group() is None
    with pytest.raises(VolumeGroupMissing):
        await other.volumes()
    with pytest.raises(VolumeGroupMissing):
        await other.create(DISK, EXTENT, [IMAGE], None)


async def test_what_does_not_fit_and_what_is_there_already_is_told(group: Lvm) -> None:
    with pytest.raises(ToolFailed, match="insufficient free space"):
        await group.create(DISK, 1 << 40, [IMAGE], None)
    await group.create(DISK, EXTENT, [IMAGE], None)
    with pytest.raises(ToolFailed, match="already exists in volume group"):
        await group.create(DISK, EXTENT, [IMAGE, JOB], None)
    found = await group.volume(DISK)
    assert found is not None
    assert found.tags == {IMAGE}


async def test_only_the_named_devices_are_looked_at(group: Lvm, tmp_path: Path) -> None:
    assert await group.group() is not None
    other = without_device_mapper(tmp_path / "other.py", GROUP, "/dev/none")
    assert await other.group() is None
