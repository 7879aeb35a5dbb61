"""Lvm and its helper program, of which tests/local_disks.py is a stand-in.

What LVM itself does is in test_lvm_loop.py, and in the guest.
"""

import ast
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest
import trio

from host.helpers.bounded import GRACE
from processes.lvm import QUICK, Lvm
from processes.lvm_operation import READ_TIME, STALLED
from processes.lvm_report import LogicalVolume
from protocol.errors import (
    BadOutput,
    BadParameter,
    LocalDiskInUse,
    NoSuchLocalDisk,
    ToolFailed,
    ToolMissing,
    ToolStalled,
    VolumeGroupMissing,
)
from tests.local_disks import GROUP, POOL, StandIn

DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "88888888-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "IU_66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "JOB_11111111-2222-4333-8444-555555555555"
SIZE = 8 << 20
Change: TypeAlias = Callable[[str, list[str]], Awaitable[object]]


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


def program(path: Path, text: str) -> tuple[str, ...]:
    """The words that run a Python program."""
    path.write_text(text)
    return (sys.executable, str(path))


@pytest.mark.parametrize("through", ["lvm", "program"])
async def test_a_volume_is_made_changed_and_removed(group: StandIn, through: str) -> None:
    lvm: Lvm = getattr(group, through)
    assert await lvm.volume(DISK) is None
    await lvm.create(DISK, SIZE, ["UPDATING", IMAGE], POOL)
    made = await lvm.volume(DISK)
    assert made == LogicalVolume(
        DISK, SIZE, frozenset({"UPDATING", IMAGE}), active=True, pool=POOL, data_percent=0.0
    )
    assert os.stat(lvm.path(DISK)).st_size == SIZE
    await lvm.change_tags(DISK, [IMAGE], add=["STARTED"], remove=["UPDATING"])
    await lvm.deactivate(DISK, [IMAGE])
    assert await lvm.volumes() == [
        LogicalVolume(DISK, SIZE, frozenset({"STARTED", IMAGE}), pool=POOL)
    ]
    await lvm.activate(DISK, [IMAGE])
    await lvm.remove(DISK, [IMAGE, JOB])  # it has no such tag
    assert await lvm.volume(DISK) is not None
    await lvm.remove(DISK, [IMAGE])
    assert await lvm.volumes() == []


@pytest.mark.parametrize("through", ["lvm", "program"])
async def test_group_and_pool_are_shown(group: StandIn, through: str) -> None:
    lvm: Lvm = getattr(group, through)
    found, pool = await lvm.group(), await lvm.pool(POOL)
    assert found is not None
    assert pool is not None
    assert (found.name, found.size, pool.name) == (GROUP, 1 << 40, POOL)
    assert await lvm.pool("pool1") is None


async def test_a_group_that_is_missing_has_an_error_of_its_own(group: StandIn) -> None:
    with group.content() as content:
        content.present = False
    assert await group.program.group() is None
    with pytest.raises(VolumeGroupMissing, match="vgcreate ovirt-local"):
        await group.program.volumes()


async def test_a_volume_that_is_missing_has_an_error_of_its_own(group: StandIn) -> None:
    changes: list[Change] = [group.lvm.activate, group.lvm.deactivate, group.lvm.remove]
    for change in changes:
        with pytest.raises(NoSuchLocalDisk, match=DISK):
            await change(DISK, [IMAGE])


async def test_a_volume_that_is_open_is_in_use(group: StandIn) -> None:
    group.add(LogicalVolume(DISK, SIZE, frozenset({IMAGE}), active=True, open=True))
    changes: list[Change] = [group.lvm.deactivate, group.lvm.remove]
    for change in changes:
        with pytest.raises(LocalDiskInUse, match="in use"):
            await change(DISK, [IMAGE])
    assert group.volumes()[DISK].active


async def test_what_lvm_says_is_told(group: StandIn) -> None:
    group.fail("activate", "  Check of pool ovirt-local/pool0 failed")
    with pytest.raises(ToolFailed, match="Check of pool"):
        await group.program.activate(DISK, [IMAGE])


@pytest.mark.parametrize("name", ["--help", "../x", f"{DISK}\n", "pool0"])
async def test_a_hostile_name_comes_to_no_program(group: StandIn, name: str) -> None:
    lvm = group.lvm
    changes: list[Change] = [lvm.activate, lvm.deactivate, lvm.remove, lvm.change_tags]
    for change in changes:
        with pytest.raises(BadParameter):
            await change(name, [IMAGE])
        with pytest.raises(BadParameter):
            await change(DISK, [JOB])
    with pytest.raises(BadParameter):
        await group.lvm.volume(name)
    with pytest.raises(BadParameter):
        await group.lvm.create(name, SIZE, [IMAGE], None)
    assert group.calls() == []


async def test_a_helper_of_another_group_is_found_out(group: StandIn) -> None:
    await group.lvm.create(DISK, SIZE, [IMAGE], None)
    other = Lvm("vg0", helper=group.helper)
    with pytest.raises(BadOutput, match=GROUP):
        await other.volume(DISK)


async def test_a_helper_that_is_missing_is_named() -> None:
    with pytest.raises(ToolMissing, match="no-such-helper"):
        await Lvm(GROUP, helper=("no-such-helper",)).group()


async def test_a_helper_that_gave_a_look_up_has_an_error_of_its_own(tmp_path: Path) -> None:
    lvm = Lvm(GROUP, helper=program(tmp_path / "up.py", f"raise SystemExit({STALLED})"))
    looks: list[Callable[[], Awaitable[object]]] = [lvm.volumes, lvm.group]
    for look in looks:
        with pytest.raises(ToolStalled, match="lvm stood still"):
            await look()
    with pytest.raises(ToolFailed):  # no change is ever given up
        await lvm.activate(DISK, [IMAGE])


def test_a_helper_that_we_may_not_end_gives_up_before_we_do() -> None:
    assert QUICK.seconds is not None
    assert QUICK.seconds > READ_TIME + 2 * GRACE


async def test_a_change_is_not_cut_off_by_a_cancellation(tmp_path: Path) -> None:
    mark = tmp_path / "done"
    slow = f"""
import pathlib, time
pathlib.Path({str(tmp_path / "begun")!r}).touch()
while not pathlib.Path({str(tmp_path / "go")!r}).exists():
    time.sleep(0.01)
pathlib.Path({str(mark)!r}).touch()
"""
    lvm = Lvm(GROUP, helper=program(tmp_path / "slow.py", slow))

    async def cut_off() -> None:
        while not (tmp_path / "begun").exists():  # noqa: ASYNC110 - another process makes it
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
        (tmp_path / "go").touch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cut_off)
        await lvm.remove(DISK, [IMAGE])
    assert mark.exists()


async def test_a_look_is_cut_off_by_a_cancellation(tmp_path: Path) -> None:
    lvm = Lvm(GROUP, helper=program(tmp_path / "slow.py", "import time\ntime.sleep(600)"))
    with trio.move_on_after(0.2) as scope:
        await lvm.volumes()
    assert scope.cancelled_caught


async def test_a_look_by_a_program_that_we_may_not_end_is_given_up_and_ends_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is with sudo, when we are not root. It may print more than anybody reads."""

    def refused(pid: int, number: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "killpg", refused)
    talking = "import time\nwhile True:\n    print('x' * 100, flush=True); time.sleep(0.01)"
    lvm = Lvm(GROUP, helper=program(tmp_path / "talking.py", talking))
    with trio.move_on_after(0.5) as scope:
        await lvm.volumes()
    assert scope.cancelled_caught


async def test_lvm_is_told_its_folder_and_nothing_of_our_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    text = f"import os\nopen({str(told)!r}, 'w').write(repr(dict(os.environ)))"
    lvm = Lvm(GROUP, helper=program(tmp_path / "tell.py", text))
    monkeypatch.setenv("LVM_SYSTEM_DIR", "/etc/lvm-noudev")
    monkeypatch.setenv("SECRET", "x")
    await lvm.activate(DISK, [IMAGE])
    assert "'LVM_SYSTEM_DIR': '/etc/lvm-noudev'" in told.read_text()
    assert "'LVM_SUPPRESS_FD_WARNINGS': '1'" in told.read_text()
    assert "SECRET" not in told.read_text()


async def test_lvm_itself_looks_at_the_devices_that_are_named_and_at_the_tags_that_are_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the first it may find a group of that name on a disk of a VM; without the second a
    change may reach a volume that was made since."""
    told = tmp_path / "told"
    lvm = tmp_path / "lvm"
    text = f"import sys; open({str(told)!r}, 'w').write(repr(sys.argv))"
    lvm.write_text(f"#!{sys.executable}\n{text}\n")
    lvm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = Lvm(GROUP, devices=("/dev/sdb",))
    having = [IMAGE, JOB]
    for change in (
        found.change_tags(DISK, having, add=["STARTED"]),
        found.activate(DISK, having),
        found.deactivate(DISK, having),
        found.remove(DISK, having),
        found.create(DISK, SIZE, having, None),
        found.activate_pool(POOL),
    ):
        await change
        words = ast.literal_eval(told.read_text())
        assert words[2] == "--config"
        assert 'filter=["a|^/dev/sdb$|","r|.*|"]' in words[3]
        if words[-1] == f"{GROUP}/{DISK}":
            [select] = [words[n + 1] for n, word in enumerate(words) if word == "--select"]
            assert select == f'lv_tags={{"{IMAGE}"}} && lv_tags={{"{JOB}"}}'
    with pytest.raises(BadOutput):
        await found.volumes()
    assert ast.literal_eval(told.read_text())[2] == "--config"


async def test_a_change_by_lvm_itself_outlives_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not killed with its parent, which could leave a device suspended; a look is."""
    told = tmp_path / "told"
    lvm = tmp_path / "lvm"
    ask = "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n))"
    # prctl(2), PR_GET_PDEATHSIG
    lvm.write_text(f"#!{sys.executable}\n{ask}; open({str(told)!r}, 'w').write(str(n.value))\n")
    lvm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    await Lvm(GROUP).activate(DISK, [IMAGE])
    assert told.read_text() == "0"
    with pytest.raises(BadOutput):
        await Lvm(GROUP).volumes()
    assert told.read_text() == "9"


async def test_a_change_that_lvm_refuses_names_lvm_and_not_what_it_is_run_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lvm = tmp_path / "lvm"
    lvm.write_text("#!/bin/sh\necho 'it cannot be done' >&2\nexit 5\n")
    lvm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for refused in (Lvm(GROUP).volumes, lambda: Lvm(GROUP).activate(DISK, [IMAGE])):
        with pytest.raises(ToolFailed, match="it cannot be done") as caught:
            await refused()
        assert (caught.value.tool, caught.value.status) == ("lvm", 5)
