"""Other clients of sanlock read what leasehold writes, and the other way round."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from leases.geometry import MIB, Geometry
from protocol.errors import UnsupportedOperation
from tests.conformance.stores import Site, opened
from tests.faults.command import new_job_id
from tests.faults.peers import LEASES, Failed, own_hosts, peer, site_of
from tests.sanlock_hosts import Host, Hosts
from tests.servers import WAIT

pytestmark = pytest.mark.tools("sanlock")

# A client that lets sanlock handle the value block: at acquire it is read, at release written.
CLIENT = """
import json, sanlock, sys
space, lease, path, offset, written = json.loads(sys.argv[1])
names = space.encode(), lease.encode(), [(path, offset)]
fd = sanlock.register()
sanlock.acquire(*names, slkfd=fd, lvb=True)
print(json.dumps(sanlock.get_lvb(*names, size=512).decode()))
if written is not None:
    sanlock.set_lvb(*names, written.encode().ljust(512, bytes(1)))
sanlock.release(*names, slkfd=fd)
"""


def other_client(host: Host, site: Site, lease_id: str, written: str | None = None) -> str:
    """Acquire with sanlock's own handling of value blocks; the block, which may be written."""
    volume = opened(site).volume
    with volume.open() as sectors:
        lease = volume.lookup(sectors, lease_id)
    place = [lease.sd_id, lease.lease_id, lease.path, lease.offset, written]
    done = subprocess.run(
        ["/usr/bin/python3", "-c", CLIENT, json.dumps(place)],
        env={**os.environ, **host.environment},
        stdout=subprocess.PIPE,
        timeout=WAIT,
        check=True,
    )
    return str(json.loads(done.stdout))


def read(block: str) -> Any:
    return json.loads(block.rstrip("\0"))


@pytest.fixture
def site(hosts: Hosts, tmp_path: Path) -> Iterator[Site]:
    with site_of(hosts, tmp_path) as found:
        yield found


def test_another_client_reads_what_was_written(hosts: Hosts, site: Site) -> None:
    lease_id = new_job_id()
    with peer(hosts.a, site) as a:
        a("create", lease_id)
        made_by_create = read(other_client(hosts.b, site, lease_id))
        assert (made_by_create["job_id"], made_by_create["job_status"]) == (lease_id, "PENDING")
        a("take", lease_id)
        a("put", lease_id, {"x": "ä" * 40})
        a("give", lease_id)
        assert read(other_client(hosts.b, site, lease_id)) == {"x": "ä" * 40}


def test_another_client_reads_what_a_killed_writer_wrote(hosts: Hosts, site: Site) -> None:
    lease_id = new_job_id()
    with peer(hosts.a, site) as a, peer(hosts.b, site) as b:
        a("create", lease_id)
        a("take", lease_id)
        a("put", lease_id, {"written": "before it died"})
        a.kill()
        b("until_free", lease_id)
        assert read(other_client(hosts.b, site, lease_id)) == {"written": "before it died"}


@pytest.mark.parametrize("reader", ["a", "b"])
def test_what_another_client_writes_is_read(hosts: Hosts, site: Site, reader: str) -> None:
    """By the daemon it is written at release."""
    lease_id = new_job_id()
    with peer({"a": hosts.a, "b": hosts.b}[reader], site) as one:
        one("create", lease_id)
        record = {"type": "JOB", "job_id": lease_id, "job_status": "SUCCEEDED", "generation": 1}
        other_client(hosts.b, site, lease_id, json.dumps(record))
        owners, version, metadata = one("status", lease_id)
        assert (owners, version, metadata) == ([], 1, record)
        with pytest.raises(Failed) as caught:
            one("fence", lease_id)
        assert caught.value.kind == "JobStatusMismatch"
        one("take", lease_id)
        assert one("load", lease_id) == record
        one("give", lease_id)


# --- sectors of 4096 bytes ------------------------------------------------------------------------


def test_a_whole_life_on_large_sectors(tmp_path: Path) -> None:
    with (
        own_hosts(tmp_path, sector=4096) as hosts,
        site_of(hosts, tmp_path, sector=4096) as site,
        peer(hosts.a, site) as a,
        peer(hosts.b, site) as b,
    ):
        lease_ids = [new_job_id() for _ in range(LEASES)]
        for number, lease_id in enumerate(lease_ids):  # next to each other
            (a, b)[number % 2]("create", lease_id)
        one, other = lease_ids[:2]
        a("take", one)
        a("put", one, {"held": "by a"})
        b("take", other)
        b("put", other, {"held": "by b"})
        assert b("status", one) == [[hosts.a.host_id], 1, None]
        with pytest.raises(Failed) as caught:
            b("fence", one)
        assert caught.value.kind == "AcquireLockFailure"
        for holder, held, said in ((a, one, "by a"), (b, other, "by b")):
            assert holder("load", held) == {"held": said}
            holder("give", held)
        assert b("status", one) == [[], 1, {"held": "by a"}]
        assert read(other_client(hosts.b, site, one)) == {"held": "by a"}
        for lease_id in lease_ids[2:]:
            b("fence", lease_id)
            assert a("status", lease_id)[2]["job_status"] == "FENCED"
        for lease_id in lease_ids:
            b("delete", lease_id)
        assert a("listed") == []
        a("create", one)
        assert b("status", one)[1:] == [0, {**a("status", one)[2], "job_status": "PENDING"}]


@pytest.mark.parametrize("alignment", [1 * MIB, 2 * MIB, 4 * MIB])
def test_slots_too_small_for_large_sectors_are_refused(alignment: int) -> None:
    with pytest.raises(UnsupportedOperation, match="inside the next lease"):
        Geometry(4096, alignment)
