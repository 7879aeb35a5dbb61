"""The file between vdsm and its hooks: read within bounds, replaced as a whole."""

import os
import stat
import threading
from pathlib import Path

import pytest

from host.hooks import hook_file
from host.hooks.program import Refused

NAME = "_hook_json"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "tmpabc"
    path.write_bytes(b"old")
    path.chmod(0o640)
    monkeypatch.setenv(NAME, str(path))
    return path


def test_a_file_is_read_and_replaced_with_owner_and_mode(file: Path) -> None:
    if os.geteuid() == 0:
        os.chown(file, 65534, 65533)
    before = file.stat()
    assert hook_file.read(NAME, 3) == b"old"
    hook_file.replace(NAME, b"new content")
    assert file.read_bytes() == b"new content"
    after = file.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert list(file.parent.iterdir()) == [file]


def test_readers_never_see_half_a_file(file: Path) -> None:
    contents = {bytes([n]) * 300_000 for n in range(20)}
    file.write_bytes(bytes([0]) * 300_000)
    seen: set[bytes] = set()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            seen.add(file.read_bytes())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        for content in contents:
            hook_file.replace(NAME, content)
    finally:
        over.set()
        reader.join()
    assert seen <= contents


def test_a_write_that_fails_leaves_the_old_file_alone(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", fail)
    with pytest.raises(OSError, match="No space"):
        hook_file.replace(NAME, b"new")
    assert (file.read_bytes(), list(file.parent.iterdir())) == (b"old", [file])


def test_a_file_that_is_too_long_is_refused(file: Path) -> None:
    with pytest.raises(Refused, match="longer than 2 bytes"):
        hook_file.read(NAME, 2)


def test_a_link_is_not_followed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = file.parent / "link"
    link.symlink_to(file)
    monkeypatch.setenv(NAME, str(link))
    with pytest.raises(Refused):
        hook_file.read(NAME, 100)
    with pytest.raises(Refused):
        hook_file.replace(NAME, b"new")
    assert file.read_bytes() == b"old"


def test_a_pipe_is_not_waited_for(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = file.parent / "pipe"
    os.mkfifo(pipe)
    for name in (pipe, file.parent, Path("/dev/zero")):
        monkeypatch.setenv(NAME, str(name))
        with pytest.raises(Refused):
            hook_file.read(NAME, 100)
        with pytest.raises(Refused):
            hook_file.replace(NAME, b"new")
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.parametrize("name", ["", "relative", "/nowhere/at/all", "/x\n"])
def test_a_name_of_no_file_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, name)
    with pytest.raises(Refused, match=NAME):
        hook_file.read(NAME, 100)


def test_without_vdsm_there_is_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NAME, raising=False)
    with pytest.raises(Refused, match="only vdsm"):
        hook_file.read(NAME, 100)
