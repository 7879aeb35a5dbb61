"""Files and devices with faults: a file that is an NBD server's, a file system that is full.

The kernel shows an NBD export as a file by FUSE (nbdfuse(1)); a loop device makes any file a block
device (losetup(8)). All need root; without it the test is skipped, and in CI it fails.
"""

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.servers import LOOK, START_TIME, STOP_TIME, Server, tool


def need_root() -> None:
    if os.geteuid() == 0:
        return
    reason = "only root can mount"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def fuse_file(server: Server, folder: Path) -> Iterator[Path]:
    """A regular file whose reads, writes and fsyncs are those of the export of `server`."""
    need_root()
    path = folder / f"{server.socket.stem}.file"
    path.touch()
    argv = ["nbdfuse", str(path), "--unix", str(server.socket)]
    with path.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_mounted(process, path)
        yield path
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIME)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if os.path.ismount(path):
            tool(["umount", "--lazy", str(path)])


@contextmanager
def loop_device(file: Path, *options: str) -> Iterator[Path]:
    """A block device that is `file`."""
    need_root()
    device = tool(["losetup", "--find", "--show", *options, str(file)]).strip()
    try:
        yield Path(device)
    finally:
        tool(["losetup", "--detach", device])


@contextmanager
def small_file_system(folder: Path, size: int) -> Iterator[Path]:
    """The folder of an ext4 of `size` bytes on a loop device."""
    with file_system(folder, "ext4", size, "-O", "^has_journal", "-m", "0") as mounted:
        yield mounted


@contextmanager
def file_system(folder: Path, kind: str, size: int, *options: str) -> Iterator[Path]:
    """The folder of a new file system of `size` bytes on a loop device, made with mkfs.KIND."""
    image = folder / f"small.{kind}"
    with image.open("wb") as file:
        file.truncate(size)
    with mounted(image, kind, *options) as place:
        yield place


@contextmanager
def mounted(image: Path, kind: str, *options: str) -> Iterator[Path]:
    """Make a file system in a file or device and mount it."""
    need_root()
    mkfs = [f"mkfs.{kind}", "-q", *options, str(image)]
    if kind == "btrfs":
        # It asks every mount point of the host whether it is in use, and fails on one whose FUSE
        # server was killed, as other tests do: here it sees none.
        alone = 'umount --all --lazy --types fuse; exec "$@"'
        mkfs = ["unshare", "--mount", "sh", "-c", alone, "sh", *mkfs]
    tool(mkfs)
    place = image.parent / f"on-{image.name}"
    place.mkdir()
    tool(["mount", "-o", "loop", str(image), str(place)])
    try:
        yield place
    finally:
        tool(["umount", "--lazy", str(place)])


def _wait_mounted(process: "subprocess.Popen[bytes]", path: Path) -> None:
    deadline = time.monotonic() + START_TIME
    while not _mounted(path):
        assert process.poll() is None, path.with_suffix(".log").read_text()
        assert time.monotonic() < deadline, f"{path} was not mounted"
        time.sleep(LOOK)


def _mounted(path: Path) -> bool:
    with suppress(OSError):
        return os.stat(path).st_size > 0
    return False
