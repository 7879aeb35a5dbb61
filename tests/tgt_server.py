"""A real tgtd on loopback, for tests of iSCSI. Source: tgtd(8)."""

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

from tests.conftest import SEARCH_PATH
from tests.servers import LOOK, START_TIME


@dataclass
class TgtServer:
    """folder: short, for its sockets. It can be ended and started again, and then knows nothing."""

    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def portal(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def socket(self) -> str:
        """TGT_IPC_SOCKET, which many daemons side by side need."""
        return str(self.folder / "ipc")

    def start(self) -> None:
        log = self.folder / "tgtd.log"
        argv = ["tgtd", "-f", "--iscsi", f"portal={self.portal}"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": self.socket},
            )
        deadline = time.monotonic() + START_TIME
        while not (self._accepts() and Path(f"{self.socket}.0").exists()):
            assert self.process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "tgtd does not listen"
            time.sleep(LOOK)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()  # it ends at SIGTERM only when no target is left
        self.process.wait()

    def show(self) -> str:
        """All of its targets, as tgtadm shows them; empty without any."""
        argv = ["tgtadm", "--lld", "iscsi", "--op", "show", "--mode", "target"]
        own = {**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": self.socket}
        return subprocess.run(argv, env=own, check=True, capture_output=True, text=True).stdout

    def _accepts(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0


@contextmanager
def tgt_server() -> Iterator[TgtServer]:
    folder = Path(tempfile.mkdtemp(prefix="lh-tgt-", dir="/tmp"))
    server = TgtServer(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        if server.process is not None:
            server.kill()
        shutil.rmtree(folder)


def free_port() -> int:
    """A port that nobody has at this moment."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
