"""Hostile images through the whole command: refused by name, and what they ask for is never opened.

That the rules are right is tested in tests/storage; here it is that no road leads around them.
"""

import ctypes
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from jobs.job import Job
from processes import qemu_img
from protocol.errors import ImageRefused
from protocol.messages import Format
from storage.chain import file_node
from tests import servers
from tests.cli.run import Ended
from tests.faults.command import Command, command
from tests.faults.copies import Copies
from tests.faults.test_bad_input import check, refused, tree
from tests.servers import MIB, pattern, qcow2_image, raw_image, tool
from tests.storage.headers import Crafted, over, with_data_file

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdinfo", "setpriv")
PASSWD = "/etc/passwd"
TIB = 1 << 40
REFUSED = (4102, "ImageRefused")
WRONG = (4103, "WrongFormat")


@dataclass(frozen=True)
class Place:
    """Images in a folder, and a secret outside of it that no copy may open."""

    folder: Path
    secret: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
async def leasehold(tmp_path: Path) -> Any:
    with command(tmp_path) as made:
        await made.prepared()
        yield made


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The secret is watched: no process opens it while the test runs."""
    folder, secret = tmp_path / "images", tmp_path / "secrets" / "key"
    folder.mkdir()
    secret.parent.mkdir()
    secret.write_bytes(b"the secret of this host\n" * 4096)
    raw_image(folder / "target", 2 * MIB, data=pattern(MIB, 7))
    with unopened(secret):
        yield Place(folder, secret)


@contextmanager
def unopened(path: Path) -> Iterator[None]:
    """Fail when any process opened the file during the body. Source: inotify(7)."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    try:
        assert libc.inotify_add_watch(fd, os.fsencode(path), IN_OPEN) > 0
        yield
        with pytest.raises(BlockingIOError):
            os.read(fd, 4096)
    finally:
        os.close(fd)


IN_OPEN = 0x20


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


# --- hostile sources --------------------------------------------------------------------------


def loop(place: Place) -> Path:
    over("b", "qcow2").write(place / "a")
    over("c", "qcow2").write(place / "b")
    return over("a", "qcow2").write(place / "c")


def by_link(place: Place) -> Path:
    (place / "base").symlink_to(place.secret)
    return over("base").write(place / "x")


def by_folder_link(place: Place) -> Path:
    (place / "bases").symlink_to(place.secret.parent)
    return over("bases/key").write(place / "x")


def second_link(place: Place) -> Path:
    over(str(place.secret)).write(place / "base")
    return over("base", "qcow2").write(place / "x")


def data_file_below(place: Place) -> Path:
    with_data_file(str(place.secret)).write(place / "base")
    return over("base", "qcow2").write(place / "x")


def without_format(place: Place) -> Path:
    raw_image(place / "base", MIB)
    return over("base", None).write(place / "x")


def guest_wrote_a_header(place: Place) -> Path:
    """A raw base into which its guest wrote a qcow2 header."""
    over(str(place.secret)).write(place / "base")
    return over("base", "raw").write(place / "x")


def vmdk(place: Place) -> Path:
    text = f"""# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="monolithicFlat"
RW 128 FLAT "{place.secret}" 0
"""
    return write(place / "x", text.encode().ljust(MIB, b"\n"))


def json_backing(place: Place) -> Path:
    return over(f"json:{json.dumps(file_node(str(place.secret)))}").write(place / "x")


SOURCES: dict[str, Callable[[Place], Path]] = {
    "backing file": lambda place: over(str(place.secret)).write(place / "x"),
    "backing file of the host": lambda place: over(PASSWD).write(place / "x"),
    "backing file, relative": lambda place: over("../secrets/key").write(place / "x"),
    "backing file, by a link": by_link,
    "backing file, by a link to its folder": by_folder_link,
    "backing file of the backing file": second_link,
    "backing file without format": without_format,
    "backing file is json:": json_backing,
    "backing file is nbd:": lambda place: over("nbd:unix:/no/socket").write(place / "x"),
    "backing file is nbd+unix:": lambda place: over("nbd+unix:///?socket=/no").write(place / "x"),
    "backing file is http:": lambda place: over("http://127.0.0.1:1/x").write(place / "x"),
    "backing file is file:": lambda place: over(f"file:{place.secret}").write(place / "x"),
    "backing file is a device": lambda place: over("/dev/zero").write(place / "x"),
    "backing file has a third format": lambda place: over("x2", "vmdk").write(place / "x"),
    "backing file missing": lambda place: over("gone").write(place / "x"),
    "data file": lambda place: with_data_file(str(place.secret)).write(place / "x"),
    "data file of the host": lambda place: with_data_file(PASSWD).write(place / "x"),
    "data file without name": lambda place: with_data_file(None).write(place / "x"),
    "data file of the backing file": data_file_below,
    "chain is a loop": loop,
    "its own backing file": lambda place: over("x", "qcow2").write(place / "x"),
    "header truncated": lambda place: write(place / "x", Crafted().build()[:60]),
    "header of four bytes": lambda place: write(place / "x", Crafted().build()[:4]),
    "tables truncated": lambda place: write(place / "x", Crafted().build()[: 1 << 16]),
    "virtual size too large": lambda place: Crafted(
        size=64 * TIB + 512, cluster_bits=21, l1_size=1 << 16
    ).write(place / "x"),
    "encrypted": lambda place: Crafted(crypt_method=2).write(place / "x"),
    "vmdk": vmdk,
}


@pytest.mark.sample(18)
@pytest.mark.parametrize(
    ("target", "options"),
    [("new", ()), ("target", ("--source-format", "qcow2"))],
    ids=["found", "declared"],
)
@pytest.mark.parametrize("case", SOURCES)
async def test_hostile_source_is_refused_and_the_target_untouched(
    case: str, target: str, options: tuple[str, ...], leasehold: Command, place: Place
) -> None:
    source = SOURCES[case](place)
    end = await refused(leasehold, place.folder, source, place / target, *options)
    assert end.code == 2, end
    assert (end.error["code"], end.error["kind"]) in {REFUSED, WRONG}, end


async def test_raw_base_that_became_an_image_is_not_looked_into(
    leasehold: Command, place: Place
) -> None:
    source = guest_wrote_a_header(place)
    end = await refused(leasehold, place.folder, source, place / "target")
    check(end, 2, *WRONG, "is qcow2, not raw")


@pytest.mark.parametrize(
    ("declared", "kind", "found"),
    [("raw", "qcow2", "is qcow2, not raw"), ("qcow2", "raw", "is raw, not qcow2")],
)
async def test_source_is_not_what_was_declared(
    declared: str, kind: str, found: str, leasehold: Command, place: Place
) -> None:
    source = place / "x"
    if kind == "qcow2":
        over(str(place.secret)).write(source)
    else:
        raw_image(source, MIB, data=pattern(1000))
    words = (source, place / "target", "--source-format", declared)
    check(await refused(leasehold, place.folder, *words), 2, *WRONG, found)


@pytest.mark.parametrize("case", ["backing file", "data file", "backing file is json:"])
async def test_hostile_source_on_the_network(
    case: str, leasehold: Command, place: Place, tmp_path: Path
) -> None:
    image = SOURCES[case](place)
    with servers.qemu_nbd(image, tmp_path) as server:
        end = await refused(leasehold, place.folder, server.url, place / "target")
    check(end, 2, *REFUSED, server.url)


# --- chains that are allowed --------------------------------------------------------------------


async def test_chain_in_an_allowed_folder_is_copied(leasehold: Command, tmp_path: Path) -> None:
    images, bases = tmp_path / "images", tmp_path / "bases" / "deep"
    images.mkdir()
    bases.mkdir(parents=True)
    base = qcow2_image(bases / "base", MIB, data=pattern(1000))
    top = qcow2_image(images / "x", MIB, data=pattern(1000, 2), offset=MIB // 2, backing=base)
    end = await refused(leasehold, images, top, images / "new")
    check(end, 2, *REFUSED, "is not in the image's folder")
    allowed = ("--allow", tmp_path / "bases")
    end = await leasehold("copy", top, images / "new", *allowed, "--json")
    assert end.code == 0, end
    copied = (images / "new").read_bytes()
    assert copied[:1000] == pattern(1000)
    assert copied[MIB // 2 :][:1000] == pattern(1000, 2)


async def test_data_file_in_an_allowed_folder_is_copied(leasehold: Command, tmp_path: Path) -> None:
    data, image = tmp_path / "data" / "raw", tmp_path / "images" / "x"
    data.parent.mkdir()
    image.parent.mkdir()
    options = f"data_file={data},data_file_raw=on"
    tool(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, str(image), str(MIB)])
    tool(["qemu-io", "-f", "qcow2", "-c", "write -q -P 7 0 64k", str(image)])
    target = image.parent / "new"
    end = await refused(leasehold, image.parent, image, target)
    check(end, 2, *REFUSED, "is not in an allowed folder")
    end = await leasehold("copy", image, target, "--allow", data.parent, "--json")
    assert end.code == 0, end
    assert target.read_bytes() == b"\7" * 65536 + bytes(MIB - 65536)


# --- hostile targets ----------------------------------------------------------------------------


TARGETS: dict[str, Callable[[Place], Path]] = {
    "backing file": lambda place: over(str(place.secret)).write(place / "t"),
    "backing file beside it": lambda place: over("source").write(place / "t"),
    "data file": lambda place: with_data_file(str(place.secret)).write(place / "t"),
    "data file and backing file": lambda place: over("base", incompatible=1 << 2).write(
        place / "t"
    ),
    "encrypted": lambda place: Crafted(crypt_method=1).write(place / "t"),
    "truncated": lambda place: write(place / "t", Crafted().build()[:100]),
}


@pytest.mark.parametrize("case", TARGETS)
async def test_hostile_target_is_refused(case: str, leasehold: Command, place: Place) -> None:
    """What is written through a target must stay in it."""
    raw_image(place / "source", MIB, data=pattern(1000))
    target = TARGETS[case](place)
    words = (place / "source", target, "--format", "qcow2")
    check(await refused(leasehold, place.folder, *words), 2, *REFUSED, str(target))


# --- images that change behind our back ---------------------------------------------------------


# Between the checks of the command and those of its job.
SWAP = """
import os, cli.foreground
copy = cli.foreground.copy
async def swapped(*arguments, **options):
    os.replace(os.environ["HOSTILE"], os.environ["IMAGE"])
    return await copy(*arguments, **options)
cli.foreground.copy = swapped
"""


@pytest.mark.parametrize("case", ["backing file", "data file", "header truncated"])
async def test_source_that_is_swapped_before_the_job_fails_it(
    case: str, leasehold: Command, place: Place
) -> None:
    """Then there is a job: it fails, and its lease says so."""
    hostile = SOURCES[case](place)
    image = qcow2_image(place / "image", MIB, data=pattern(1000))
    before = target_of(place)
    end = await leasehold(
        *("copy", image, place / "target", "--source-format", "qcow2", "--json"),
        before=SWAP,
        environment={"HOSTILE": str(hostile), "IMAGE": str(image)},
    )
    failed(end)
    assert await leasehold.record(end.error["data"]["job_id"]) == ("FAILED", 0)
    assert target_of(place) == before
    await leasehold.nothing_left()


async def test_target_that_is_swapped_before_the_job_fails_it(
    leasehold: Command, place: Place
) -> None:
    source = raw_image(place / "source", MIB, data=pattern(1000))
    hostile = with_data_file(str(place.secret)).write(place / "x")
    target = qcow2_image(place / "t", MIB)
    end = await leasehold(
        *("copy", source, target, "--format", "qcow2", "--json"),
        before=SWAP,
        environment={"HOSTILE": str(hostile), "IMAGE": str(target)},
    )
    failed(end)
    assert target.read_bytes() == with_data_file(str(place.secret)).build()


def failed(end: Ended) -> None:
    assert (end.code, end.error["kind"]) == (1, "ImageRefused"), end
    assert end.error["data"]["lease"]["metadata"]["job_status"] == "FAILED"


def target_of(place: Place) -> object:
    return tree(place.folder)[str(place / "target")]


@pytest.mark.parametrize("declared", [None, "qcow2"])
async def test_job_without_any_check_before_it_refuses_too(
    declared: Format | None, copies: Copies, place: Place
) -> None:
    """An agent may be asked for a copy by somebody who has looked at nothing."""
    source = over(str(place.secret)).write(place / "x")
    before = target_of(place)
    job: Job = await copies.copied(source, place / "target", source_format=declared)
    await copies.assert_failed(job, ImageRefused)
    assert target_of(place) == before


async def test_backing_file_that_appears_after_the_check_is_not_followed(
    copies: Copies, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """qemu-img is told the whole chain: no name in an image means anything to it."""
    source = qcow2_image(place / "image", MIB, data=pattern(1000))
    hostile = over(str(place.secret)).write(place / "x")
    convert = qemu_img.convert

    async def swapped(*arguments: Any, **options: Any) -> None:
        os.replace(hostile, source)
        await convert(*arguments, **options)

    monkeypatch.setattr(qemu_img, "convert", swapped)
    await copies.copied(source, place / "new", source_format="qcow2")
    assert not (place / "new").exists() or not any((place / "new").read_bytes())
