"""The volume group of the guest."""

import subprocess
from collections.abc import Iterator

import pytest

VG = "ovirt-local"
POOL = "pool0"
DATA = "/dev/guest/data"
SPARE = "/dev/guest/spare"


def lvm(*arguments: object) -> str:
    """An lvm command that has to succeed; what it printed."""
    words = [str(word) for word in arguments]
    done = subprocess.run(["lvm", *words], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout.strip()


def make_group() -> None:
    """VG on DATA with the thin pool POOL, which has 8 GiB and fails at once when it is full."""
    lvm("vgcreate", "-qq", VG, DATA)
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "8G", "-n", POOL, VG)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{VG}/{POOL}")


@pytest.fixture(scope="session")
def volume_group() -> str:
    """The volume group of `make_group`, for all tests of the boot."""
    make_group()
    return VG


@pytest.fixture
def empty_group(volume_group: str) -> Iterator[str]:
    """The same, without a logical volume besides the pool before and after the test."""
    yield volume_group
    listed = lvm("lvs", "--noheadings", "-o", "lv_name", volume_group).split()
    if names := [f"{volume_group}/{name}" for name in listed if name != POOL]:
        lvm("lvremove", "-qq", "-f", *names)
