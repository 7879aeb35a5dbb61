"""A new target file: whole or not at all, never over another, gone when its copy failed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from endpoints import new_file
from endpoints.disk import Disk, NewFile, identity
from endpoints.new_file import created
from endpoints.url import PathUrl
from processes import qemu_img
from protocol.errors import ImageRefused
from protocol.messages import Format
from tests.servers import MIB, pattern

pytestmark = pytest.mark.tools("qemu-img")
SIZE = 4 * MIB
FORMATS: list[Format] = ["raw", "qcow2"]


def new(path: Path, format: Format = "raw") -> NewFile:
    return NewFile(PathUrl(str(path)), format)


class Boom(Exception):
    pass


async def failing(target: NewFile, act: Callable[[], object] = lambda: None) -> None:
    async with created(target, SIZE):
        act()
        raise Boom


@pytest.mark.parametrize("format", FORMATS)
async def test_the_file_is_there_for_the_body_and_stays(tmp_path: Path, format: Format) -> None:
    path = tmp_path / "new"
    async with created(new(path, format), SIZE) as disk:
        assert isinstance(disk, Disk)
        assert (disk.kind, disk.format, disk.size) == ("file", format, SIZE)
        assert disk.files == {identity(path.stat())}
        info = await qemu_img.info(disk.node)
        assert (info.format, info.virtual_size) == (format, SIZE)
        assert os.listdir(tmp_path) == ["new"]
    assert os.listdir(tmp_path) == ["new"]
    assert (await qemu_img.info(disk.node)).virtual_size == SIZE


async def test_a_raw_file_reads_as_zeros_and_takes_no_space(tmp_path: Path) -> None:
    async with created(new(tmp_path / "new"), SIZE):
        pass
    assert (tmp_path / "new").read_bytes() == bytes(SIZE)
    assert (tmp_path / "new").stat().st_blocks == 0


@pytest.mark.parametrize("format", FORMATS)
async def test_the_rights_are_those_of_any_new_file(tmp_path: Path, format: Format) -> None:
    before = os.umask(0o027)
    try:
        async with created(new(tmp_path / "new", format), SIZE):
            pass
        assert (tmp_path / "new").stat().st_mode & 0o137 == 0
    finally:
        os.umask(before)


@pytest.mark.parametrize("format", FORMATS)
async def test_a_copy_that_fails_leaves_nothing(tmp_path: Path, format: Format) -> None:
    with pytest.raises(Boom):
        await failing(new(tmp_path / "new", format))
    assert os.listdir(tmp_path) == []


async def test_a_copy_that_is_aborted_leaves_nothing(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with created(new(tmp_path / "new"), SIZE):
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
async def test_an_abort_while_it_is_made_leaves_nothing(tmp_path: Path, format: Format) -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        async with created(new(tmp_path / "new", format), SIZE):
            pytest.fail("it was aborted before")
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
async def test_a_file_that_appeared_meanwhile_is_never_replaced(
    tmp_path: Path, format: Format
) -> None:
    path = tmp_path / "new"
    path.write_bytes(b"precious")
    with pytest.raises(ImageRefused, match="it appeared"):
        await failing(new(path, format))
    assert path.read_bytes() == b"precious"
    assert os.listdir(tmp_path) == ["new"]


async def test_a_dangling_link_that_appeared_meanwhile_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ImageRefused):
        await failing(new(tmp_path / "new"))
    assert os.listdir(tmp_path) == ["new"]


@pytest.mark.parametrize("moved", [True, False])
async def test_only_the_file_that_we_made_is_removed(tmp_path: Path, moved: bool) -> None:
    """Somebody has put another one in its place while the copy ran."""
    path = tmp_path / "new"

    def replace() -> None:
        if moved:
            path.rename(tmp_path / "ours")
        other = tmp_path / "other"
        other.write_bytes(b"precious")
        other.rename(path)

    with pytest.raises(Boom):
        await failing(new(path), replace)
    assert path.read_bytes() == b"precious"


async def test_a_file_that_is_gone_when_the_copy_fails_is_no_second_error(tmp_path: Path) -> None:
    with pytest.raises(Boom):
        await failing(new(tmp_path / "new"), (tmp_path / "new").unlink)


async def test_its_name_is_on_disk_before_the_copy_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the calls can be seen: no test can cut the power."""
    synced: list[str] = []
    fsync = os.fsync

    def spy(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", spy)
    async with created(new(tmp_path / "new"), SIZE):
        assert synced == []
    assert synced == [str(tmp_path)]


async def test_a_folder_that_cannot_be_synced_fails_the_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(new_file, "_sync_folder", fail)
    with pytest.raises(OSError, match="Input/output error"):
        async with created(new(tmp_path / "new"), SIZE):
            pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["x" * 255, "ä" * 127, "🙂" * 63, "a b", "-x", "a\n'\"", "%s{}"])
@pytest.mark.parametrize("format", FORMATS)
async def test_any_name_that_a_file_can_have_is_taken(
    tmp_path: Path, name: str, format: Format
) -> None:
    async with created(new(tmp_path / name, format), SIZE) as disk:
        if format == "raw":
            (tmp_path / name).write_bytes(pattern(SIZE))
        assert (await qemu_img.info(disk.node)).virtual_size == SIZE
    assert os.listdir(tmp_path) == [name]


async def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImageRefused, match="cannot be created: No such file"):
        await failing(new(tmp_path / "gone" / "new"))
