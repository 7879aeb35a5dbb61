"""Processes of hosts of their own, from the side of the test: tests/faults/peer.py."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leases.geometry import Geometry
from leases.volume import format_volume
from tests.cli.run import ROOT
from tests.conformance.stores import Site, opened
from tests.sanlock_hosts import IO_TIMEOUT, SD_ID, Host, Hosts, running
from tests.servers import WAIT

LEASES = 4  # a lease volume has room for so many


class Failed(Exception):
    """A command of a peer failed. kind: the class of its error."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Ended(Exception):
    """The peer is gone."""


@dataclass(frozen=True)
class Peer:
    """A process on a host. Its commands: tests/faults/peer.py."""

    popen: "subprocess.Popen[str]"

    def __call__(self, command: str, *arguments: Any) -> Any:
        """Do a command to its end; its answer. Raises Failed."""
        self.tell(command, *arguments)
        return self.hear()

    def tell(self, *words: Any) -> None:
        """Begin a command, or with nothing go on with one that waits."""
        assert self.popen.stdin
        try:
            self.popen.stdin.write(f"{json.dumps(words)}\n" if words else "\n")
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise Ended(self.popen.wait()) from None

    def hear(self) -> Any:
        """The next answer. Raises Failed, Ended."""
        assert self.popen.stdout
        line = self.popen.stdout.readline()
        if not line:
            raise Ended(self.popen.wait())
        heard = json.loads(line)
        if "error" in heard:
            raise Failed(heard["error"], heard["text"])
        return heard["answer"]

    def signal(self, number: signal.Signals) -> None:
        self.popen.send_signal(number)

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()


@contextmanager
def peer(host: Host, site: Site, **environment: str) -> Iterator[Peer]:
    """A process on `host` that uses the store of `site`; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.peer", site.argument],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, **host.environment, **environment},
    ) as popen:
        try:
            yield Peer(popen)
        finally:
            popen.kill()


@contextmanager
def own_hosts(folder: Path, sector: int = 512) -> Iterator[Hosts]:
    """Two hosts that may be hurt. The process of the test is on neither of them."""
    with running("a", folder, 1) as a, running("b", folder, 2) as b:
        ids = folder / "ids"
        _write_lockspace(a, ids, Geometry.of(sector))
        for joining in [host.joining(SD_ID, ids) for host in (a, b)]:
            assert joining.wait(WAIT) == 0
        try:
            yield Hosts(a, b, SD_ID, ids)
        finally:
            for host in (a, b):
                if host.popen:  # a test may have stopped it
                    host.signal(signal.SIGCONT)


def _write_lockspace(host: Host, ids: Path, geometry: Geometry) -> None:
    """Format a lockspace, without leasehold."""
    ids.touch()
    os.truncate(ids, geometry.alignment)
    place = f"{SD_ID.encode()!r}, {str(ids)!r}, iotimeout={IO_TIMEOUT}"
    size = f"align={geometry.alignment}, sector={geometry.sector}"
    assert host.begin(f"write_lockspace({place}, {size})").wait(WAIT) == 0


@contextmanager
def site_of(hosts: Hosts, folder: Path, sector: int = 512) -> Iterator[Site]:
    """A lease volume in the lockspace of `hosts`, removed at the end."""
    site = Site("sanlock", str(folder), str(hosts.ids), sector=sector)
    format_volume(opened(site).volume, now=1700000000, leases=LEASES)
    try:
        yield site
    finally:
        Path(folder, "xleases").unlink()
