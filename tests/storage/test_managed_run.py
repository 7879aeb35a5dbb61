"""The run folder of managed volumes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.managed_run import ManagedRun


@pytest.fixture
def run(tmp_path: Path) -> ManagedRun:
    return ManagedRun(tmp_path / "deep" / "run")


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What a program makes is open to all unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_link_has_the_name_that_clients_know_and_is_replaced_as_a_whole(run: ManagedRun) -> None:
    run.make_access(run.access("sd", "vol"))
    link = run.link("sd", "vol")
    assert link == run.folder / "sd_vol"
    for device in ("/dev/one", "/dev/other"):
        run.make_link(link, device)
        assert os.readlink(link) == device
    assert sorted(os.listdir(run.folder)) == [".sd_vol.access", "sd_vol"]
    assert run.folder.stat().st_mode & 0o777 == 0o755


def test_a_link_that_cannot_be_made_leaves_nothing(run: ManagedRun) -> None:
    run.make_access(run.access("sd", "vol"))
    link = run.link("sd", "vol")
    link.mkdir()
    (link / "in the way").touch()
    with pytest.raises(OSError, match="irectory"):
        run.make_link(link, "/dev/one")
    assert sorted(os.listdir(run.folder)) == [".sd_vol.access", "sd_vol"]


def test_the_folder_with_secrets_is_new_and_ours_alone(run: ManagedRun, open_umask: None) -> None:
    folder = run.access("sd", "vol")
    run.make_access(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "keyring").touch()
    run.make_access(folder)
    assert list(folder.iterdir()) == []


def test_all_of_a_volume_is_removed_and_nothing_of_others(run: ManagedRun) -> None:
    for vol in ("one", "other"):
        run.make_access(run.access("sd", vol))
        run.make_link(run.link("sd", vol), "/dev/null")
    (run.access("sd", "one") / "keyring").touch()
    run.remove("sd", "one")
    run.remove("sd", "one")
    assert sorted(os.listdir(run.folder)) == [".sd_other.access", "sd_other"]
