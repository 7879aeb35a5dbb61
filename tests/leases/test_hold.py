"""hold: what comes out of it, and when the lease is free again."""

import os
import threading

import pytest
import trio

from leases import verbs
from leases.embedded import EmbeddedStore
from leases.grant import Grant
from leases.hold import hold
from leases.lease import Lease
from protocol.errors import LeaseLost, NoSuchLease, ReleaseLockFailure
from protocol.record import JobRecord


async def create(store: EmbeddedStore) -> Lease:
    return await verbs.create(store, "a", None, now=1, hardware_id="h")


@pytest.fixture
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leases.grant._WATCH_SECONDS", 0.01)


async def lose(store: EmbeddedStore, lease: Lease, failure: Exception | None = None) -> None:
    """A body that loses its lease, and fails when it is cut off for that."""
    async with hold(store, lease):
        os.rename(store.path, store.path + ".old")
        try:
            await trio.sleep_forever()
        finally:
            if failure:
                raise failure


async def test_an_error_of_the_body_comes_out_as_it_is(store: EmbeddedStore) -> None:
    lease = await create(store)
    with pytest.raises(ZeroDivisionError):
        async with hold(store, lease):
            1 / 0  # noqa: B018
    assert await store.owners(lease) == []


async def test_a_cancelled_body_gives_its_lease_back(store: EmbeddedStore) -> None:
    lease = await create(store)
    with trio.CancelScope() as scope:
        async with hold(store, lease):
            assert await store.owners(lease) == [1]
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert await store.owners(lease) == []


async def test_an_error_of_a_cancelled_body_is_not_lost(store: EmbeddedStore) -> None:
    lease = await create(store)

    async def cancelled() -> None:
        with trio.CancelScope() as scope:
            async with hold(store, lease):
                scope.cancel()
                try:
                    await trio.sleep_forever()
                finally:
                    1 / 0  # noqa: B018

    with pytest.raises(ZeroDivisionError):
        await cancelled()
    assert await store.owners(lease) == []


@pytest.mark.usefixtures("quick_watch")
async def test_a_lost_lease_cuts_its_body_off(store: EmbeddedStore) -> None:
    with trio.fail_after(20), pytest.raises(LeaseLost):
        await lose(store, await create(store))


@pytest.mark.usefixtures("quick_watch")
async def test_a_body_that_fails_for_a_lost_lease_says_that_it_was_lost(
    store: EmbeddedStore,
) -> None:
    with trio.fail_after(20), pytest.raises(LeaseLost) as caught:
        await lose(store, await create(store), ValueError("the tool was stopped"))
    assert isinstance(caught.value.__cause__, ValueError)


async def test_a_failing_release_after_success_is_an_error(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = EmbeddedStore.give

    def give(self: EmbeddedStore, grant: Grant) -> None:
        real(self, grant)
        raise ReleaseLockFailure("a", "broken")

    monkeypatch.setattr(EmbeddedStore, "give", give)
    with pytest.raises(ReleaseLockFailure) as caught:
        async with hold(store, lease):
            pass
    assert caught.value.code == 660
    with pytest.raises(ZeroDivisionError) as body:  # the body's own error wins
        async with hold(store, lease):
            1 / 0  # noqa: B018
    assert "broken" in str(body.value.__notes__)


async def test_a_release_that_hangs_is_bounded(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    storage_is_back = threading.Event()
    done = threading.Event()
    real = EmbeddedStore.give

    def give(self: EmbeddedStore, grant: Grant) -> None:
        storage_is_back.wait(3)
        real(self, grant)
        done.set()

    monkeypatch.setattr(EmbeddedStore, "give", give)
    monkeypatch.setattr("leases.hold.RELEASE_TIMEOUT", 0.05)
    try:
        with trio.fail_after(20), pytest.raises(ReleaseLockFailure, match="no answer"):
            async with hold(store, lease):
                pass
    finally:
        storage_is_back.set()
        assert done.wait(10)


@pytest.mark.usefixtures("quick_watch")
async def test_a_look_that_hangs_does_not_keep_the_lease(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    storage_is_back = threading.Event()
    looking = threading.Event()

    def verify(self: Grant) -> None:
        looking.set()
        storage_is_back.wait(60)

    monkeypatch.setattr(Grant, "verify", verify)
    try:
        with trio.fail_after(20):
            async with hold(store, lease):
                await trio.to_thread.run_sync(looking.wait)
            assert await store.owners(lease) == []
        assert not storage_is_back.is_set()
    finally:
        storage_is_back.set()


async def test_an_aborted_body_can_still_record_its_end(store: EmbeddedStore) -> None:
    lease = await create(store)
    with trio.CancelScope() as scope:
        async with hold(store, lease) as grant:
            scope.cancel()
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await grant.write(JobRecord({"job_status": "FAILED"}))
    assert (await verbs.status(store, "a")).metadata == {"job_status": "FAILED"}


async def test_an_unpublished_lease_is_not_held(store: EmbeddedStore) -> None:
    lease = await create(store)
    await verbs.delete(store, "a")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(NoSuchLease):
        async with hold(store, lease):
            raise AssertionError
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_write_that_hangs_is_left_behind_and_the_lease_kept_from_others(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for storage that does not answer: that write may still land, so nobody else may
    get the lease before."""
    lease = await create(store)
    answered = threading.Event()
    put = Grant.put

    def hanging(grant: Grant, record: JobRecord | None) -> None:
        answered.wait(10)
        put(grant, record)

    monkeypatch.setattr(Grant, "put", hanging)
    monkeypatch.setattr("leases.hold.RELEASE_TIMEOUT", 0.1)

    async def given_up() -> None:
        async with hold(store, lease) as grant:
            with trio.move_on_after(0.05) as scope:
                await grant.write(JobRecord({"type": "JOB"}))
            assert scope.cancelled_caught

    try:
        with pytest.raises(ReleaseLockFailure):
            await given_up()
        assert await store.owners(lease) == [1]
    finally:
        answered.set()


async def test_a_write_that_ends_late_lets_the_lease_go(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    answered = threading.Event()
    put = Grant.put

    def slow(grant: Grant, record: JobRecord | None) -> None:
        answered.wait(10)
        put(grant, record)

    monkeypatch.setattr(Grant, "put", slow)
    async with hold(store, lease) as grant:
        with trio.move_on_after(0.05) as scope:
            await grant.write(JobRecord({"type": "JOB"}))
        assert scope.cancelled_caught
        answered.set()
    assert await store.owners(lease) == []
    assert (await verbs.status(store, "a")).metadata == {"type": "JOB"}


@pytest.mark.usefixtures("quick_watch")
async def test_a_lease_that_is_lost_after_its_result_was_recorded_loses_nothing(
    store: EmbeddedStore,
) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        with grant.recording():
            await grant.write(JobRecord({"job_status": "SUCCEEDED"}))
        os.rename(store.path, store.path + ".old")
        await trio.sleep(0.1)  # it is looked at every 0.01 s: a loss would cut us off here
    os.rename(store.path + ".old", store.path)
    assert (await verbs.status(store, "a")).metadata == {"job_status": "SUCCEEDED"}
    assert await store.owners(lease) == []


@pytest.mark.usefixtures("quick_watch")
async def test_a_lease_that_is_lost_while_its_result_is_recorded_is_lost_when_that_sees_it(
    store: EmbeddedStore,
) -> None:
    lease = await create(store)

    async def recorded() -> None:
        async with hold(store, lease) as grant:
            with grant.recording():
                os.rename(store.path, store.path + ".old")
                await trio.sleep(0.1)  # the watcher sees it, and waits
                await grant.write(JobRecord({"job_status": "SUCCEEDED"}))

    with pytest.raises(LeaseLost, match=r"removed$"):  # nothing was written
        await recorded()
    os.rename(store.path + ".old", store.path)
    assert (await verbs.status(store, "a")).metadata == {}
