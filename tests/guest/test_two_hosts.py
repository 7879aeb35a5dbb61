"""Two guests on one disk are two hosts of a domain; one dies in the middle of its copies."""

import time
import uuid
from pathlib import Path

import pytest

from tests.guest.inside.conftest import DATA, POOL, VG
from tests.guest.machine import LEASEHOLD, Disk, Guest
from tests.guest.shared_domain import DEAD, Host, SharedDomain, host, shared_disk, until

pytestmark = [
    pytest.mark.full,
    pytest.mark.tools("qemu-system-x86_64", "mmdebstrap", "mkfs.ext4"),
]

MIB = 1 << 20
GIB = 1 << 30
SIZE = 64 * MIB
SOURCE = "/srv/source.raw"
TARGET = "/dev/guest/target"
AGENT = "unix:/run/leasehold/agent.socket"
RENEWAL = 15  # seconds; a host renews every ten
VM = "dddddddd-eeee-4fff-8000-111111111111"


def written(disk: Disk) -> int:
    """Bytes of it, as far as one can see from here."""
    return disk.path.stat().st_blocks * 512


def make_source(guest: Guest) -> str:
    """Random bytes; their digest."""
    guest.must("dd", "if=/dev/urandom", f"of={SOURCE}", "bs=1M", f"count={SIZE // MIB}")
    return digest(guest, SOURCE)


def digest(guest: Guest, path: str) -> str:
    return guest.must("sha256sum", path).split()[0]


def copying(domain: SharedDomain, job_id: str, *options: object) -> list[object]:
    """A copy to the disk that both have."""
    formats = ("--source-format", "raw", "--format", "raw")
    tracked = ("--domain", domain.id, "--job-id", job_id, "--keep-lease", "--json")
    return ["copy", SOURCE, TARGET, *formats, *tracked, *options]


def preparing(domain: SharedDomain, *options: object) -> list[object]:
    """A copy to a local disk, whose lease both hosts see."""
    words = ("--vm", VM, "--backend", "lvmthin", "--source-format", "raw", "--json")
    return ["localdisk", "prepare", SOURCE, "--domain", domain.id, *words, *options]


def make_group(guest: Guest) -> None:
    guest.must("lvm", "vgcreate", "-qq", VG, DATA)
    guest.must("lvm", "lvcreate", "-qq", "-y", "--type", "thin-pool", "-L1G", "-n", POOL, VG)
    guest.must("lvm", "lvchange", "-qq", "--errorwhenfull", "y", f"{VG}/{POOL}")


def local_disk(guest: Guest) -> tuple[str, set[str]]:
    """Name and tags of the one that there is."""
    words = ("--noheadings", "--separator", " ", "-o", "lv_name,lv_tags", "-S", "lv_tags!=''", VG)
    name, tags = guest.must("lvm", "lvs", *words).split()
    return name, set(tags.split(","))


def resolved(host: Host, job_id: str) -> tuple[int, object]:
    """Exit code of `job resolve` by its agent, and whether it has fenced."""
    words = ("job", "resolve", host.domain.id, job_id, "--host", AGENT, "--json")
    told = host.leasehold(*words)
    return told.status, told.json()["fenced"] if told.status == 4 else None


def test_the_jobs_of_a_host_that_lost_its_power_are_resolved_by_the_other(tmp_path: Path) -> None:
    domain = SharedDomain(shared_disk(tmp_path))
    target = Disk.new(tmp_path, "target", SIZE, shared=True)
    data = Disk.new(tmp_path, "data", 2 * GIB)
    job_id = str(uuid.uuid4())
    with host(domain, 2, target, first=True) as b:
        content = make_source(b.guest)
        serve = ["host", "serve", "--set", f"storage.mounts={Path(domain.folder).parent}"]
        b.start(*serve, "--set", "storage.require_watchdog=false").printed("ready")
        with host(domain, 1, target, data) as a:
            make_source(a.guest)
            make_group(a.guest)
            a.start(*copying(domain, job_id, "--limit", "1M"))
            a.start(*preparing(domain, "--limit", "1M"))
            until(lambda: written(target) > 4 * MIB and written(data) > 16 * MIB, 120.0)
            name, tags = local_disk(a.guest)
            local_job = next(tag[4:] for tag in tags if tag.startswith("JOB_"))
            for one in (job_id, local_job):
                assert resolved(b, one) == (6, None)  # they run
            a.guest.kill()
            died = time.monotonic()
        assert written(target) < SIZE
        for one in (job_id, local_job):
            assert b.lease(one)["owners"] == [1]  # for all that one can know
        until(lambda: resolved(b, job_id) == (4, True), 2 * DEAD)
        assert time.monotonic() - died > DEAD - RENEWAL
        assert b.until_free(local_job, RENEWAL)["job_status"] == "PENDING"
        assert resolved(b, local_job) == (4, True)
        again = str(uuid.uuid4())
        b.guest.must(LEASEHOLD, *copying(domain, again), seconds=300.0)
        assert b.lease(again)["metadata"]["job_status"] == "SUCCEEDED"
        assert digest(b.guest, TARGET) == content
        with host(domain, 1, target, data) as a:
            content = make_source(a.guest)
            a.guest.must("lvm", "vgchange", "-qq", "-ay", VG)
            assert "UPDATING" in local_disk(a.guest)[1]
            made = a.leasehold(*preparing(domain), seconds=300.0)
            assert made.status == 0, made
            assert digest(a.guest, made.json()["path"]) == content
            left, tags = local_disk(a.guest)
            assert (left, "UPDATING" in tags, f"JOB_{local_job}" in tags) == (name, False, False)
            assert a.lease(local_job)["metadata"]["job_status"] == "FENCED"
