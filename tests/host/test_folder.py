"""The folder of one job: what stands in it, and who may write its end."""

import os
import socket
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest

from host.folder import ROOM, Ending, Folder, Spec
from jobs.status import Status

DONE = Ending(status=Status.DONE, result={"bytes": 1}, started=1.0, ended=2.0, bytes=1)
FAILED = Ending(status=Status.FAILED, error={"code": 100}, ended=3.0)


def spec(**options: object) -> Spec:
    facts = {
        "job_id": str(uuid4()),
        "description": "copy",
        "source": {},
        "destination": {},
        "hardware_id": "h",
        "created": 1.5,
        **options,
    }
    return msgspec.convert(facts, Spec)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    wanted = spec()
    made = Folder(tmp_path / str(wanted.job_id))
    made.path.mkdir()
    made.write(wanted)
    return made


def begin(folder: Folder) -> None:
    """What the warm parent does before it forks."""
    with socket.socket(socket.AF_UNIX) as listener:
        directory = os.open(folder.path, os.O_RDONLY)
        listener.bind(f"/proc/self/fd/{directory}/{folder.socket.name}")  # a short name
        os.close(directory)


def test_what_was_written_is_read(folder: Folder) -> None:
    assert str(folder.spec().job_id) == folder.job_id
    assert folder.ending() is None
    assert (folder.begun, folder.alive, folder.ended, folder.abort_asked) == (False,) * 4
    folder.end(DONE)
    assert folder.ending() == DONE
    assert folder.ended


def test_the_ending_is_written_into_the_room_that_was_kept_for_it(folder: Folder) -> None:
    kept = folder.path / "ending.room"
    assert kept.stat().st_blocks * 512 >= ROOM
    inode = kept.stat().st_ino
    folder.end(DONE)
    assert (folder.path / "ending").stat().st_ino == inode
    assert not kept.exists()


def test_an_ending_can_be_replaced_as_a_whole(folder: Folder) -> None:
    folder.end(DONE)
    folder.end(FAILED)
    assert folder.ending() == FAILED


def test_files_are_for_nobody_else(folder: Folder) -> None:
    folder.end(DONE)
    folder.ask_abort()
    fd = folder.lock()
    assert fd is not None
    os.close(fd)
    assert {oct(path.stat().st_mode & 0o777) for path in folder.path.iterdir()} == {"0o600"}


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\x00", b"[]", b'{"job_id": 1}'])
def test_a_damaged_specification_is_told(folder: Folder, content: bytes) -> None:
    (folder.path / "spec").write_bytes(content)
    with pytest.raises(msgspec.MsgspecError):
        folder.spec()


def test_the_specification_of_another_job_is_damage(folder: Folder) -> None:
    (folder.path / "spec").write_bytes(msgspec.json.encode(spec()))
    with pytest.raises(msgspec.MsgspecError, match="that of job"):
        folder.spec()


def test_a_specification_of_a_newer_version_is_read(folder: Folder) -> None:
    facts = {**msgspec.to_builtins(folder.spec()), "color": "red"}
    (folder.path / "spec").write_bytes(msgspec.json.encode(facts))
    assert str(folder.spec().job_id) == folder.job_id


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"status": "done"}', b'{"status": "running", "ended": 1}']
)
def test_a_damaged_ending_is_told_and_counts_as_one(folder: Folder, content: bytes) -> None:
    (folder.path / "ending").write_bytes(content)
    assert folder.ended
    with pytest.raises(msgspec.MsgspecError):
        folder.ending()


def test_a_folder_has_one_worker(folder: Folder) -> None:
    fd = folder.lock()
    assert fd is not None
    assert folder.alive
    assert folder.lock() is None
    os.close(fd)
    assert not folder.alive


def test_a_look_whether_the_worker_lives_takes_nothing(folder: Folder) -> None:
    """Else a worker that is just being started would be told that there is one."""
    fd = folder.lock()
    assert fd is not None
    os.close(fd)
    before = set(os.listdir("/proc/self/fd"))
    assert not folder.alive
    assert set(os.listdir("/proc/self/fd")) == before
    locks = Path("/proc/locks").read_text()
    assert f":{(folder.path / 'lock').stat().st_ino} " not in locks


def test_a_job_that_was_never_begun_can_be_ended(folder: Folder) -> None:
    assert folder.end_unbegun(FAILED) == FAILED
    assert folder.ending() == FAILED


def test_a_job_that_is_being_begun_cannot_be_ended_by_others(folder: Folder) -> None:
    fd = folder.lock()
    assert fd is not None
    assert folder.end_unbegun(FAILED) is None
    assert folder.end_without_worker(FAILED) is None
    os.close(fd)
    begin(folder)
    assert folder.end_unbegun(FAILED) is None
    assert not folder.ended
    assert folder.end_without_worker(FAILED) == FAILED


def test_an_ending_of_the_worker_stands(folder: Folder) -> None:
    begin(folder)
    folder.end(DONE)
    assert folder.end_without_worker(FAILED) == DONE
    assert folder.ending() == DONE


def test_a_damaged_ending_is_replaced_by_the_judgement(folder: Folder) -> None:
    begin(folder)
    (folder.path / "ending").write_bytes(b"{")
    assert folder.end_without_worker(FAILED) == FAILED
    assert folder.ending() == FAILED


def test_when_it_was_begun_is_known(folder: Folder) -> None:
    assert folder.started is None
    begin(folder)
    os.utime(folder.socket, (5.0, 7.5))
    assert folder.started == 7.5


def test_the_wish_for_an_abort_is_kept(folder: Folder) -> None:
    folder.ask_abort()
    folder.ask_abort()
    assert folder.abort_asked


def test_a_removed_folder_is_gone_whatever_was_left_of_another(folder: Folder) -> None:
    folder.end(DONE)
    left = folder.path.parent / f".gone-{folder.job_id}-1"
    left.mkdir()
    (left / "spec").touch()
    folder.remove()
    assert [path.name for path in folder.path.parent.iterdir()] == [left.name]
    with pytest.raises(FileNotFoundError):
        folder.remove()
