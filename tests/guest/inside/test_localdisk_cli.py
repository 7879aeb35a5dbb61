"""`leasehold localdisk` on real LVM, and the page that tells of it."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import tours
from tests.cli.run import Cli, Ended, ended
from tests.guest.inside.conftest import lvm

PAGE = Path(__file__).parents[3] / "docs" / "localdisk.md"
VM = "dddddddd-eeee-4fff-8000-111111111111"
MIB = 1 << 20
PATIENCE = 60.0  # seconds

pytestmark = pytest.mark.usefixtures("empty_group")


@dataclass(frozen=True)
class GuestCli(Cli):
    """more: of the environment."""

    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, **self.more}

    def localdisk(self, *words: object) -> Ended:
        return self("localdisk", *words)

    def done(self, *words: object) -> Any:
        told = self("localdisk", *words, "--json")
        assert told.code == 0, told
        return told.json


@pytest.fixture
def cli(tmp_path: Path) -> GuestCli:
    return GuestCli(tmp_path / "home")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """64 MiB, of which 8 MiB are data."""
    path = tmp_path / "source"
    path.write_bytes(os.urandom(8 * MIB))
    os.truncate(path, 64 * MIB)
    return path


def tags(group: str, name: str) -> set[str]:
    return set(lvm("lvs", "--noheadings", "-o", "lv_tags", f"{group}/{name}").split(","))


@contextmanager
def preparing(
    cli: GuestCli, source: Path, *words: object
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A copy that takes long, in the middle, and the name of its disk."""
    options = ("--vm", VM, "--limit", "1M")
    with cli.started("localdisk", "prepare", source, *options, *words) as process:
        deadline = time.monotonic() + PATIENCE
        while not _copying():
            assert process.poll() is None, ended(process)
            assert time.monotonic() < deadline
            time.sleep(0.1)
        [name] = lvm("lvs", "--noheadings", "-o", "lv_name", "@UPDATING").split()
        yield process, name


def _copying() -> bool:
    """Does a qemu-img of this test convert?"""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            program, *words = entry.read_bytes().split(b"\0")
            if program.endswith(b"qemu-img") and b"convert" in words:
                return True
    return False


@pytest.mark.parametrize("backend", [pytest.param("lvm", marks=pytest.mark.full), "lvmthin"])
def test_a_disk_is_copied_used_again_listed_and_removed(
    cli: GuestCli, source: Path, volume_group: str, backend: str
) -> None:
    made = cli.done("prepare", source, "--vm", VM, "--backend", backend)
    device = Path(made["path"])
    assert device.parent == Path("/dev", volume_group)
    assert device.read_bytes() == source.read_bytes()
    assert cli.done("prepare", source, "--vm", VM, "--backend", backend, "--start")["reused"]
    found = tags(volume_group, device.name)
    assert {f"VM_{VM}", f"JOB_{made['job_id']}", "STARTED"} <= found
    assert "UPDATING" not in found
    [disk] = cli.done("list")["disks"]
    assert (disk["state"], disk["backend"], disk["size"]) == ("ready", backend, 64 * MIB)
    if backend == "lvmthin":
        assert disk["data_percent"] <= 100 * 8 / 64 * 1.05
    with device.open("rb"):
        told = cli.localdisk("remove", device.name, "--json")
        assert (told.code, told.error["code"]) == (6, 4301)
    assert cli.done("remove", "--vm", VM)["removed"] == [device.name]
    assert not device.exists()


@pytest.mark.full
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 4)]
)
def test_a_copy_that_was_killed_or_aborted_is_found_by_gc_and_made_anew(
    cli: GuestCli, source: Path, volume_group: str, number: int, code: int
) -> None:
    with preparing(cli, source) as (process, name):
        process.send_signal(number)
        assert ended(process).code == code
    assert "UPDATING" in tags(volume_group, name)
    assert cli.done("gc", "--dry-run")["unused"] == []  # it was prepared just now
    at_once = GuestCli(cli.home, {"LEASEHOLD_LOCALDISK_KEEP": "0"})
    [unused] = at_once.done("gc", "--dry-run")["unused"]
    assert (unused["vol_id"], unused["removed"]) == (name, False)
    made = cli.done("prepare", source, "--vm", VM)
    assert Path(made["path"]).read_bytes() == source.read_bytes()
    assert "UPDATING" not in tags(volume_group, name)


@pytest.fixture
def small_pool(volume_group: str) -> Iterator[str]:
    """Of 96 MiB, which can be filled in a moment."""
    lvm("lvcreate", "-qq", "-y", "--type", "thin-pool", "-L", "96M", "-n", "small", volume_group)
    lvm("lvchange", "-qq", "--errorwhenfull", "y", f"{volume_group}/small")
    yield "small"
    lvm("lvremove", "-qq", "-f", f"{volume_group}/small")  # and all that is in it


@pytest.mark.full
def test_a_pool_that_gets_full_fails_the_copy_and_the_disk_stays_unusable(
    tmp_path: Path, source: Path, volume_group: str, small_pool: str
) -> None:
    cli = GuestCli(tmp_path / "home", {"LEASEHOLD_LOCALDISK_THIN_POOL": small_pool})
    source.write_bytes(os.urandom(MIB) * 64)
    with preparing(cli, source, "--backend", "lvmthin", "--limit", "4M") as (process, name):
        _fill(volume_group, small_pool)
        told = ended(process)
    assert told.code == 1, told
    assert "no space left" in told.err.lower()
    assert "UPDATING" in tags(volume_group, name)
    again = cli.localdisk("prepare", source, "--vm", VM, "--backend", "lvmthin", "--json")
    assert (again.code, again.error["kind"]) == (6, "NoLocalSpace")
    assert "lvextend" in again.error["message"]


def _fill(group: str, pool: str) -> None:
    lvm("lvcreate", "-qq", "-y", "-V", "96M", "-T", f"{group}/{pool}", "-n", "filler")
    device = os.open(f"/dev/{group}/filler", os.O_WRONLY | os.O_SYNC)
    try:
        while os.write(device, b"x" * MIB):
            pass
    except OSError:
        return
    finally:
        os.close(device)


@pytest.mark.full
def test_the_commands_of_the_page_do_what_it_shows(volume_group: str) -> None:
    steps = tours.tour(PAGE)
    assert len(steps) > 8
    environment = {**os.environ, "PATH": f"{Path(sys.prefix, 'bin')}:{os.environ['PATH']}"}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        tours.check(steps, tours.run(steps, Path(folder), {**environment, "TMPDIR": folder}))
    assert volume_group
