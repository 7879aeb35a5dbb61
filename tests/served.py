"""The real agent for clients that know nothing of it, and what can be seen of it from outside.

tests/agent_service.py runs it. Here it has places for disks and domains that clients may name, and
its memory and descriptors are read from /proc.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.agent_service import Service, agent_folder, service
from tests.faults.command import command

PATIENCE = 30.0  # seconds; what takes so long has failed
LOOK = 0.01
T = TypeVar("T")


@dataclass(frozen=True)
class Served:
    """An agent that runs. folder: what is its own, with places that clients may name."""

    service: Service
    folder: Path

    @property
    def pid(self) -> int:
        return self.service.pid

    @property
    def socket(self) -> str:
        return str(self.service.socket)

    @property
    def log(self) -> str:
        return self.service.log

    @property
    def disks(self) -> Path:
        return self.folder / "disks"

    @property
    def mount(self) -> Path:
        return self.folder / "mnt"

    @property
    def lives(self) -> bool:
        return not self.service.running.over

    def stop(self) -> None:
        """In good order, and without a surprise in its life."""
        assert self.service.stop() == 0, self.log[-4000:]
        bad = [line for line in self.service.records if line["level"] in ("error", "critical")]
        assert bad == []

    @property
    def port(self) -> int:
        """Of TLS: the one TCP port on which it listens. Source: proc(5), net/tcp."""
        inodes = set()
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            with suppress(OSError):
                inodes.add(os.readlink(f"/proc/{self.pid}/fd/{name}"))
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        own = [row for row in rows if f"socket:[{row[9]}]" in inodes]
        [listening] = [row for row in own if row[3] == "0A"]
        return int(listening[1].rpartition(":")[2], 16)

    @property
    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @property
    def memory(self) -> int:
        """Bytes of it that are in memory now."""
        return self._status("VmRSS")

    @property
    def peak(self) -> int:
        """The most bytes that were in memory since `forget_peak`."""
        return self._status("VmHWM")

    def forget_peak(self) -> None:
        """Source: proc(5), clear_refs."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _status(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0]) << 10
        raise AssertionError(name)


@contextmanager
def served(folder: Path, *, before: str | None = None, **settings: Any) -> Iterator[Served]:
    """A running agent for the body; nothing of it is left afterwards.

    settings: of the configuration, `section__key`. before: Python that its process executes first.
    """
    disks, mount = folder / "disks", folder / "mnt"
    for place in (disks, mount):
        place.mkdir(exist_ok=True)
    own: dict[str, Any] = {
        "folders__state": folder / "state",
        "endpoints__directories": disks,
        "endpoints__backing": "",
        "storage__directories": mount,
        "log__format": "json",
        **settings,
    }
    given = [f"{key.replace('__', '.')}={value}" for key, value in own.items()]
    with (
        command(folder) as commands,
        agent_folder() as short,
        service(commands, short, *given, before=before) as made,
    ):
        yield Served(made, folder)


def until(
    condition: Callable[[], T],
    failure: Callable[[], object] = lambda: "",
    *,
    seconds: float = PATIENCE,
) -> T:
    """Wait until the condition holds, which the test has caused; what it answered then."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it never came true: {failure()}"
        time.sleep(LOOK)
    return answer
