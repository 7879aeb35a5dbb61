"""Real sanlock daemons: each is a host of its own, with its own run directory.

A process talks to one daemon, so another host is another process with another SANLOCK_RUN_DIR.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.conftest import SEARCH_PATH
from tests.servers import WAIT

# The watchdog is off: it would reset this machine.
OPTIONS = [*("-D", "-w", "0", "-l", "0", "-h", "0"), *("-U", "root", "-G", "root", "-L", "-1")]
IO_TIMEOUT = 1  # seconds; joining takes three of them, a host is dead after 68 of its silence


@dataclass
class Host:
    """A sanlock daemon. host_id: with which it joins lockspaces."""

    name: str
    run_dir: Path
    host_id: int
    options: list[str] = field(default_factory=lambda: list(OPTIONS))
    popen: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What makes a process one of this host."""
        return {"SANLOCK_RUN_DIR": str(self.run_dir), "PATH": SEARCH_PATH}

    def start(self) -> None:
        self.run_dir.mkdir(exist_ok=True)
        program = shutil.which("sanlock", path=SEARCH_PATH)
        assert program, "sanlock is not installed"
        self.popen = subprocess.Popen(
            [program, "daemon", *self.options, "-e", self.name],
            env={**os.environ, **self.environment, "SANLOCK_PRIVILEGED": "0"},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + WAIT
        while self._call("client", "status").returncode:
            assert self.popen.poll() is None, "the daemon has ended"
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def begin(self, call: str) -> "subprocess.Popen[bytes]":
        """A call of the binding by another process of this host, without leasehold."""
        return subprocess.Popen(
            ["/usr/bin/python3", "-c", f"import sanlock; sanlock.{call}"],
            env={**os.environ, **self.environment},
        )

    def joining(self, sd_id: str, ids: Path) -> "subprocess.Popen[bytes]":
        """Begin to join a lockspace, which takes about 3 s."""
        place = f"{sd_id.encode()!r}, {self.host_id}, {str(ids)!r}"
        return self.begin(f"add_lockspace({place}, iotimeout={IO_TIMEOUT})")

    def join(self, sd_id: str, ids: Path) -> None:
        assert self.joining(sd_id, ids).wait(WAIT) == 0

    def leave(self, sd_id: str, ids: Path) -> None:
        """What is held in it is lost."""
        call = f"rem_lockspace({sd_id.encode()!r}, {self.host_id}, {str(ids)!r})"
        assert self.begin(call).wait(WAIT) == 0

    def signal(self, number: signal.Signals) -> None:
        """To the daemon and its helper process."""
        assert self.popen
        with suppress(ProcessLookupError):
            os.killpg(self.popen.pid, number)

    def kill(self) -> None:
        """The daemon dies; what it kept is not renewed any more."""
        if self.popen:
            self.signal(signal.SIGKILL)
            self.popen.wait()
            self.popen = None

    def _call(self, *arguments: str) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.run(
            ["sanlock", *arguments],
            env={**os.environ, **self.environment},
            capture_output=True,
            timeout=60,
            check=False,
        )


@contextmanager
def running(name: str, folder: Path, host_id: int) -> Iterator[Host]:
    """A daemon of that name, its run directory in `folder`; short, for it holds a socket."""
    host = Host(name, folder / name, host_id)
    host.start()
    try:
        yield host
    finally:
        host.kill()


def write_lockspace(host: Host, sd_id: str, ids: Path, io_timeout: int = IO_TIMEOUT) -> None:
    """Format a lockspace, without leasehold."""
    ids.touch()
    os.truncate(ids, 1 << 20)
    call = f"write_lockspace({sd_id.encode()!r}, {str(ids)!r}, iotimeout={io_timeout})"
    assert host.begin(call).wait(WAIT) == 0


@dataclass(frozen=True)
class Hosts:
    """Two hosts, and a lockspace that both have joined."""

    a: Host
    b: Host
    sd_id: str
    ids: Path


SD_ID = "11111111-2222-4333-8444-555555555555"


@contextmanager
def two_hosts(folder: Path) -> Iterator[Hosts]:
    """This process becomes one of host A for good: the binding reads the directory once."""
    with running("a", folder, 1) as a, running("b", folder, 2) as b:
        os.environ.update(SANLOCK_RUN_DIR=str(a.run_dir))
        ids = folder / "ids"
        write_lockspace(a, SD_ID, ids)
        for joining in [host.joining(SD_ID, ids) for host in (a, b)]:
            assert joining.wait(WAIT) == 0
        yield Hosts(a, b, SD_ID, ids)
