"""One end of a copy, looked at: what is there, and what is wrong with it, before it is touched."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from endpoints import disk
from endpoints.disk import Disk, NewFile, identity
from endpoints.url import IscsiUrl, NbdUnixUrl, PathUrl, Url, parse
from protocol.errors import (
    CannotConnect,
    Error,
    ImageMissing,
    ImageRefused,
    InputOutputError,
    ReadOnly,
    TooSmall,
    WrongFormat,
)
from protocol.messages import Format
from storage.image import Policy
from tests.servers import (
    MIB,
    flaky,
    garbage,
    nbdkit,
    pattern,
    qcow2_image,
    qemu_nbd,
    raw_image,
)

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdkit", "nbdinfo")
SIZE = 4 * MIB


async def look_at_source(url: Url | Path, format: Format | None = "raw", **policy: Any) -> Disk:
    return await disk.source(at(url), format, Policy(**policy))


async def look_at_target(
    url: Url | Path, format: Format = "raw", *, needed: int = SIZE, under: Path | str = ""
) -> Disk | NewFile:
    roots = (str(under),) if under else ()
    return await disk.target(at(url), format, needed=needed, create_under=roots)


def at(url: Url | Path) -> Url:
    return PathUrl(str(url)) if isinstance(url, Path) else url


def file_node(path: Path) -> dict[str, Any]:
    return {"driver": "raw", "file": {"driver": "file", "filename": str(path)}}


# --- sources ----------------------------------------------------------------------------------


async def test_a_raw_source(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    found = await look_at_source(image)
    assert (found.kind, found.format, found.size) == ("file", "raw", SIZE)
    assert found.node == file_node(image)
    assert found.files == {identity(image.stat())}


@pytest.mark.parametrize("format", ["qcow2", None])
async def test_a_source_is_made_of_its_whole_chain(tmp_path: Path, format: Format | None) -> None:
    base = qcow2_image(tmp_path / "base", SIZE)
    middle = qcow2_image(tmp_path / "middle", SIZE, backing=base)
    top = qcow2_image(tmp_path / "top", SIZE, backing=middle)
    (tmp_path / "link").symlink_to(top)
    found = await look_at_source(tmp_path / "link", format)
    assert (found.kind, found.format, found.size) == ("file", "qcow2", SIZE)
    assert found.files == {identity(path.stat()) for path in (base, middle, top)}
    assert found.node["backing"]["backing"]["backing"] is None


@pytest.mark.parametrize("export", ["", "vol"])
async def test_an_nbd_source(tmp_path: Path, export: str) -> None:
    image = qcow2_image(tmp_path / "a", SIZE)
    with qemu_nbd(image, tmp_path, export=export, read_only=True) as server:
        found = await look_at_source(parse(server.url), None)
    assert (found.kind, found.format) == ("nbd", "qcow2")
    assert found.size == SIZE
    assert found.files == frozenset()


async def test_a_source_that_another_process_writes_can_be_looked_at(tmp_path: Path) -> None:
    """The copy itself is refused then; to look harms nobody."""
    image = raw_image(tmp_path / "a", SIZE)
    with qemu_nbd(image, tmp_path):
        assert (await look_at_source(image)).size == SIZE


def bad(folder: Path, kind: str) -> Path:
    path = folder / kind
    match kind:
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        case "loop":
            path.symlink_to(path)
        case "dangling":
            path.symlink_to(folder / "nowhere")
        case "below a file":
            (folder / "file").touch()
            path = folder / "file" / "x"
    return path


SOURCES: list[tuple[str, type[Error]]] = [
    ("missing", ImageMissing),
    ("dangling", ImageMissing),
    ("directory", ImageRefused),
    ("fifo", ImageRefused),
    ("socket", ImageRefused),
]


@pytest.mark.parametrize(("kind", "error"), SOURCES)
@pytest.mark.parametrize("format", ["raw", "qcow2", None])
async def test_a_bad_source_is_refused_by_name(
    tmp_path: Path, kind: str, error: type[Error], format: Format | None
) -> None:
    path = bad(tmp_path, kind)
    with pytest.raises(error, match=kind):
        await look_at_source(path, format)


@pytest.mark.parametrize("kind", ["loop", "below a file"])
async def test_a_path_that_cannot_be_walked_is_an_error(tmp_path: Path, kind: str) -> None:
    path = bad(tmp_path, kind)
    with pytest.raises((ImageMissing, ImageRefused)):
        await look_at_source(path)
    with pytest.raises((ImageMissing, ImageRefused)):
        await look_at_target(path, under=tmp_path)


@pytest.mark.parametrize(("declared", "real"), [("raw", "qcow2"), ("qcow2", "raw")])
async def test_a_source_must_be_what_was_declared(
    tmp_path: Path, declared: Format, real: str
) -> None:
    make = qcow2_image if real == "qcow2" else raw_image
    with pytest.raises(WrongFormat):
        await look_at_source(make(tmp_path / "a", SIZE), declared)


async def test_a_source_above_the_largest_size_is_refused(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    with pytest.raises(ImageRefused):
        await look_at_source(image, max_virtual_size=SIZE - 512)
    assert (await look_at_source(image, max_virtual_size=SIZE)).size == SIZE


async def test_an_nbd_source_without_its_server_cannot_be_reached(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    with pytest.raises(ImageMissing):
        await look_at_source(NbdUnixUrl(str(tmp_path / "none"), ""))
    with qemu_nbd(image, tmp_path) as server:
        with pytest.raises(CannotConnect):
            await look_at_source(NbdUnixUrl(str(server.socket), "other"))
        server.kill()
        with pytest.raises(CannotConnect):
            await look_at_source(parse(server.url))
    with garbage(tmp_path) as server, pytest.raises(CannotConnect):
        await look_at_source(parse(server.url))


async def test_an_nbd_source_that_cannot_be_read_is_told_so(tmp_path: Path) -> None:
    with flaky(tmp_path, raw_image(tmp_path / "a", SIZE), on="read") as server:
        server.fail()
        with pytest.raises(InputOutputError):
            await look_at_source(parse(server.url))


# --- targets ----------------------------------------------------------------------------------


async def test_an_existing_file_is_a_target_as_it_is(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE, data=pattern(MIB))
    (tmp_path / "link").symlink_to(image)
    before = image.stat()
    found = await look_at_target(tmp_path / "link")
    assert isinstance(found, Disk)
    assert (found.kind, found.format, found.size) == ("file", "raw", SIZE)
    assert found.url == PathUrl(str(image))
    assert found.node == file_node(image)
    assert found.files == {identity(image.stat())}
    assert image.stat().st_mtime_ns == before.st_mtime_ns


async def test_a_qcow2_target_has_its_virtual_size(tmp_path: Path) -> None:
    image = qcow2_image(tmp_path / "a", SIZE)
    found = await look_at_target(image, "qcow2")
    assert isinstance(found, Disk)
    assert (found.format, found.size) == ("qcow2", SIZE)
    assert found.node["backing"] is None


async def test_what_is_written_through_a_qcow2_target_must_stay_in_it(tmp_path: Path) -> None:
    base = qcow2_image(tmp_path / "base", SIZE)
    with pytest.raises(ImageRefused):
        await look_at_target(qcow2_image(tmp_path / "top", SIZE, backing=base), "qcow2")


@pytest.mark.parametrize(
    ("kind", "error"),
    [("missing", ImageMissing), ("dangling", ImageMissing), *SOURCES[2:]],
)
@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_bad_target_is_refused_by_name(
    tmp_path: Path, kind: str, error: type[Error], format: Format
) -> None:
    path = bad(tmp_path, kind)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(error, match=kind):
        await look_at_target(path, format)
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_a_target_must_hold_the_source(tmp_path: Path, format: Format) -> None:
    make = qcow2_image if format == "qcow2" else raw_image
    image = make(tmp_path / "a", SIZE)
    await look_at_target(image, format, needed=SIZE)
    with pytest.raises(TooSmall) as caught:
        await look_at_target(image, format, needed=SIZE + 1)
    assert (caught.value.needed, caught.value.available) == (SIZE + 1, SIZE)


async def test_a_file_that_nobody_may_write_is_kept_even_from_root(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    image.chmod(0o444)
    with pytest.raises(ReadOnly):
        await look_at_target(image)
    image.chmod(0o644)
    await look_at_target(image)


async def test_a_file_that_is_another_image_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(WrongFormat):
        await look_at_target(qcow2_image(tmp_path / "a", 2 * SIZE), "raw", needed=0)
    with pytest.raises(WrongFormat):
        await look_at_target(raw_image(tmp_path / "b", SIZE), "qcow2", needed=0)


# --- files that may be created ----------------------------------------------------------------


async def test_a_missing_file_may_be_created_under_an_allowed_folder(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for path in (tmp_path / "new", tmp_path / "below" / "new"):
        found = await look_at_target(path, "qcow2", under=tmp_path)
        assert isinstance(found, NewFile)
        assert (found.url, found.kind, found.format) == (PathUrl(str(path)), "file", "qcow2")
        assert not path.exists()


@pytest.mark.parametrize("path", ["new", "allowed/../new", "allowed2/new", "link/new"])
async def test_a_missing_file_elsewhere_is_missing(tmp_path: Path, path: str) -> None:
    for name in ("allowed", "allowed2", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ImageMissing):
        await look_at_target(tmp_path / path, under=tmp_path / "allowed")


async def test_a_link_out_of_an_allowed_folder_is_followed_before_it_is_judged(
    tmp_path: Path,
) -> None:
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed" / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ImageMissing):
        await look_at_target(tmp_path / "allowed" / "link", under=tmp_path / "allowed")


async def test_the_folder_of_a_new_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing, match="none"):
        await look_at_target(tmp_path / "none" / "new", under=tmp_path)


@pytest.mark.parametrize("device", ["/dev/leasehold-missing", "/dev/mapper/leasehold-missing"])
@pytest.mark.parametrize("root", ["/", "/dev"])
async def test_a_missing_device_never_becomes_a_file(device: str, root: str) -> None:
    with pytest.raises(ImageMissing):
        await look_at_target(PathUrl(device), under=root)
    assert not Path(device).exists()


async def test_a_link_to_a_missing_device_never_becomes_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/leasehold-missing")
    with pytest.raises(ImageMissing):
        await look_at_target(tmp_path / "link", under="/")


# --- network volumes --------------------------------------------------------------------------


async def test_an_nbd_target(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    with qemu_nbd(image, tmp_path) as server:
        url = parse(server.url)
        found = await look_at_target(url)
        assert isinstance(found, Disk)
        assert (found.kind, found.format, found.size, found.url) == ("nbd", "raw", SIZE, url)
        with pytest.raises(TooSmall):
            await look_at_target(url, needed=SIZE + 1)
        with pytest.raises(ImageRefused, match="only raw"):
            await look_at_target(url, "qcow2")


async def test_a_read_only_export_cannot_be_written(tmp_path: Path) -> None:
    image = raw_image(tmp_path / "a", SIZE)
    with qemu_nbd(image, tmp_path, read_only=True) as server, pytest.raises(ReadOnly):
        await look_at_target(parse(server.url))


async def test_a_server_that_cannot_flush_is_refused(tmp_path: Path) -> None:
    methods = ["get_size=echo 4194304", "pread=exit 1", "pwrite=exit 1", "can_write=exit 0"]
    with (
        nbdkit(tmp_path, ["eval", *methods]) as server,
        pytest.raises(ImageRefused, match="cannot flush"),
    ):
        await look_at_target(parse(server.url))


async def test_a_missing_network_volume_is_never_created(tmp_path: Path) -> None:
    with pytest.raises(ImageMissing):
        await look_at_target(NbdUnixUrl(str(tmp_path / "none"), ""), under=tmp_path)
    assert not (tmp_path / "none").exists()
    image = raw_image(tmp_path / "a", SIZE)
    with qemu_nbd(image, tmp_path) as server, pytest.raises(CannotConnect):
        await look_at_target(NbdUnixUrl(str(server.socket), "other"), under=tmp_path)


async def test_an_iscsi_portal_that_does_not_listen_cannot_be_reached() -> None:
    with socket.socket() as taken:  # bound, but not listening: nobody else gets the port
        taken.bind(("127.0.0.1", 0))
        url = IscsiUrl("127.0.0.1", taken.getsockname()[1], "iqn.2003-01.org.example:t", 1)
        with pytest.raises(CannotConnect):
            await look_at_target(url)


# --- O_DIRECT ---------------------------------------------------------------------------------


async def test_the_page_cache_is_passed_where_the_file_system_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old tmpfs says EINVAL; a new one takes the flag, so the answer is made here."""
    image = raw_image(tmp_path / "a", SIZE)
    answers = [(await look_at_source(image)).direct, (await look_at_target(image)).direct]
    assert answers[0] == answers[1]
    real = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(22, "Invalid argument")
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert not (await look_at_source(image)).direct
    assert not (await look_at_target(image)).direct
    assert not (await look_at_target(tmp_path / "new", under=tmp_path)).direct


async def test_looking_at_a_folder_for_a_new_file_leaves_nothing_in_it(tmp_path: Path) -> None:
    await look_at_target(tmp_path / "new", under=tmp_path)
    assert os.listdir(tmp_path) == []
