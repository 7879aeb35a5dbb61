"""The table of attached managed volumes."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from protocol.errors import BadParameter, NoSpaceLeft
from storage.managed_table import ManagedTable, ManagedVolume, boot_id

BOOT = "11111111-1111-4111-8111-111111111111"
NEXT_BOOT = "22222222-2222-4222-8222-222222222222"
ONE = ManagedVolume(
    "vol-1", "sd-1", {"driver_volume_type": "rbd", "data": {"keyring": "TOPSECRET"}}
)
ATTACHED = replace(ONE, path="/dev/mapper/x", attachment={"path": "/dev/dm-1"}, multipath_id="x")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "volumes.db"


def opened(path: Path, boot: str = BOOT) -> ManagedTable:
    return ManagedTable.opened(path, boot)[0]


@pytest.fixture
def open_umask() -> Iterator[None]:
    """What a program makes is open to all unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def test_a_row_is_what_was_put_and_gone_when_it_is_removed(path: Path) -> None:
    table = opened(path)
    table.put(ONE)
    other = replace(ONE, vol_id="vol-0", sd_id="sd-2")
    table.put(other)
    assert table.all() == [other, ONE]
    assert not ONE.attached
    table.put(ATTACHED)
    assert opened(path).all() == [other, ATTACHED]
    assert ATTACHED.attached
    table.remove("vol-0")
    table.remove("vol-0")
    assert table.all() == [ATTACHED]


def test_nothing_is_attached_after_a_reboot(path: Path) -> None:
    former = opened(path)
    former.put(ATTACHED)
    table, gone = ManagedTable.opened(path, NEXT_BOOT)
    assert gone == [ATTACHED]
    assert table.all() == []
    assert ManagedTable.opened(path, NEXT_BOOT)[1] == []
    former.put(ATTACHED)  # by a program of the former boot, as it were
    assert table.all() == []


def test_secrets_are_readable_by_nobody_else_and_do_not_stay(path: Path, open_umask: None) -> None:
    table = opened(path)
    table.put(ONE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert b"TOPSECRET" in path.read_bytes()
    table.remove(ONE.vol_id)
    assert b"TOPSECRET" not in path.read_bytes()
    assert os.listdir(path.parent) == [path.name]
    assert "TOPSECRET" not in repr(ONE)


def test_a_damaged_file_is_told_with_its_name(path: Path) -> None:
    path.write_bytes(b"this is no database" * 100)
    with pytest.raises(BadParameter, match=f"{path} is damaged"):
        ManagedTable.opened(path, BOOT)


def test_a_change_that_finds_no_room_changes_nothing(path: Path) -> None:
    table = opened(path)
    table.put(ONE)
    with sqlite3.connect(path) as database:
        pages = database.execute("PRAGMA page_count").fetchone()[0]

    class Full(ManagedTable):
        def _connection(self) -> sqlite3.Connection:
            made = super()._connection()
            made.execute(f"PRAGMA max_page_count = {pages}")
            return made

    full = Full(path, BOOT)
    with pytest.raises(NoSpaceLeft):
        full.put(replace(ONE, connection={"data": "x" * 100_000}))
    assert table.all() == [ONE]


_WRITE = """
import os, signal, sys
from pathlib import Path
from storage.managed_table import ManagedTable, ManagedVolume
table = ManagedTable(Path(sys.argv[1]), sys.argv[2])
with table._changed() as database:
    database.execute("DELETE FROM volumes")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_that_dies_in_the_middle_has_changed_nothing(path: Path) -> None:
    table = opened(path)
    table.put(ATTACHED)
    died = subprocess.run([sys.executable, "-c", _WRITE, str(path), BOOT], check=False)
    assert died.returncode == -9
    assert table.all() == [ATTACHED]


def test_the_kernel_tells_the_boot() -> None:
    assert boot_id() == boot_id()
    assert len(boot_id()) == len(BOOT)
