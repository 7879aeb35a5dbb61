"""Guests as hosts of one storage domain, whose lockspace and lease volume are on one shared disk.

No file system is shared. Each guest has the folder of the domain for itself, and in it `ids` and
`xleases` are links to partitions of the disk, as they are on block storage.
"""

import struct
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.guest.machine import LEASEHOLD, Command, Disk, Ended, Guest, booted

MIB = 1 << 20
SECTOR = 512
IO_TIMEOUT = 5  # seconds
DEAD = 8 * IO_TIMEOUT + 60  # seconds of silence after which a host is dead
LEASES = 8
SLOTS = 3 + LEASES
MOUNT = "/srv/shared"
LOOK = 0.5  # seconds between two looks
T = TypeVar("T")


def shared_disk(folder: Path) -> Disk:
    """With a partition for `ids`, and one for the lease volume."""
    sizes = [MIB, SLOTS * MIB]
    disk = Disk.new(folder, "shared", (1 + sum(sizes) // MIB) * MIB, shared=True)
    table = bytearray(SECTOR)
    start = MIB
    for number, size in enumerate(sizes):
        # Source: the master boot record. No cylinders; type 0x83, Linux.
        entry = struct.pack("<4xB3xII", 0x83, start // SECTOR, size // SECTOR)
        table[446 + 16 * number : 462 + 16 * number] = entry
        start += size
    table[510:] = b"\x55\xaa"
    with disk.path.open("r+b") as file:
        file.write(table)
    return disk


@dataclass(frozen=True)
class SharedDomain:
    """disk: of `shared_disk`. metadata: of the domain, once it was made."""

    disk: Disk
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def folder(self) -> str:
        return f"{MOUNT}/{self.id}"


@dataclass
class Host:
    """A guest that has joined the domain."""

    guest: Guest
    domain: SharedDomain
    host_id: int
    sanlock: Command
    wdmd: Command | None

    def leasehold(self, *arguments: object, seconds: float = 120.0) -> Ended:
        return self.guest.run(LEASEHOLD, *arguments, seconds=seconds)

    def start(self, *arguments: object) -> Command:
        return self.guest.start(LEASEHOLD, *arguments)

    def lease(self, lease_id: str) -> dict[str, Any]:
        """What its status says."""
        done = self.leasehold("lease", "status", self.domain.id, lease_id, "--json")
        assert done.status == 0, done
        status: dict[str, Any] = done.json()
        return status

    def until_free(self, lease_id: str, seconds: float) -> dict[str, Any]:
        """Wait until nobody owns the lease; its record."""
        status = until(
            lambda: found if not (found := self.lease(lease_id))["owners"] else None, seconds
        )
        record: dict[str, Any] = status["metadata"]
        return record


@contextmanager
def host(
    domain: SharedDomain, host_id: int, *disks: Disk, watchdog: bool = False, first: bool = False
) -> Iterator[Host]:
    """A guest that has joined; first: it makes the domain. Its watchdog resets it, when asked for,
    and that ends it."""
    with booted(domain.disk, *disks) as guest:
        if first:
            _make(guest, domain)
        _link(guest, domain)
        wdmd = _watching(guest) if watchdog else None
        daemon = ["sanlock", "daemon", "-D", "-w", str(int(watchdog)), "-l", "0", "-h", "0"]
        sanlock = guest.start(*daemon, "-U", "root", "-G", "root", "-e", f"host{host_id}")
        until(lambda: guest.run("sanlock", "client", "status").status == 0, 30.0)
        guest.must(LEASEHOLD, "domain", "open", MOUNT)
        join = [LEASEHOLD, "host", "join", domain.id, "--host-id", host_id]
        guest.must(*join, *([] if watchdog else ["--no-watchdog"]), seconds=300.0)
        yield Host(guest, domain, host_id, sanlock, wdmd)


def until(condition: Callable[[], T | None], seconds: float) -> T:
    """Wait until it answers with something."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it never came true in {seconds} s"
        time.sleep(LOOK)
    return answer


def _make(guest: Guest, domain: SharedDomain) -> None:
    new = ["domain", "create", "/tmp/new", "--id", domain.id, "--leases", LEASES]
    guest.must(LEASEHOLD, *new, "--store", "sanlock", "--io-timeout", IO_TIMEOUT)
    for number, name in enumerate(("ids", "xleases"), 1):
        source = f"/tmp/new/{domain.id}/dom_md/{name}"
        to = [f"of=/dev/guest/shared{number}", "bs=1M", "conv=fsync", "status=none"]
        guest.must("dd", f"if={source}", *to)
    metadata = guest.must("cat", f"/tmp/new/{domain.id}/dom_md/metadata")
    domain.disk.path.with_name(f"{domain.id}.metadata").write_text(metadata)


def _link(guest: Guest, domain: SharedDomain) -> None:
    dom_md = f"{domain.folder}/dom_md"
    guest.must("mkdir", "-p", dom_md, f"{domain.folder}/images")
    metadata = domain.disk.path.with_name(f"{domain.id}.metadata").read_text()
    guest.must("dd", f"of={dom_md}/metadata", "status=none", stdin=metadata)
    guest.must("touch", f"{dom_md}/leases")
    for number, name in enumerate(("ids", "xleases"), 1):
        guest.must("ln", "-s", f"/dev/guest/shared{number}", f"{dom_md}/{name}")


def _watching(guest: Guest) -> Command:
    """The watchdog of the kernel, and the daemon that feeds it as long as all is well."""
    guest.must("modprobe", "softdog")
    guest.must("mkdir", "-p", "/run/wdmd")
    wdmd = guest.start("wdmd", "-D", "-G", "root", "-H", "0")
    until(lambda: guest.run("test", "-S", "/run/wdmd/wdmd.sock").status == 0, 30.0)
    return wdmd
