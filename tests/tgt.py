"""A unit of a real iSCSI target for tests, with masks and CHAP as they are wanted.

Source: tgtadm(8).
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.conftest import SEARCH_PATH
from tests.servers import raw_image
from tests.tgt_server import TgtServer, tgt_server

TARGET = "iqn.2026-01.org.example:volumes"
LUN = 1  # 0 is the controller


@dataclass(frozen=True)
class Tgt:
    """One target with one unit, whose content is in the file `disk`."""

    server: TgtServer
    disk: Path

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def portal(self) -> str:
        return self.server.portal

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
        environment = {**os.environ, "PATH": SEARCH_PATH, "TGT_IPC_SOCKET": self.server.socket}
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
        self.server.kill()


@contextmanager
def tgt(folder: Path, size: int) -> Iterator[Tgt]:
    """Serve a new disk of `size` bytes; nobody was let in yet."""
    with tgt_server() as server:
        made = Tgt(server, raw_image(folder / "unit.raw", size))
        made.admin("--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET)
        unit = ["--mode", "logicalunit", "--tid", "1", "--lun", str(LUN)]
        made.admin("--op", "new", *unit, "-b", str(made.disk))
        yield made
