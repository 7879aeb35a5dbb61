"""Volumes as files: complete or not there, one command at a time, and nothing left of the dead."""

import fcntl
import threading
from pathlib import Path

import pytest

from engine.adapters import sparse_file
from engine.adapters.connections import Connection
from engine.adapters.volume_files import VolumeFiles
from protocol.errors import ManagedStorageFailed, ManagedVolumeInUse, NoSuchManagedVolume
from protocol.managed import GIB, Connector


@pytest.fixture
def files(tmp_path: Path) -> VolumeFiles:
    return VolumeFiles(tmp_path / "disks")


def left(files: VolumeFiles) -> list[str]:
    return sorted(str(path.relative_to(files.folder)) for path in files.folder.glob("*/**/*"))


def test_what_a_command_that_died_has_left_is_removed_by_the_next(files: VolumeFiles) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
    scrap = files.folder / "scrap"
    (scrap / "v1.half").mkdir()
    (scrap / "v1.half" / "disk").write_text("half")
    (scrap / "v1.copy").write_text("half")
    (scrap / "v11.other").write_text("of another volume")
    with files.lock("v1"):
        assert sorted(path.name for path in scrap.iterdir()) == ["v11.other"]


def test_a_copy_that_fails_leaves_nothing(
    files: VolumeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
    before = left(files)

    def full(source: Path, target: Path, *, at_once: bool) -> None:
        target.write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sparse_file, "copy", full)
    with pytest.raises(OSError, match="No space"), files.lock("v1", "v2"):
        files.clone("v1", "v2")
    with pytest.raises(OSError, match="No space"), files.lock("v1"):
        files.create_snapshot("v1", "s1")
    assert [name for name in left(files) if "snapshots" not in name] == before
    assert files.ids() == ["v1"]
    with files.lock("v1"):
        assert files.snapshots("v1") == []


def test_a_revert_that_fails_changes_nothing(
    files: VolumeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
        files.create_snapshot("v1", "s1")
        with files.disk("v1").open("r+b") as disk:
            disk.write(b"new")

    def full(source: Path, target: Path, *, at_once: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sparse_file, "copy", full)
    with pytest.raises(OSError, match="No space"), files.lock("v1"):
        files.revert("v1", "s1")
    assert files.disk("v1").read_bytes()[:3] == b"new"


def test_a_snapshot_is_the_copy_of_one_moment_while_a_host_is_connected(
    files: VolumeFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sparse_file, "_shared", lambda src, dst: False)
    with files.lock("v1"):
        files.create("v1", 1)
        files.connections("v1").put(Connection(Connector("host1")))
        with pytest.raises(ManagedVolumeInUse, match="disconnect"):
            files.create_snapshot("v1", "s1")
        with pytest.raises(ManagedVolumeInUse, match="disconnect"):
            files.clone("v1", "v2")
        files.connections("v1").remove(Connector("host1"))
        files.create_snapshot("v1", "s1")
        assert files.snapshots("v1") == ["s1"]


def test_a_volume_is_worked_on_by_one_command_at_a_time(files: VolumeFiles) -> None:
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        with files.lock("v1"):
            order.append("second")

    with files.lock("v0", "v1"):
        other = threading.Thread(target=second)
        other.start()
        with (files.folder / "locks" / "v1").open() as lock, pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        inside.wait(0.1)
        order.append("first")
    other.join(20)
    assert order == ["first", "second"]


def test_who_waited_for_a_volume_that_was_removed_has_a_lock_that_counts(
    files: VolumeFiles,
) -> None:
    """The file that was locked goes with the volume; another must not be locked beside it."""
    with files.lock("v1"):
        files.create("v1", 1)
    path = files.folder / "locks" / "v1"
    held = path.open()
    fcntl.flock(held, fcntl.LOCK_EX)
    found: list[bool] = []

    def waits() -> None:
        with files.lock("v1"), path.open() as same:
            try:
                fcntl.flock(same, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(True)

    other = threading.Thread(target=waits)
    other.start()
    other.join(0.2)  # it waits now, most likely; the test is true in any case
    path.unlink()
    held.close()
    other.join(20)
    assert found == [True]


def test_of_a_volume_that_is_gone_there_is_no_lock(files: VolumeFiles) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
    with files.lock("v1"):
        files.delete("v1")
    with pytest.raises(NoSuchManagedVolume), files.lock("v2"):
        files.delete("v2")
    assert left(files) == []


def test_others_cannot_enter(files: VolumeFiles) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
        connection = Connection(Connector("host1"), {"password": "secret"})
        files.connections("v1").put(connection)
        assert files.size("v1") == GIB
    for path in files.folder.glob("*/**/*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_record_that_is_damaged_is_told(files: VolumeFiles) -> None:
    with files.lock("v1"):
        files.create("v1", 1)
        records = files.connections("v1")
        records.put(Connection(Connector("host1")))
        [path] = records.folder.iterdir()
        path.write_text("{")
        with pytest.raises(ManagedStorageFailed, match=r"\.json"):
            records.all()
        with pytest.raises(ManagedStorageFailed):
            files.delete("v1")
