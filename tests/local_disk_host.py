"""A host with local disks, for tests: a configuration, a source, and starts of VMs.

The volume group is one that stands in for LVM (tests/local_disks.py), or the real one of a guest.
"""

import json
import multiprocessing
import os
import signal
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from host.config import Config
from host.config_file import load
from host.local_disks import Here, PrepareRequest, in_foreground
from leases.steps import VARIABLE
from tests import local_disk_start
from tests.local_disk_start import HARDWARE_ID

VOL = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
OTHER_VOL = "87777777-8888-4999-8aaa-bbbbbbbbbbbb"
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VM = "dddddddd-eeee-4fff-8000-111111111111"
MIB = 1 << 20
EXTENT = 4 * MIB
TIME = 180.0  # seconds for a start, on a slow machine
LOOK = 0.02

# Forked from a process that has imported everything and runs nothing: a start costs no import.
_STARTS = multiprocessing.get_context("forkserver")
_STARTS.set_forkserver_preload(["tests.local_disk_start"])


@dataclass(frozen=True)
class Start:
    """A start of a VM in a process of its own. told: the file with what it has heard."""

    process: ForkServerProcess
    told: Path

    def ended(self) -> dict[str, Any]:
        """What it has prepared."""
        prepared: dict[str, Any] = self._last("prepared")
        return prepared

    def failed(self) -> dict[str, Any]:
        """The error that it has told."""
        error: dict[str, Any] = self._last("error")
        return error

    def killed(self) -> None:
        """It was killed, or kills itself."""
        assert self._status() == -signal.SIGKILL, self.told.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.killed()

    def terminate(self) -> None:
        self.process.terminate()

    def wait_for_copy(self) -> None:
        """Until the copy itself has begun."""
        end = time.monotonic() + TIME
        while time.monotonic() < end and self.process.is_alive():
            if any(line.get("progress") == "copying" for line in self._lines()):
                return
            time.sleep(LOOK)
        raise AssertionError(f"no copy has begun: {self.told.read_text()}")

    def _last(self, what: str) -> Any:
        assert self._status() == 0, self.told.read_text()
        *_, last = self._lines()
        assert what in last, last
        return last[what]

    def _status(self) -> int | None:
        self.process.join(TIME)
        return self.process.exitcode

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.told.exists():
            for line in self.told.read_text().splitlines(keepends=True):
                if line.endswith("\n"):
                    yield json.loads(line)


@dataclass(frozen=True)
class DiskHost:
    """folder: of state and sources. localdisk: settings of that section."""

    folder: Path
    localdisk: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Path:
        return self.folder / "images" / "source.raw"

    @property
    def file(self) -> Path:
        return self.folder / "host.toml"

    @property
    def config(self) -> Config:
        return load(self.file, {}, {})

    def set_up(self, content: bytes) -> "DiskHost":
        """Write the configuration and the source."""
        self.source.parent.mkdir(parents=True, exist_ok=True)
        self.source.write_bytes(content)
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in self.localdisk.items()]
        self.file.write_text(
            f'[folders]\nstate = "{self.folder}/state"\n'
            f'[listen]\nsocket = "{self.folder}/agent.socket"\n'
            f"[endpoints]\ndirectories = [{json.dumps(str(self.source.parent))}]\n"
            f"[localdisk]\n{''.join(lines)}"
        )
        return self

    async def here(self) -> Here:
        return await in_foreground(self.config, HARDWARE_ID)

    def wanted(self, **other: Any) -> dict[str, Any]:
        """A request, as JSON has it."""
        source = {"endpoint_type": "external", "url": str(self.source), "format": "raw"}
        usual = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "source": source, "vm_id": VM}
        return {**usual, **other}

    def request(self, **other: Any) -> PrepareRequest:
        return PrepareRequest(**self.wanted(**other))

    def began(
        self, *, die_at: str = "", environment: Mapping[str, str] = {}, **other: Any
    ) -> Start:
        """A start in a process of its own. die_at: where it kills itself. environment: what it has
        besides."""
        told = self.folder / f"start-{uuid.uuid4()}"
        variables = {**environment, VARIABLE: die_at}
        arguments = (str(self.file), self.wanted(**other), variables, str(told))
        process = _STARTS.Process(target=local_disk_start.run, args=arguments)
        process.start()
        return Start(process, told)

    def started(self, **other: Any) -> dict[str, Any]:
        """What a start that succeeds has prepared."""
        return self.began(**other).ended()

    def dies(self, die_at: str, **other: Any) -> None:
        """A start that is killed at that step, and reaches it."""
        self.began(die_at=die_at, **other).killed()


def same(one: Path, other: Path, size: int) -> bool:
    """Do both begin with the same `size` bytes?"""
    with one.open("rb") as first, other.open("rb") as second:
        left = size
        while left:
            part = min(left, MIB)
            if first.read(part) != second.read(part):
                return False
            left -= part
    return True


def drop(path: Path) -> None:
    """Forget what the page cache has of a device that others have written past it."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)
