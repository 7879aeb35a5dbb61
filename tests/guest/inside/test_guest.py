"""The guest has what the other tests in it need."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import sanlock

from tests.guest.inside.conftest import POOL, lvm


def test_the_checkout_and_its_environment_work() -> None:
    assert sys.prefix.endswith("/.venv")
    assert msgspec.json.decode(b'{"a": 1}') == {"a": 1}
    assert sanlock.register
    leasehold = Path(sys.prefix, "bin", "leasehold")
    done = subprocess.run([leasehold, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("leasehold ")


def test_a_thin_volume_is_a_device_that_reads_as_zeros_and_takes_what_is_written(
    empty_group: str,
) -> None:
    lvm("lvcreate", "-qq", "-y", "-V", "64M", "-T", f"{empty_group}/{POOL}", "-n", "thin")
    path = Path("/dev", empty_group, "thin")
    assert path.is_block_device()
    with path.open("r+b", buffering=0) as device:
        assert device.read(1 << 20) == bytes(1 << 20)
        device.write(b"x" * (1 << 20))
        os.fsync(device.fileno())
    lvm("lvchange", "-an", f"{empty_group}/thin")
    assert not path.exists()
    lvm("lvchange", "-ay", "-K", f"{empty_group}/thin")
    with path.open("rb") as device:
        device.seek(1 << 20)
        assert device.read(4) == b"x" * 4
    used = lvm("lvs", "--noheadings", "-o", "data_percent", f"{empty_group}/thin")
    assert float(used) == pytest.approx(100 / 64, abs=0.2)


def test_a_linear_volume_has_the_size_that_was_asked_for(empty_group: str) -> None:
    lvm("lvcreate", "-qq", "-y", "-Wn", "-L", "64M", "-n", "linear", empty_group)
    with Path("/dev", empty_group, "linear").open("rb") as device:
        assert device.seek(0, os.SEEK_END) == 64 << 20
