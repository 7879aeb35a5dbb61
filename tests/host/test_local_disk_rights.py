"""What is taken for true of local disks by who may not ask LVM."""

from pathlib import Path

import pytest

from host.config import LocalDisk
from host.local_disk_rights import may_ask, none_here


@pytest.mark.parametrize(
    ("user", "helper", "folder", "none"),
    [
        (4711, (), False, True),
        (4711, (), True, False),  # there may be some
        (4711, ("sudo", "helper"), False, False),
        (0, (), False, False),
    ],
)
async def test_there_are_no_local_disks_where_who_may_not_ask_sees_no_group(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    user: int,
    helper: tuple[str, ...],
    folder: bool,
    none: bool,
) -> None:
    monkeypatch.setattr("host.local_disk_rights.os.geteuid", lambda: user)
    wanted = LocalDisk(dev=str(tmp_path), helper=helper)
    if folder:
        (tmp_path / wanted.volume_group).mkdir()
    assert may_ask(wanted) is (user == 0 or bool(helper))
    assert await none_here(wanted) is none
