"""The journal: a job is in it whole or not at all, and no damage keeps an agent from starting."""

import errno
import os
from pathlib import Path

import msgspec
import pytest

from host.folder import Folder
from host.journal import Journal
from processes import atomic_file
from protocol.errors import AcquireLockFailure, JobExists, NoSpaceLeft
from tests.host.test_folder import DONE, spec


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "a" / "jobs")


def test_it_is_for_nobody_else(journal: Journal) -> None:
    assert journal.path.stat().st_mode & 0o777 == 0o700
    folder = journal.add(spec())
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_jobs_are_read_in_the_order_in_which_they_came_whatever_the_clock_said(
    journal: Journal,
) -> None:
    created = [5.0, 9.0, 1.0, 7.0]
    ids = [journal.add(spec(created=time)).job_id for time in created]
    again = Journal(journal.path)
    assert [entry.folder.job_id for entry in again.read()] == ids
    ids.append(again.add(spec(created=0.0)).job_id)
    assert [entry.folder.job_id for entry in Journal(journal.path).read()] == ids


def test_an_id_serves_one_job(journal: Journal) -> None:
    wanted = spec()
    folder = journal.add(wanted)
    folder.end(DONE)
    with pytest.raises(JobExists):
        journal.add(wanted)
    assert folder.ending() == DONE
    assert [path.name for path in journal.path.iterdir()] == [folder.job_id]


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.ENOSPC, NoSpaceLeft), (errno.EDQUOT, NoSpaceLeft), (errno.EIO, OSError)],
)
@pytest.mark.parametrize("failing", ["write", "sync_folder"])
def test_a_job_that_cannot_be_written_is_not_there(
    journal: Journal,
    number: int,
    raised: type[Exception],
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = getattr(atomic_file, failing)

    def broken(path: Path, *rest: object) -> None:
        if failing == "sync_folder" and path != journal.path:
            real(path)
        else:
            raise OSError(number, os.strerror(number))

    monkeypatch.setattr(atomic_file, failing, broken)
    with pytest.raises(raised):
        journal.add(spec())
    monkeypatch.undo()
    assert journal.read() == []


def test_what_a_crash_left_half_made_is_removed(journal: Journal) -> None:
    folder = journal.add(spec())
    for name in (".new-abc", ".gone-abc"):
        (journal.path / name).mkdir()
        (journal.path / name / "spec").touch()
    (journal.path / ".spec.abc").touch()
    assert [entry.folder.job_id for entry in journal.read()] == [folder.job_id]
    assert [path.name for path in journal.path.iterdir()] == [folder.job_id]


def test_a_damaged_job_is_left_alone_and_the_others_are_read(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = [spec() for _ in range(5)]
    folders = [journal.add(one) for one in wanted]
    (folders[0].path / "spec").write_bytes(b"\xff")
    (folders[1].path / "spec").unlink()
    (folders[2].path / "spec").unlink()
    (folders[2].path / "spec").mkdir()
    (journal.path / "stray file").touch()
    (journal.path / "stray folder").mkdir()
    assert [entry.spec.job_id for entry in journal.read()] == [one.job_id for one in wanted[3:]]
    assert all(folder.path.is_dir() for folder in folders)
    assert folders[0].job_id in caplog.text
    with pytest.raises(JobExists):  # nobody knows what became of it
        journal.add(wanted[0])


def test_a_job_with_a_damaged_ending_is_read_without_it(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    folder = journal.add(spec())
    (folder.path / "ending").write_bytes(b"{")
    [entry] = journal.read()
    assert entry.ending is None
    assert entry.folder.ended
    assert "ending" in caplog.text


def test_it_has_one_agent(journal: Journal) -> None:
    fd = journal.lock()
    with pytest.raises(AcquireLockFailure):
        Journal(journal.path).lock()
    assert journal.read() == []  # and it is not taken for a left-over
    with pytest.raises(AcquireLockFailure):
        journal.lock()
    os.close(fd)
    os.close(journal.lock())


def test_many_jobs_that_ended_are_read(journal: Journal) -> None:
    for number in range(500):
        wanted = spec(order=number)
        folder = Folder(journal.path / str(wanted.job_id))
        folder.path.mkdir()
        (folder.path / "spec").write_bytes(msgspec.json.encode(wanted))
        (folder.path / "ending").write_bytes(msgspec.json.encode(DONE))
    found = journal.read()
    assert [entry.spec.order for entry in found] == list(range(500))
    assert all(entry.ending == DONE for entry in found)


def test_that_it_is_drained_outlives_the_agent(journal: Journal) -> None:
    assert not journal.drained
    for _ in range(2):
        journal.drain()
        assert journal.drained
    again = Journal(journal.path)
    again.read()  # which tidies up
    assert again.drained
    for _ in range(2):
        again.resume()
        assert not journal.drained
    assert again.read() == []
