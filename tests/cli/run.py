"""The real command, as a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND = (sys.executable, "-m", "cli.main")
PATIENCE = 30.0  # seconds; a test that waits this long has failed


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout; nothing else may be there."""
        lines = self.out.splitlines()
        assert len(lines) == 1, self
        return json.loads(lines[0])

    @property
    def error(self) -> Any:
        found = self.json
        assert set(found) == {"error"}, found
        assert set(found["error"]) == {"code", "kind", "message", "data"}
        return found["error"]


@dataclass(frozen=True)
class Cli:
    """home: LEASEHOLD_HOME of the commands."""

    home: Path

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "LEASEHOLD_HOME": str(self.home), "PYTHONPATH": str(ROOT)}

    def __call__(self, *arguments: object, cwd: Path | None = None) -> Ended:
        done = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=self.environment,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def started(self, *arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; killed at the end of the body if it still does."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            text=True,
            **pipes,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def domain(self, mount: Path) -> str:
        """A new domain in `mount`, known; returns its id."""
        made = self("domain", "create", mount, "--leases", 5, "--json")
        assert made.code == 0, made
        return str(made.json["id"])


def ended(process: subprocess.Popen[str]) -> Ended:
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in (err or ""), err
    return Ended(process.returncode, out or "", err or "")


def until(true: Callable[[], Any]) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := true()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)
    return answer


def writers(target: Path) -> list[int]:
    """The pids of the qemu-img processes that were told to write to `target`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = entry.read_bytes().split(b"\0")
        except OSError:  # it has just ended
            continue
        if b"qemu-img" in arguments[0] and any(bytes(target) in one for one in arguments):
            found.append(int(entry.parent.name))
    return found
