"""A real iSCSI target for tests: tgtd on a loopback port, with masks and CHAP as they are wanted.

Source: tgtd(8), tgtadm(8).
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import SEARCH_PATH
from tests.servers import LOOK, START_TIME, raw_image

TARGET = "iqn.2026-01.org.example:volumes"
LUN = 1  # 0 is the controller


@dataclass(frozen=True)
class Tgt:
    """One target with one unit, whose content is in the file `disk`."""

    process: "subprocess.Popen[bytes]"
    port: int
    disk: Path
    control: str

    @property
    def portal(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"iscsi://{self.portal}/{TARGET}/{LUN}"

    def connection(self, user: str = "", password: str | None = None) -> dict[str, Any]:
        """What an adapter tells of it, as cinder's drivers do."""
        data: dict[str, Any] = {
            "target_portal": self.portal,
            "target_iqn": TARGET,
            "target_lun": LUN,
            "target_discovered": False,
        }
        if password is not None:
            data |= {"auth_method": "CHAP", "auth_username": user, "auth_password": password}
        return {"driver_volume_type": "iscsi", "data": data}

    def admin(self, *words: str) -> str:
        environment = {**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": self.control}
        done = subprocess.run(
            ["tgtadm", "--lld", "iscsi", *words],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=environment,
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def let_in(self, initiator: str) -> None:
        """The initiator of this name, and nobody else who was not let in."""
        self.admin("--op", "bind", "--mode", "target", "--tid", "1", "-Q", initiator)

    def keep_out(self, initiator: str) -> None:
        """It may not log in any more; a session that it has goes on."""
        self.admin("--op", "unbind", "--mode", "target", "--tid", "1", "-Q", initiator)

    def ask_for(self, user: str, password: str) -> None:
        """Whoever logs in must know this."""
        self.admin("--op", "new", "--mode", "account", "--user", user, "--password", password)
        self.admin("--op", "bind", "--mode", "account", "--tid", "1", "--user", user)

    @property
    def sessions(self) -> int:
        """How many are open."""
        return self.admin("--op", "show", "--mode", "conn", "--tid", "1").count("Session:")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def tgt(folder: Path, size: int) -> Iterator[Tgt]:
    """Serve a new disk of `size` bytes; nobody was let in yet."""
    disk = raw_image(folder / "unit.raw", size)
    control = tempfile.mkdtemp(prefix="lh-tgt-", dir="/tmp")  # the name of a socket is short
    port = free_port()
    log = folder / "tgtd.log"
    environment = {**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": f"{control}/tgtd"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                "setpriv",
                "--pdeathsig",
                "KILL",
                "--",
                "tgtd",
                "-f",
                "--iscsi",
                f"portal=127.0.0.1:{port}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
        )
    made = Tgt(process, port, disk, f"{control}/tgtd")
    try:
        _wait_listening(made, log)
        made.admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        unit = ["--mode", "logicalunit", "--tid", "1", "--lun", str(LUN)]
        made.admin("--op", "new", *unit, "-b", str(disk))
        yield made
    finally:
        made.kill()  # it ends at SIGTERM only when no target is left
        shutil.rmtree(control, ignore_errors=True)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


def _wait_listening(made: Tgt, log: Path) -> None:
    deadline = time.monotonic() + START_TIME
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", made.port)) == 0:
                return
        assert made.process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "tgtd does not listen"
        time.sleep(LOOK)
