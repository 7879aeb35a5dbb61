"""scripts/install puts the command and the units into place, and nothing else."""

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.installers import run

TOP = Path(__file__).parents[2]
INSTALL = TOP / "scripts" / "install"
UNITS = TOP / "packaging" / "systemd"
install = partial(run, INSTALL)


def test_command_and_units_are_put_into_place_as_often_as_one_likes(tmp_path: Path) -> None:
    for _ in range(2):
        done = install(DESTDIR=str(tmp_path))
        assert done.returncode == 0, done.stderr
    programs = tmp_path / "usr/local/bin"
    named = {"leasehold", "leasehold-lvm-helper", "leasehold-hook-localdisk"}
    assert {path.name: os.readlink(path) for path in programs.iterdir()} == {
        name: str(TOP / ".venv" / "bin" / name) for name in named
    }
    there = tmp_path / "etc/systemd/system"
    units = {path.relative_to(UNITS) for path in UNITS.rglob("*") if path.is_file()}
    assert {path.relative_to(there) for path in there.rglob("*") if path.is_file()} == units
    for unit in units:
        assert (there / unit).read_text() == (UNITS / unit).read_text()
        assert (there / unit).stat().st_mode & 0o777 == 0o644


def test_an_argument_that_it_does_not_know_is_refused(tmp_path: Path) -> None:
    done = install("--root", DESTDIR=str(tmp_path))
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])
    assert "usage: scripts/install" in done.stderr


@pytest.mark.tools("setpriv")
def test_only_root_can_install_on_this_host() -> None:
    as_nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
    command = as_nobody if os.geteuid() == 0 else []
    if subprocess.run([*command, "test", "-x", INSTALL], check=False).returncode:
        pytest.skip("this checkout is where only its owner can read")
    environment = {key: value for key, value in os.environ.items() if key != "DESTDIR"}
    done = subprocess.run(
        [*command, INSTALL], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "sudo scripts/install" in done.stderr
