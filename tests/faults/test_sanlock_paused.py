"""A host whose daemon is stopped for too long writes nothing any more to what others may have."""

import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from leases import header
from leases.store import Store
from tests.conformance.stores import Site, opened
from tests.faults.command import Command, command, new_job_id, until
from tests.faults.joined_domain import joined_domain
from tests.faults.peers import Ended, Failed, Peer, own_hosts, peer, site_of
from tests.sanlock_hosts import Hosts
from tests.servers import MIB, WAIT, pattern, raw_image

pytestmark = pytest.mark.tools("sanlock", "qemu-img")
SUCCEEDED = {"type": "JOB", "job_status": "SUCCEEDED", "generation": 1}
SIZE = 64 * MIB
LIMIT = MIB  # bytes per second: nobody is to wait for the end
DEAD = 60.0  # seconds after which a daemon that does not answer has failed the test
PATIENCE = 0.5  # seconds
AT_ONCE = 1.0
LATER = 5.0  # seconds in which a daemon that goes on has done all that it had begun


@pytest.fixture
def hurt(tmp_path: Path) -> Iterator[Hosts]:
    """Two hosts whose daemons may be stopped."""
    with own_hosts(tmp_path) as hosts:
        yield hosts


@pytest.fixture
def site(hurt: Hosts, tmp_path: Path) -> Iterator[Site]:
    with site_of(hurt, tmp_path) as made:
        yield made


@pytest.fixture
def leasehold(hurt: Hosts, tmp_path: Path) -> Iterator[Command]:
    """The command, with its leases in a domain of the two hosts."""
    with command(tmp_path) as made, joined_domain(hurt, made.home / "leases"):
        yield made


def sector(store: Store, lease_id: str) -> tuple[bytes, bytes]:
    """Leader and value block of a lease, as they stand on disk; of the leader what says whose it
    is, without who has written it last."""
    size = store.volume.geometry.sector
    with store.volume.open() as sectors:
        lease = store.volume.lookup(sectors, lease_id)
        block = sectors.read(lease.offset + store.volume.geometry.lvb_offset, size)
        return sectors.read(lease.offset, size)[: header.END], block


# --- its own job notices -------------------------------------------------------------------------


async def test_a_copy_ends_when_the_daemon_of_its_host_has_not_renewed_for_too_long(
    hurt: Hosts, leasehold: Command, tmp_path: Path
) -> None:
    """The daemon is there, but stopped; long before others may have the lease, the tool is gone."""
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    target = raw_image(tmp_path / "target.raw", SIZE)
    domain = leasehold.domain_folder()
    assert domain is not None
    job_id = new_job_id()
    order = ("copy", source, target, "--job-id", job_id, "--json", "--store", "sanlock")
    with (
        peer(hurt.b, Site("sanlock", str(Path(domain.xleases).parent), domain.ids)) as b,
        leasehold.started(*order, "--limit", LIMIT, environment=hurt.a.environment) as running,
    ):
        await until(lambda: leasehold.tools("qemu-img", "convert"))
        hurt.a.signal(signal.SIGSTOP)
        began = time.monotonic()
        await until(lambda: running.over or not leasehold.tools("qemu-img", "convert"))
        print(f"stopped {time.monotonic() - began:.1f} s after the daemon")  # pytest -rP
        assert b("status", job_id)[0] == [hurt.a.host_id]
        hurt.a.signal(signal.SIGCONT)
        end = await running.wait()
        assert (end.code, end.error["kind"]) == (1, "LeaseLost"), end
        b("until_free", job_id)
        assert b("status", job_id)[2]["job_status"] == "PENDING"
        b("fence", job_id)
        assert b("status", job_id)[2]["job_status"] == "FENCED"
    await leasehold.nothing_left()


def test_who_waits_for_a_daemon_that_is_stopped_can_leave(hurt: Hosts, site: Site) -> None:
    """It is stopped just before it is asked for the lease. When it goes on, it finds nobody there
    who wanted the lease, and keeps none."""
    lease_id = new_job_id()
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        b("create", lease_id)
        a.tell("stopping", "acquire", "hold_for", lease_id, PATIENCE)
        assert a.hear() == "reached"
        hurt.a.signal(signal.SIGSTOP)
        a.tell()
        seconds = a.hear()
        assert PATIENCE <= seconds < PATIENCE + AT_ONCE
        hurt.a.signal(signal.SIGCONT)
        take_at_last(b, lease_id)


def take_at_last(taker: Peer, lease_id: str) -> None:
    """Take a lease that another daemon has for a moment, or is about to have."""
    deadline = time.monotonic() + WAIT
    while True:
        try:
            taker("take", lease_id)
            return
        except Failed as e:
            if e.kind != "AcquireLockFailure" or time.monotonic() > deadline:
                raise


# --- others have it ------------------------------------------------------------------------------


def test_a_daemon_that_is_stopped_is_not_waited_for(hurt: Hosts, site: Site) -> None:
    """The binding would wait for ever, in a thread that nothing can interrupt."""
    lease_id = new_job_id()
    with peer(hurt.a, site) as a:
        a("create", lease_id)
        hurt.a.signal(signal.SIGSTOP)
        for _ in range(2):
            with pytest.raises(Failed) as caught:
                a("take", lease_id)
            assert caught.value.kind == "SanlockUnavailable"
        hurt.a.signal(signal.SIGCONT)
        take_when_it_answers(a, lease_id)


def take_when_it_answers(taker: Peer, lease_id: str) -> None:
    """Take a lease of a daemon that was stopped. One that was stopped too long has given up."""
    deadline = time.monotonic() + DEAD
    while time.monotonic() < deadline:
        try:
            taker("take", lease_id)
        except Failed as e:
            if e.kind == "SanlockUnavailable":
                continue
            if e.kind != "NotJoined":
                raise
        return
    raise AssertionError("it never answers again")


@pytest.mark.full
def test_a_host_that_was_paused_does_not_overwrite_a_fence(hurt: Hosts, site: Site) -> None:
    lease_id = new_job_id()
    store = opened(site)
    with peer(hurt.a, site) as a, peer(hurt.b, site) as b:
        b("create", lease_id)
        a("take", lease_id)
        hurt.a.signal(signal.SIGSTOP)
        print(f"given up after {b('until_free', lease_id):.0f} s")
        b("fence", lease_id)
        fenced = sector(store, lease_id)
        assert b"FENCED" in fenced[1]
        with pytest.raises(Failed) as caught:
            a("put", lease_id, {**SUCCEEDED, "job_id": lease_id})
        assert caught.value.kind == "LeaseLost"
        assert sector(store, lease_id) == fenced
        hurt.a.signal(signal.SIGCONT)
        give_or_die(a, lease_id)
        deadline = time.monotonic() + LATER
        while time.monotonic() < deadline:
            assert sector(store, lease_id)[1] == fenced[1]
            owners, _, metadata = b("status", lease_id)
            assert (owners, metadata["job_status"], metadata["generation"]) == ([], "FENCED", 1)


def give_or_die(holder: Peer, lease_id: str) -> None:
    """Release what is lost: the daemon may refuse it, or have killed the process for it."""
    with suppress(Failed, Ended):
        holder("give", lease_id)
