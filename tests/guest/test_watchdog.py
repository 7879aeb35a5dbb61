"""The watchdog resets a host whose sanlock has died while a copy runs that nobody stops."""

import hashlib
import signal
import time
import uuid
from pathlib import Path

import pytest

from tests.guest.machine import Disk, Guest
from tests.guest.shared_domain import DEAD, SharedDomain, host, shared_disk, until
from tests.guest.test_two_hosts import SIZE, copying, make_source, written

pytestmark = [
    pytest.mark.full,
    pytest.mark.tools("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4"),
]

MIB = 1 << 20
RATE = "256K"  # a copy of 64 MiB takes four minutes, longer than a host lives without sanlock


def stop(guest: Guest, name: str) -> None:
    """What would end the copy when it loses its lease gets no time to do so."""
    guest.must("pkill", "-STOP", "-f", name)


def last_write(disk: Disk) -> float:
    return disk.path.stat().st_mtime


def content(disk: Disk) -> str:
    return hashlib.sha256(disk.path.read_bytes()).hexdigest()


def test_no_byte_is_written_after_the_lease_of_a_host_without_sanlock_is_free(
    tmp_path: Path,
) -> None:
    domain = SharedDomain(shared_disk(tmp_path))
    target = Disk.new(tmp_path, "target", SIZE, shared=True)
    job_id = str(uuid.uuid4())
    with (
        host(domain, 1, target, first=True, watchdog=True) as a,
        host(domain, 2, target) as b,
    ):
        make_source(a.guest)
        a.start(*copying(domain, job_id, "--limit", RATE))
        until(lambda: written(target) > MIB, 120.0)
        stop(a.guest, "bin/leasehold")
        a.sanlock.signal(signal.SIGKILL)
        killed = time.time()
        seen: list[list[int]] = []

        def reset() -> bool:
            """The other host is slow, and the lease free soon after: it is asked all the time."""
            owners = b.lease(job_id)["owners"]
            gone = a.guest.over
            assert gone or owners == [1], "it is free, and its host can still write"
            seen.append(owners)
            return gone

        until(reset, 2 * DEAD)
        assert [1] in seen
        assert last_write(target) > killed + 20  # or else the watchdog was not needed
        left = content(target)
        assert b.until_free(job_id, 2 * DEAD)["job_status"] == "PENDING"
        assert content(target) == left
