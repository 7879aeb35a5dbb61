"""The sanlock store, where its daemon does not answer or somebody hurts the storage.

This process is one of host A. What holds for every store: tests/conformance.
"""

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from leases import daemon, sanlock_store, verbs
from leases.daemon import Refused
from leases.geometry import DEFAULT
from leases.grant import Grant
from leases.hold import hold
from leases.lease import Lease
from leases.sanlock_store import SanlockStore
from leases.volume import LeaseVolume, format_volume
from protocol.errors import (
    AcquireLockFailure,
    InvalidMetadata,
    LeaseLost,
    ReleaseLockFailure,
)
from protocol.record import Expectation
from tests.sanlock_hosts import Hosts
from tests.servers import LOOK

pytestmark = pytest.mark.tools("sanlock")

OTHER = "55555555-2222-4333-8444-555555555555"
SOON = 4.0  # seconds; less than what the daemon is given


@pytest.fixture
def store(hosts: Hosts, tmp_path: Path) -> Iterator[SanlockStore]:
    store = SanlockStore(hosts.sd_id, str(tmp_path / "xleases"), str(hosts.ids))
    format_volume(store.volume, now=1700000000, leases=2)
    yield store
    for path in tmp_path.glob("xleases*"):  # pytest would keep them
        path.unlink()


async def create(store: SanlockStore) -> Lease:
    return await verbs.create(store, "a", None, now=1, hardware_id="h")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Mute:
    """A daemon that answers nothing more on any registration, until that is shut down."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def __call__(self, fd: int, lease: Lease) -> None:
        with socket.socket(fileno=os.dup(fd)) as there:
            self.asked.set()
            assert there.recv(1) == b""  # it was shut down
        raise Refused(errno.ECONNRESET, "nobody is there")


@pytest.fixture
def mute(monkeypatch: pytest.MonkeyPatch) -> Mute:
    """For acquires."""
    mute = Mute()
    monkeypatch.setattr(daemon, "acquire", mute)
    return mute


# --- an acquire that is not answered -------------------------------------------------------------


async def test_an_acquire_that_is_not_answered_can_be_cancelled(
    store: SanlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    before = descriptors()
    with monkeypatch.context() as patch:
        mute = Mute()
        patch.setattr(daemon, "acquire", mute)
        with trio.fail_after(SOON), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.acquire, lease)
                await trio.to_thread.run_sync(mute.asked.wait)
                scope.cancel()
        assert scope.cancelled_caught
    assert descriptors() == before
    async with hold(store, lease):
        pass


@pytest.mark.parametrize("verb", ["create", "fence", "delete"])
async def test_a_verb_that_waits_for_the_daemon_can_be_cancelled_before_it_changes_anything(
    store: SanlockStore, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    mute = Mute()
    acquire = daemon.acquire

    def mute_for_leases(fd: int, wanted: Lease) -> None:
        if verb == "create" or wanted == lease:
            mute(fd, wanted)
        acquire(fd, wanted)

    async def work() -> None:
        match verb:
            case "create":
                await verbs.create(store, "b", None, now=1, hardware_id="h")
            case "fence":
                expected = Expectation("a", 0)
                await verbs.fence(store, "a", expected, now=1, hardware_id="h")
            case "delete":
                await verbs.delete(store, "a")

    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(daemon, "acquire", mute_for_leases)
        with trio.fail_after(SOON), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await trio.to_thread.run_sync(mute.asked.wait)
                scope.cancel()
        assert scope.cancelled_caught
    assert descriptors() == before
    assert [one.lease_id for one in await verbs.leases(store)] == ["a"]
    assert (await verbs.status(store, "a")).metadata == {}
    await store.release(await store.acquire_index(wait=0))
    await store.release(await store.acquire(lease))


async def test_an_acquire_that_is_not_answered_in_time_is_one_that_failed(
    store: SanlockStore, monkeypatch: pytest.MonkeyPatch, mute: Mute
) -> None:
    lease = store.volume.lease("a", 0)
    monkeypatch.setattr(sanlock_store, "ACQUIRE_TIME", 0.2)
    monkeypatch.setattr(SanlockStore, "_check_free", lambda *arguments: None)
    before = descriptors()
    with (
        trio.fail_after(SOON),
        pytest.raises(AcquireLockFailure, match="has not answered for 0") as caught,
    ):
        await store.acquire(lease)
    assert caught.value.code == 651
    assert descriptors() == before


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY])
async def test_a_lease_that_another_process_of_this_host_gives_up_just_now_is_waited_for(
    store: SanlockStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    acquire = daemon.acquire
    busy = [Refused(number, "busy")] * 3

    def acquire_later(fd: int, wanted: Lease) -> None:
        if busy:
            raise busy.pop()
        acquire(fd, wanted)

    monkeypatch.setattr(daemon, "acquire", acquire_later)
    async with hold(store, lease):
        assert busy == []


async def test_an_index_lease_that_is_not_answered_for_is_waited_for(
    store: SanlockStore, monkeypatch: pytest.MonkeyPatch, mute: Mute
) -> None:
    monkeypatch.setattr(sanlock_store, "ACQUIRE_TIME", 0.1)
    with trio.fail_after(SOON), pytest.raises(AcquireLockFailure, match="its index was in use"):
        await store.acquire_index(wait=0.3)


async def test_a_question_that_is_not_answered_can_be_left(
    monkeypatch: pytest.MonkeyPatch, store: SanlockStore
) -> None:
    lease = await create(store)
    answered = threading.Event()
    asked = threading.Event()

    def memberships(sanlock: object) -> list[object]:
        asked.set()
        answered.wait(20)
        return []

    monkeypatch.setattr(daemon, "memberships", lambda: daemon._answer(memberships))
    try:
        with trio.fail_after(SOON), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(store.acquire, lease)
                await trio.to_thread.run_sync(asked.wait)
                scope.cancel()
        assert scope.cancelled_caught
    finally:
        answered.set()
        left = daemon._Question._open
        assert left is not None  # so that nobody asks in vain
        await trio.to_thread.run_sync(left.wait)


# --- a release that is not answered --------------------------------------------------------------


async def test_a_release_that_is_not_answered_ends_and_leaves_the_rest_to_the_daemon(
    store: SanlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    before = descriptors()
    grant = await store.acquire(lease)
    with monkeypatch.context() as patch:
        patch.setattr(daemon, "release", Mute())
        patch.setattr(sanlock_store, "RELEASE_TIME", 0.2)
        with (
            trio.fail_after(SOON),
            pytest.raises(ReleaseLockFailure, match="has not answered for 0") as caught,
        ):
            await store.release(grant)
    assert caught.value.code == 660
    assert descriptors() == before
    with trio.fail_after(SOON):
        while await store.owners(lease):  # noqa: ASYNC110 - the daemon sees our end, and frees it
            await trio.sleep(LOOK)


async def test_a_release_is_not_cut_short_when_its_task_is_cancelled(
    store: SanlockStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker thread gives the index lease back, whatever becomes of the task."""
    release = daemon.release
    token = trio.lowlevel.current_trio_token()
    released: list[str] = []

    with trio.CancelScope() as scope:

        def slow(fd: int, held: Lease) -> None:
            token.run_sync_soon(scope.cancel)
            time.sleep(0.5)  # longer than a look
            release(fd, held)
            released.append(held.lease_id)

        monkeypatch.setattr(daemon, "release", slow)
        await store.under_index(Grant.verify)
    assert scope.cancel_called
    assert released == ["leasehold-index"]
    assert await store.owners(store.volume.index_lease()) == []


# --- the lease volume ----------------------------------------------------------------------------


async def test_a_lease_whose_volume_was_replaced_is_lost(store: SanlockStore) -> None:
    """Others do not see what is held in the old one."""
    lease = await create(store)
    grant = await store.acquire(lease)
    try:
        await grant.check()
        os.rename(store.path, store.path + ".old")
        with pytest.raises(LeaseLost, match="was replaced or removed"):
            await grant.check()
        format_volume(store.volume, now=1700000000, leases=2)
        with pytest.raises(LeaseLost, match="was replaced or removed"):
            await grant.write(None)
    finally:
        os.replace(store.path + ".old", store.path)
        await grant.check()
        await store.release(grant)


@pytest.mark.parametrize("slot", ["empty", "theirs"])
async def test_nothing_is_written_to_a_volume_of_another_domain(
    store: SanlockStore, slot: str
) -> None:
    """Not even an index lease, which volumes of other programs do not have."""
    other = LeaseVolume(store.path, OTHER, DEFAULT)
    format_volume(other, now=1700000000)
    if slot == "empty":
        with other.open(write=True) as sectors:
            sectors.write(DEFAULT.index_lock_offset, bytes(DEFAULT.sector))
    before = Path(store.path).read_bytes()
    with pytest.raises(InvalidMetadata, match=f"belongs to another domain, '{OTHER}'"):
        await store.acquire_index(wait=0)
    assert Path(store.path).read_bytes() == before


async def test_an_index_lease_that_is_missing_is_made(store: SanlockStore) -> None:
    with store.volume.open(write=True) as sectors:
        sectors.write(DEFAULT.index_lock_offset, bytes(DEFAULT.sector))
    await create(store)
    assert [one.lease_id for one in await verbs.leases(store)] == ["a"]
