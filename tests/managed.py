"""Managed volumes for tests: helper programs that do as they are told, and block devices."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.servers import raw_image

ADAPTER = "test-array"
SD = "bbbbbbbb-cccc-4ddd-8eee-ffffffffffff"
_PROGRAM = """\
#!{python} -I
import json, os, signal, subprocess, sys, time
command = sys.argv[1]
told = sys.stdin.read()
folder = {folder!r}
with open(folder + "/calls", "a") as calls:
    calls.write(json.dumps([command, json.loads(told or "null"), dict(os.environ)]) + "\\n")
try:
    with open(f"{{folder}}/{{command}}.py") as script:
        exec(script.read())
except FileNotFoundError:
    print("{{}}")
"""


@dataclass(frozen=True)
class Scripted:
    """The helper of a vendor: `script` says what it does at a command, in Python."""

    folder: Path

    @property
    def helpers(self) -> str:
        """The folder to look for it in."""
        return str(self.folder / "bin")

    @property
    def program(self) -> Path:
        return self.folder / "bin" / f"managedvolume-helper-{ADAPTER}"

    def script(self, command: str, text: str) -> None:
        (self.folder / f"{command}.py").write_text(text)

    def attaches(self, path: Path | str, **more: Any) -> None:
        """It tells this path, of a device or a url."""
        told = json.dumps({"path": str(path), **more})
        self.script("attach", f"print({told!r})")

    @property
    def calls(self) -> list[tuple[str, Any]]:
        """Each command with what it was told."""
        return [(command, told) for command, told, _ in self._calls()]

    @property
    def commands(self) -> list[str]:
        return [command for command, _, _ in self._calls()]

    @property
    def environments(self) -> list[dict[str, str]]:
        return [environment for _, _, environment in self._calls()]

    def _calls(self) -> list[Any]:
        path = self.folder / "calls"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def scripted(folder: Path) -> Scripted:
    """A new one, which attaches nothing."""
    made = Scripted(folder)
    made.program.parent.mkdir(parents=True)
    made.program.write_text(
        _PROGRAM.format(python=os.path.realpath(sys.executable), folder=str(folder))
    )
    made.program.chmod(0o755)
    return made


def connection(
    driver: str = "local", *, adapter: str | None = ADAPTER, **data: Any
) -> dict[str, Any]:
    made: dict[str, Any] = {"driver_volume_type": driver, "data": data}
    return made if adapter is None else {**made, "adapter": adapter}


def new_id() -> str:
    return str(uuid.uuid4())


@contextmanager
def loop_device(folder: Path, size: int = 1 << 20) -> Iterator[Path]:
    """A block device over a new file; without the right to make one the test is skipped."""
    image = raw_image(folder / f"loop-{uuid.uuid4()}.raw", size)
    done = subprocess.run(
        ["losetup", "-f", "--show", str(image)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"no loop device can be made here: {done.stderr}")
    device = Path(done.stdout.strip())
    try:
        yield device
    finally:
        subprocess.run(["losetup", "-d", str(device)], check=True)


def left_in(folder: Path) -> list[str]:
    """Every name in a run folder, links and folders of secrets alike."""
    return sorted(os.listdir(folder)) if folder.exists() else []
