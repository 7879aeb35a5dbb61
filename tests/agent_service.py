"""The agent of a host as it runs: `leasehold host serve` in a process of its own.

It gets the folder, the home and the environment of a tests.faults.command.Command, so that its
workers and tools are found, and ended, as those of any other command.
"""

import json
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protocol.address import UnixAddress
from tests.faults.command import Command, Running

READY_TIME = 60.0  # seconds


class Manager:
    """Stands in for systemd: hears what a service tells it."""

    def __init__(self, folder: Path) -> None:
        self.address = str(folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def until(self, word: str, seconds: float = READY_TIME) -> str:
        """The first message with a line that is `word`. Raises TimeoutError."""
        self._socket.settimeout(seconds)
        while word not in (message := self._socket.recv(4096).decode()).splitlines():
            pass
        return message

    def forget(self) -> None:
        """What was told so far."""
        self._socket.setblocking(False)
        with suppress(BlockingIOError):
            while self._socket.recv(4096):
                pass

    def __enter__(self) -> "Manager":
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Service:
    """A running agent. socket: of local tools, in a folder with a short name."""

    running: Running
    socket: Path
    manager: Manager

    @property
    def pid(self) -> int:
        return self.running.pid

    @property
    def url(self) -> str:
        return str(self.address)

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(str(self.socket))

    @property
    def log(self) -> str:
        return self.running.err.read_text(errors="replace")

    @property
    def records(self) -> list[dict[str, Any]]:
        """Of the log, when it is JSON."""
        return [json.loads(line) for line in self.log.splitlines()]

    def kill(self) -> None:
        """As a crash does."""
        self.running.process.kill()
        self.running.process.wait()

    def stop(self) -> int:
        """In good order, as systemd does; the exit code."""
        self.running.process.terminate()
        return self.running.process.wait(READY_TIME)


@contextmanager
def agent_folder() -> Iterator[Path]:
    """A folder for sockets: the path of one has at most 107 bytes."""
    folder = Path(tempfile.mkdtemp(prefix="lh-", dir="/tmp"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def service(
    command: Command,
    folder: Path,
    *settings: str,
    environment: Mapping[str, str] | None = None,
    before: str | None = None,
) -> Iterator[Service]:
    """The agent for the body, ready; killed at the end if it lives still. Its workers go on.

    folder: of `agent_folder`. settings: section.key=value; external endpoints may lie in the folder
    of the command and there alone, unless these say something else.
    """
    path = folder / "agent"
    (folder / "notify").unlink(missing_ok=True)
    given = [f"listen.socket={path}", f"endpoints.directories={command.folder}"]
    given += [f"endpoints.backing={command.folder}", f"storage.directories={command.folder}"]
    options = [word for one in (*given, *settings) for word in ("--set", one)]
    with Manager(folder) as manager:
        told = {"NOTIFY_SOCKET": manager.address, **(environment or {})}
        with command.started("host", "serve", *options, environment=told, before=before) as running:
            made = Service(running, path, manager)
            _until_ready(made)
            yield made


def _until_ready(made: Service) -> None:
    for _ in range(int(READY_TIME)):
        try:
            made.manager.until("READY=1", 1.0)
        except TimeoutError:
            assert not made.running.over, made.log
            continue
        return
    raise AssertionError(f"it is not ready: {made.log}")
