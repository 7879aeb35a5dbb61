"""Private folders, and those that killed processes left behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from processes.private_folder import PREFIX, YOUNG, private_folder

HOLD = """
import sys, time
from processes.private_folder import private_folder
with private_folder() as folder:
    print(folder, flush=True)
    time.sleep(1000)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def aged(folder: Path) -> Path:
    old = time.time() - 2 * YOUNG
    os.utime(folder, (old, old))
    return folder


def test_only_its_maker_can_enter_it_and_it_is_gone_afterwards() -> None:
    with private_folder() as folder:
        assert Path(folder).stat().st_mode & 0o777 == 0o700
    assert not Path(folder).exists()


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_has_is_not(
    temporary: Path,
) -> None:
    argv = [sys.executable, "-c", HOLD]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        folder = aged(Path(holder.stdout.readline().strip()))
        try:
            with private_folder():
                assert folder.exists(), "its maker lives"
        finally:
            holder.kill()
    assert folder.exists()
    with private_folder():
        assert not folder.exists()


def test_young_folders_and_those_of_other_names_are_left_alone(temporary: Path) -> None:
    young = temporary / f"{PREFIX}young"
    young.mkdir()
    other = temporary / "other"
    other.mkdir()
    aged(other)
    with private_folder():
        assert young.exists()
        assert other.exists()


def test_a_link_is_not_followed(temporary: Path) -> None:
    precious = temporary / "precious"
    precious.mkdir()
    (precious / "data").touch()
    (temporary / f"{PREFIX}link").symlink_to(precious)
    os.utime(temporary / f"{PREFIX}link", (0, 0), follow_symlinks=False)
    with private_folder():
        assert (precious / "data").exists()
