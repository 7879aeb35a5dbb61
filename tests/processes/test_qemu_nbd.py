"""qemu-nbd as a server of its own: it outlives who started it, and is found again and ended."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree

import pytest

from processes import nbd, qemu_nbd
from processes.nbd_url import unix_uri
from protocol.errors import ToolFailed
from tests.servers import MIB, ended, raw_image, until

pytestmark = pytest.mark.tools("qemu-nbd", "nbdinfo")
SERVE = """
import sys
from processes import qemu_nbd
qemu_nbd.serve({"driver": "file", "filename": sys.argv[2]}, sys.argv[1], "vol")
"""


@pytest.fixture
def socket() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="lh-", dir="/tmp")
    path = f"{folder}/vol"
    yield path
    for pid in qemu_nbd.servers(path):
        os.kill(pid, signal.SIGKILL)
    rmtree(folder)


async def test_a_server_outlives_who_started_it(socket: str, tmp_path: Path) -> None:
    disk = raw_image(tmp_path / "disk", MIB)
    subprocess.run([sys.executable, "-c", SERVE, socket, disk], check=True)
    [pid] = qemu_nbd.servers(socket)
    assert (await nbd.info(unix_uri(socket, "vol"))).export_size == MIB
    assert Path(f"{socket}.pid").read_text().strip() == str(pid)
    qemu_nbd.end(socket)
    assert ended(pid, 0)
    assert list(Path(socket).parent.iterdir()) == []


async def test_nothing_is_ended_that_is_not_a_server_of_the_socket(
    socket: str, tmp_path: Path
) -> None:
    disk = raw_image(tmp_path / "disk", MIB)
    subprocess.run([sys.executable, "-c", SERVE, f"{socket}2", disk], check=True)
    with subprocess.Popen(["tail", "-f", "/dev/null", "-s", "1", socket]) as other:
        await until(lambda: Path(f"/proc/{other.pid}/comm").read_text() == "tail\n")
        qemu_nbd.end(socket)
        assert other.poll() is None
        other.kill()
    assert len(qemu_nbd.servers(f"{socket}2")) == 1
    qemu_nbd.end(f"{socket}2")


async def test_the_socket_of_a_server_that_was_killed_is_used_again(
    socket: str, tmp_path: Path
) -> None:
    disk = raw_image(tmp_path / "disk", MIB)
    node = {"driver": "file", "filename": str(disk)}
    qemu_nbd.serve(node, socket, "vol")
    [first] = qemu_nbd.servers(socket)
    os.kill(first, signal.SIGKILL)
    await until(lambda: qemu_nbd.servers(socket) == [])
    qemu_nbd.serve(node, socket, "vol")
    assert (await nbd.info(unix_uri(socket, "vol"))).export_size == MIB
    qemu_nbd.end(socket)


async def test_a_server_that_is_stopped_is_ended_too(
    socket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu_nbd, "TERM_WAIT", 0.1)
    disk = raw_image(tmp_path / "disk", MIB)
    qemu_nbd.serve({"driver": "file", "filename": str(disk)}, socket, "vol")
    [pid] = qemu_nbd.servers(socket)
    os.kill(pid, signal.SIGSTOP)
    qemu_nbd.end(socket)
    assert ended(pid, 0)


async def test_an_image_that_cannot_be_opened_is_an_error(socket: str, tmp_path: Path) -> None:
    node = {"driver": "file", "filename": str(tmp_path / "missing")}
    with pytest.raises(ToolFailed, match="No such file"):
        qemu_nbd.serve(node, socket, "vol")
    assert qemu_nbd.servers(socket) == []
