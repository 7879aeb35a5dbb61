"""The home: its place, its lock, and files that are replaced whole or not at all."""

from pathlib import Path

import pytest
import trio

from cli.home import home, locked, write_atomically
from protocol.errors import BadParameter


def test_the_variable_wins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LEASEHOLD_HOME", str(tmp_path / "x"))
    assert home() == tmp_path / "x"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LEASEHOLD_HOME", "relative")
    assert home() == tmp_path / "relative"


def test_without_it_root_and_users_have_their_data_directories(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("LEASEHOLD_HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert home() == Path("/var/lib/leasehold")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert home() == tmp_path / ".local/share/leasehold"
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert home() == Path("/data/leasehold")


async def test_the_lock_excludes_and_its_wait_can_be_cancelled(tmp_path: Path) -> None:
    async with locked(tmp_path):
        with trio.move_on_after(0.1) as scope:
            async with locked(tmp_path):
                raise AssertionError("two hold the lock")
        assert scope.cancelled_caught
    async with locked(tmp_path):
        pass


async def test_a_new_home_is_for_its_user_alone(tmp_path: Path) -> None:
    async with locked(tmp_path / "a" / "home"):
        assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700


async def test_a_home_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadParameter, match=r"LEASEHOLD_HOME.*file"):
        async with locked(tmp_path / "file" / "home"):
            pass


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BadParameter, match="No space left"):
        write_atomically(file, b"new")
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]
