"""A process that changes the index stands still, or dies, and harms nobody who comes after it."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from leases.geometry import Geometry
from leases.index import INDEX_SIZE
from tests.conformance.stores import Site, opened
from tests.faults.command import new_job_id, until
from tests.faults.peers import Failed, Peer, own_hosts, peer, site_of
from tests.sanlock_hosts import Hosts

pytestmark = pytest.mark.tools("sanlock")
HELD = {"type": "JOB", "job_status": "PENDING", "by": "b"}


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[Hosts]:
    """Two hosts whose daemons may be stopped or killed."""
    with own_hosts(tmp_path) as hosts:
        yield hosts


@pytest.fixture
def site(hurt: Hosts, tmp_path: Path) -> Iterator[Site]:
    with site_of(hurt, tmp_path) as made:
        yield made


def picture(site: Site) -> bytes:
    """The index and the first slot, byte by byte, but for who wrote a leader last."""
    volume = opened(site).volume
    geometry: Geometry = volume.geometry
    with volume.open() as sectors:
        index = sectors.read(geometry.index_offset, INDEX_SIZE)
        slot = sectors.read(geometry.offset(0), geometry.alignment)
    return index + slot[:172] + slot[geometry.sector :]


def hold(holder: Peer) -> str:
    """A new lease in the first slot, which its peer holds and has written to."""
    lease_id = new_job_id()
    holder("create", lease_id)
    holder("take", lease_id)
    holder("put", lease_id, {**HELD, "job_id": lease_id})
    return lease_id


async def waits_for_the_daemon(pid: int) -> None:
    """Until a thread of the process has asked the daemon, and waits for the answer.

    Source: proc(5), /proc/pid/wchan.
    """

    def waits() -> bool:
        threads = Path(f"/proc/{pid}/task").glob("*/wchan")
        return any("unix_stream" in thread.read_text() for thread in threads)

    await until(waits)


async def test_an_acquire_that_outlives_its_creator_harms_no_lease(hurt: Hosts, site: Site) -> None:
    """It is queued in the daemon, which is stopped, when the creator is killed."""
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        a.tell("stopping", "acquire", "create", new_job_id())
        assert a.hear() == "reached"
        hurt.a.signal(signal.SIGSTOP)
        a.tell()
        await waits_for_the_daemon(a.popen.pid)
        a.kill()
        held = hold(b)
        before = picture(site)
        hurt.a.signal(signal.SIGCONT)
        with peer(hurt.a, site) as next_one:
            others(next_one)
        assert picture(site)[INDEX_SIZE:] == before[INDEX_SIZE:]
        assert b("load", held) == {**HELD, "job_id": held}
        b("put", held, {**HELD, "job_id": held})
        b("give", held)


def others(creator: Peer) -> None:
    """Leases come and go: the index lease is to be had again."""
    other = new_job_id()
    creator("create", other)
    creator("delete", other)


@pytest.mark.parametrize("step", ["locked", "slot"])
async def test_a_creator_that_died_beside_a_stopped_daemon_harms_no_lease(
    hurt: Hosts, site: Site, step: str
) -> None:
    """Until the daemon goes on, its host has the index lease; then the slot is written again."""
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        a.tell("stopping", step, "create", new_job_id())
        assert a.hear() == "reached"
        hurt.a.signal(signal.SIGSTOP)
        a.kill()
        b.tell("create", new_job_id())  # it waits for the index
        hurt.a.signal(signal.SIGCONT)
        b.hear()
        with peer(hurt.a, site) as next_one:
            [lease] = next_one("listed")
            next_one("delete", lease)
            held = hold(b)
            before = picture(site)
            others(next_one)
        assert picture(site)[INDEX_SIZE:] == before[INDEX_SIZE:]
        b("give", held)


@pytest.mark.full
@pytest.mark.parametrize("step", ["locked", "slot"])
def test_a_creator_that_lost_the_index_lease_writes_nothing_more(
    hurt: Hosts, site: Site, step: str
) -> None:
    """It stood still, its daemon died, and another host has used the slot and the record that it
    was about to write; nothing but the index lease could tell it so."""
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        a.tell("stopping", step, "create", new_job_id())
        assert a.hear() == "reached"
        a.signal(signal.SIGSTOP)
        hurt.a.kill()
        print(f"given up after {b('until_index_free'):.0f} s")  # pytest -rP shows it
        lease_id = new_job_id()
        b("create", lease_id)
        if step == "slot":
            b("delete", lease_id)
        before = picture(site)
        a.tell()
        a.signal(signal.SIGCONT)
        with pytest.raises(Failed) as caught:
            a.hear()
        assert caught.value.kind == "LeaseLost"
        assert picture(site) == before
        others(b)


@pytest.mark.full
def test_a_daemon_that_goes_on_after_it_was_given_up_harms_no_lease(
    hurt: Hosts, site: Site
) -> None:
    """Its creator died with a slot that was not published, and with the index lease."""
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        a.tell("stopping", "slot", "create", new_job_id())
        assert a.hear() == "reached"
        hurt.a.signal(signal.SIGSTOP)
        a.kill()
        b("until_index_free")
        held = hold(b)
        before = picture(site)
        with peer(hurt.b, site) as second:
            second.tell("stopping", "locked", "create", new_job_id())
            assert second.hear() == "reached"  # it has the index lease
            hurt.a.signal(signal.SIGCONT)
            with peer(hurt.a, site) as left:
                left("until_left")
            assert picture(site) == before
            second.tell()
            second.hear()
        b("put", held, {**HELD, "job_id": held})
        b("give", held)
