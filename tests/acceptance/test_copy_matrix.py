"""Every kind of source to every kind of target, by the real command, compared byte by byte."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from tests.cli.run import Cli
from tests.faults.disks import loop_device
from tests.servers import (
    LOOK,
    MIB,
    START_TIME,
    pattern,
    qcow2_image,
    qemu_nbd,
    raw_image,
    tool,
    users,
)

SIZE = 64 * MIB
PIECE = pattern(MIB)
PLACES = (0, 20 * MIB, 21 * MIB, SIZE - MIB)  # where the source has its pieces of data
DATA = len(PLACES) * len(PIECE)
SLACK = 2 * MIB  # tables of qcow2, and what a file system rounds up
SOURCES = ["raw", "qcow2", "qcow2 chain", "block device"]
TARGETS = [
    "new raw",
    "existing raw",
    "larger raw",
    "new qcow2",
    "existing qcow2",
    "nbd+unix",
    "nbd on tcp",
]
RESULT = {"id", "status", "description", "job_type", "progress", "bytes", "total_bytes"}
RESULT |= {"created", "started", "ended", "virtual_size", "seconds", "rate", "verified"}
RESULT |= {"path_taken", "job_id", "sd_id", "lease_id"}

Format = Literal["raw", "qcow2"]

pytestmark = pytest.mark.tools("qemu-img", "qemu-io", "qemu-nbd", "nbdcopy")


@dataclass(frozen=True)
class Disk:
    """What the command is given, and the image file that its content is in."""

    url: str
    image: Path
    format: Format = "raw"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


@pytest.mark.sample(12)
@pytest.mark.parametrize("target_kind", TARGETS)
@pytest.mark.parametrize("source_kind", SOURCES)
def test_copy(cli: Cli, tmp_path: Path, source_kind: str, target_kind: str) -> None:
    with source_of(source_kind, tmp_path) as source, target_of(target_kind, tmp_path) as target:
        known = set(users(tmp_path))
        done = cli("copy", source.url, target.url, "--format", target.format, "--json")
        assert done.code == 0, done
        assert set(users(tmp_path)) <= known
    result = done.json
    assert set(result) == RESULT
    assert (result["status"], result["progress"], result["verified"]) == ("done", 100, False)
    assert result["id"] == result["job_id"] == result["lease_id"]
    assert result["virtual_size"] == SIZE
    # A block device does not tell of its holes.
    total = SIZE if source_kind == "block device" else DATA
    assert result["bytes"] == result["total_bytes"] == total
    assert result["rate"] > 0
    kinds = f"{source.format} {'block' if source_kind == 'block device' else 'file'} to "
    assert kinds in result["path_taken"]
    assert_equal(source, target)
    # Thin stays thin, where there were holes and where there was something else.
    assert allocated(target.image) <= DATA + SLACK


def assert_equal(one: Disk, other: Disk) -> None:
    """Both hold the same; where one is longer it holds zeros."""
    formats = ["-f", one.format, "-F", other.format]
    tool(["qemu-img", "compare", *formats, str(one.image), str(other.image)])


def allocated(image: Path) -> int:
    """Bytes that a file takes on its disk."""
    with image.open("rb") as file:
        os.fsync(file.fileno())  # some file systems decide late
        return os.fstat(file.fileno()).st_blocks * 512


# --- sources ----------------------------------------------------------------------------------


@contextmanager
def source_of(kind: str, folder: Path) -> Iterator[Disk]:
    if kind == "qcow2":
        image = qcow2_image(folder / "source.qcow2", SIZE)
        for place in PLACES:
            write(image, place)
        yield Disk(str(image), image, "qcow2")
    elif kind == "qcow2 chain":
        image = chain(folder)
        yield Disk(str(image), image, "qcow2")
    else:
        image = raw_image(folder / "source.raw", SIZE)
        with image.open("r+b") as file:
            for place in PLACES:
                file.seek(place)
                file.write(PIECE)
        if kind == "raw":
            yield Disk(str(image), image)
            return
        with loop_device(image, "--read-only") as device:
            yield Disk(str(device), image)


def chain(folder: Path) -> Path:
    """Three images, each over the one before; every one holds a part of the data."""
    backing: Path | None = None
    for number, places in enumerate([PLACES[:1], PLACES[1:3], PLACES[3:]]):
        image = qcow2_image(folder / f"link{number}.qcow2", SIZE, backing=backing)
        for place in places:
            write(image, place)
        backing = image
    assert backing is not None
    return backing


def write(image: Path, place: int) -> None:
    """Write the piece into a qcow2 image."""
    draft = image.with_name("piece")
    draft.write_bytes(PIECE)
    command = f"write -q -s {draft} {place} {len(PIECE)}"
    tool(["qemu-io", "-f", "qcow2", "-c", command, str(image)])


# --- targets ----------------------------------------------------------------------------------


@contextmanager
def target_of(kind: str, folder: Path) -> Iterator[Disk]:
    """A target; one that exists has other data, where the source has data and where it has none."""
    raw, qcow2 = folder / "target.raw", folder / "target.qcow2"
    if kind.startswith("new"):
        format: Format = "raw" if kind == "new raw" else "qcow2"
        image = raw if format == "raw" else qcow2
        yield Disk(str(image), image, format)
        return
    old = b"\xee" * (3 * MIB)
    if kind == "existing qcow2":
        image = qcow2_image(qcow2, SIZE, data=old, offset=19 * MIB)
        yield Disk(str(image), image, "qcow2")
        return
    raw_image(raw, SIZE + MIB if kind == "larger raw" else SIZE, data=old, offset=19 * MIB)
    with ExitStack() as stack:
        url = str(raw)
        if kind == "nbd+unix":
            url = stack.enter_context(qemu_nbd(raw, folder)).url
        elif kind == "nbd on tcp":
            url = stack.enter_context(qemu_nbd_on_tcp(raw, folder))
        yield Disk(url, raw)


@contextmanager
def qemu_nbd_on_tcp(image: Path, folder: Path) -> Iterator[str]:
    """The url of an export on a loopback port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = ["qemu-nbd", "-t", "--shared=0", "-b", "127.0.0.1", "-p", str(port), "-f", "raw"]
    log = folder / "qemu-nbd.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv, "--discard=unmap", "-x", "vol", image],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_TIME
        while not accepts(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "qemu-nbd does not listen"
            time.sleep(LOOK)
        yield f"nbd://127.0.0.1:{port}/vol"
    finally:
        process.terminate()
        process.wait()


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
