"""Copies to and from an iSCSI logical unit, served by a real tgtd on a loopback port."""

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.run import Cli
from tests.conftest import SEARCH_PATH
from tests.servers import LOOK, MIB, START_TIME, pattern, qcow2_image, raw_image, tool, users

SIZE = 32 * MIB
TARGET = "iqn.2026-01.org.example:disk"
LUN = 1  # 0 is the controller

pytestmark = pytest.mark.tools("tgtd", "tgtadm", "qemu-img", "qemu-nbd", "nbdcopy")


@dataclass(frozen=True)
class Tgt:
    """A target with one logical unit, whose content is in the file `disk`. Source: tgtd(8)."""

    port: int
    disk: Path

    def url(self, lun: int = LUN, target: str = TARGET) -> str:
        return f"iscsi://127.0.0.1:{self.port}/{target}/{lun}"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


@pytest.fixture
def tgt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tgt]:
    # Its control socket, for tgtd and tgtadm: many can run side by side.
    monkeypatch.setenv("TGT_IPC_SOCKET", str(tmp_path / "tgtd"))
    disk = raw_image(tmp_path / "lun.raw", SIZE)
    monkeypatch.setenv("PATH", SEARCH_PATH)
    port = free_port()
    log = tmp_path / "tgtd.log"
    with log.open("wb") as output:
        argv = ["tgtd", "-f", "--iscsi", f"portal=127.0.0.1:{port}"]
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        wait_listening(process, port, log)
        admin = ["tgtadm", "--lld", "iscsi", "--op"]
        tool([*admin, "new", "--mode", "target", "--tid", "1", "-T", TARGET])
        unit = ["--mode", "logicalunit", "--tid", "1", "--lun", str(LUN)]
        tool([*admin, "new", *unit, "-b", str(disk)])
        tool([*admin, "bind", "--mode", "target", "--tid", "1", "-I", "127.0.0.1"])
        yield Tgt(port, disk)
    finally:
        process.kill()  # it ends at SIGTERM only when no target is left
        process.wait()


def test_a_qcow2_image_is_copied_to_a_logical_unit(cli: Cli, tgt: Tgt, tmp_path: Path) -> None:
    image = qcow2_image(tmp_path / "disk.qcow2", SIZE, data=pattern(5 * MIB), offset=3 * MIB)
    tgt.disk.write_bytes(b"\xee" * SIZE)  # what was there must not shine through the holes
    done = cli("copy", image, tgt.url(), "--json")
    assert done.code == 0, done
    assert (done.json["status"], done.json["virtual_size"]) == ("done", SIZE)
    assert "through qemu-nbd" in done.json["path_taken"]
    tool(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(image), str(tgt.disk)])
    assert copy_tools(tmp_path) == []


def test_a_logical_unit_is_copied_to_a_file(cli: Cli, tgt: Tgt, tmp_path: Path) -> None:
    raw_image(tgt.disk, SIZE, data=pattern(5 * MIB), offset=3 * MIB)
    done = cli("copy", tgt.url(), tmp_path / "copy.raw", "--json")
    assert done.code == 0, done
    assert (tmp_path / "copy.raw").read_bytes() == tgt.disk.read_bytes()
    assert copy_tools(tmp_path) == []


@pytest.mark.parametrize("missing", ["logical unit", "target", "server"])
def test_what_is_not_there_cannot_be_connected_to(
    cli: Cli, tgt: Tgt, tmp_path: Path, missing: str
) -> None:
    image = raw_image(tmp_path / "disk.raw", MIB)
    url = {
        "logical unit": tgt.url(lun=7),
        "target": tgt.url(target="iqn.2026-01.org.example:another"),
        "server": f"iscsi://127.0.0.1:{free_port()}/{TARGET}/{LUN}",
    }[missing]
    for ends in ([image, url], [url, tmp_path / "copy.raw"]):
        refused = cli("copy", *ends, "--json")
        assert (refused.code, refused.error["kind"]) == (5, "CannotConnect")
    assert not (tmp_path / "copy.raw").exists()
    assert copy_tools(tmp_path) == []


def test_a_logical_unit_that_is_too_small_is_refused(cli: Cli, tgt: Tgt, tmp_path: Path) -> None:
    image = raw_image(tmp_path / "disk.raw", SIZE + MIB)
    refused = cli("copy", image, tgt.url(), "--json")
    assert (refused.code, refused.error["kind"]) == (2, "TooSmall")


def copy_tools(folder: Path) -> list[str]:
    """The processes, but the server, that hold or name a file of this test."""
    names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in users(folder)]
    return [name for name in names if name != "tgtd"]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def wait_listening(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIME
    while not accepts(port):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "tgtd does not listen"
        time.sleep(LOOK)


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
