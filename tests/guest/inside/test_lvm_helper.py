"""The privileged helper, through sudo, for a user that may do nothing itself."""

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.guest.inside.conftest import DATA, POOL, lvm
from tests.guest.inside.kept import LVM_CONFIGURATION, USERS, kept

ROOT = Path(__file__).parents[3]
USER, NUMBER = "agent", 4711
HELPER = Path("/usr/local/bin/leasehold-lvm-helper")
RULES = Path("/etc/sudoers.d/leasehold-lvm")
CONFIGURATION = Path("/etc/leasehold/host.toml")
DISK = "77777777-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "11111111-2222-4333-8444-555555555555"
LIFE = f"""
import trio
from processes.lvm import Lvm
from storage.local_disks import LocalDisks

async def main():
    disks = LocalDisks(Lvm("ovirt-local", helper=("sudo", "-n", "{HELPER}")))
    for backend in ("lvm", "lvmthin"):
        await disks.check_space(backend, 1 << 20)
        await disks.create("{DISK}", 1 << 20, backend, image_id="{IMAGE}", job_id="{JOB}", now=1)
        await disks.ready("{DISK}", "{JOB}")
        await disks.deactivate("{DISK}")
        disk = await disks.use(await disks.find("{DISK}"), now=2, start=True)
        print(backend, disk.size, disk.started, disk.active)
        await disks.remove(disk)
        print(await disks.all())

trio.run(main)
"""

CUT_OFF = f"""
import trio
from processes.lvm import Lvm

async def main():
    with trio.move_on_after(0.5) as scope:
        while True:
            await Lvm("ovirt-local", helper=("sudo", "-n", "{HELPER}")).volumes()
    print("cut off" if scope.cancelled_caught else "not")

trio.run(main)
"""


@pytest.fixture(scope="module")
def installed(volume_group: str) -> Iterator[None]:
    """The helper, its rules and its configuration, and a user."""
    with kept(*USERS, LVM_CONFIGURATION, HELPER, RULES, CONFIGURATION):
        _install(volume_group)
        yield


def _install(volume_group: str) -> None:
    with open("/etc/passwd", "a") as users:
        users.write(f"{USER}:x:{NUMBER}:{NUMBER}::/tmp:/bin/sh\n")
    with open("/etc/shadow", "a") as passwords:
        passwords.write(f"{USER}:*:20000:0:99999:7:::\n")
    with open("/etc/group", "a") as groups:
        groups.write(f"leasehold:x:{NUMBER}:\n")
    HELPER.parent.mkdir(parents=True, exist_ok=True)
    HELPER.symlink_to(ROOT / ".venv" / "bin" / HELPER.name)
    shutil.copy(ROOT / "packaging" / "sudoers.d" / "leasehold-lvm", RULES)
    RULES.chmod(0o440)
    CONFIGURATION.parent.mkdir(exist_ok=True)
    CONFIGURATION.write_text(
        f'[localdisk]\nvolume_group = "{volume_group}"\nthin_pool = "{POOL}"\n'
        f'devices = ["{DATA}"]\n'
    )
    # It takes no folder of LVM's from anybody, and there is no udev here.
    shutil.copy("/etc/lvm-noudev/lvm.conf", LVM_CONFIGURATION)


def as_user(*words: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """Run by the user; the environment is that of a login."""
    return subprocess.run(
        ["setpriv", f"--reuid={NUMBER}", f"--regid={NUMBER}", "--clear-groups", *words],
        input=stdin,
        env={"PATH": os.defpath + ":/usr/sbin:/sbin", "PYTHONPATH": str(ROOT)},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def asked(*words: str) -> "subprocess.CompletedProcess[str]":
    return as_user("sudo", "-n", str(HELPER), *words)


@pytest.mark.full
@pytest.mark.usefixtures("installed", "empty_group")
def test_a_user_who_may_do_nothing_makes_uses_and_removes_a_disk() -> None:
    assert pwd.getpwnam(USER).pw_uid == NUMBER
    assert as_user("lvm", "vgs").returncode != 0
    done = as_user(sys.executable, "-", stdin=LIFE)
    assert (done.returncode, done.stderr) == (0, "")
    size = 4 << 20
    assert done.stdout == f"lvm {size} True True\n[]\nlvmthin {size} True True\n[]\n"


@pytest.mark.usefixtures("installed", "empty_group")
def test_a_look_that_the_user_gives_up_ends() -> None:
    done = as_user(sys.executable, "-", stdin=CUT_OFF)
    assert (done.returncode, done.stdout, done.stderr) == (0, "cut off\n", "")


@pytest.mark.usefixtures("installed", "empty_group")
@pytest.mark.parametrize(
    "words",
    [
        ["remove", POOL],
        ["remove", f"ovirt-local/{POOL}"],
        ["remove", "--yes", POOL],
        ["pool", "other"],
        ["create", DISK, "4194304", "other"],
        ["create", DISK, "4194304", "-", "evil"],
        ["lvremove", "ovirt-local"],
        [],
    ],
    ids=lambda words: " ".join(words)[:30],
)
def test_what_is_not_on_its_list_is_refused(words: list[str]) -> None:
    before = lvm("lvs", "--noheadings", "-o", "lv_name,lv_attr,lv_tags")
    done = asked(*words)
    assert done.returncode in (os.EX_USAGE, os.EX_NOPERM)
    assert "leasehold-lvm-helper:" in done.stderr
    assert lvm("lvs", "--noheadings", "-o", "lv_name,lv_attr,lv_tags") == before


@pytest.mark.usefixtures("installed")
def test_a_volume_of_others_is_not_touched_even_under_a_name_of_ours(empty_group: str) -> None:
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "4M", "-n", DISK, empty_group)
    before = lvm("lvs", "--noheadings", "-o", "lv_name,lv_attr,lv_tags")
    for verb, *rest in (["remove"], ["deactivate"], ["change", "+STARTED"], ["activate"]):
        assert asked(verb, DISK, *rest).returncode == os.EX_USAGE
        assert asked(verb, DISK, f"=IU_{IMAGE}", *rest).returncode == 0
        assert lvm("lvs", "--noheadings", "-o", "lv_name,lv_attr,lv_tags") == before


@pytest.mark.usefixtures("installed")
def test_sudo_lets_the_user_do_nothing_else() -> None:
    for words in (["lvm", "vgs"], [sys.executable, "-c", ""], [str(HELPER) + "x"], ["sh"]):
        assert as_user("sudo", "-n", *words).returncode == 1
    for setting in ("LVM_SYSTEM_DIR=/tmp", "PYTHONPATH=/tmp", "LD_PRELOAD=/tmp/x.so"):
        done = as_user("sudo", "-n", setting, str(HELPER), "group")
        assert done.returncode == 1
        assert "not allowed to set" in done.stderr
