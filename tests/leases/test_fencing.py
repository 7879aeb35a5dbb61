"""Lease.fence."""

from typing import Any

import pytest
import trio

from leases import verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.lease import Lease
from protocol.errors import (
    AcquireLockFailure,
    Error,
    JobStatusMismatch,
    NoSuchLease,
    UnsupportedOperation,
)
from protocol.record import Expectation, JobRecord, JobStatus
from tests.leases.vectors import load

VECTORS = load("lvb")
HOST = VECTORS["inputs"]["host_hardware_id"]
JOB = "abcdef55-6666-4777-8888-999999999995"
EXPECTED = Expectation(JOB, 0)


async def create(store: EmbeddedStore, block: bytes = b"") -> Lease:
    """A lease with this in its value block."""
    lease = await verbs.create(store, "a", None, now=1, hardware_id="h")
    with store.volume.open(write=True) as sectors:
        sector = block.ljust(store.geometry.sector, b"\0")
        sectors.write(lease.offset + store.geometry.lvb_offset, sector)
    return lease


def block(store: EmbeddedStore, lease: Lease) -> bytes:
    with store.volume.open() as sectors:
        return sectors.read(lease.offset + store.geometry.lvb_offset, store.geometry.sector)[:512]


async def fence(store: EmbeddedStore, expected: Expectation = EXPECTED) -> None:
    await verbs.fence(store, "a", expected, now=1700000300, hardware_id=HOST)


TABLE = [case for case in VECTORS["fence"] if "lvb_before" in case]


@pytest.mark.parametrize("case", TABLE, ids=lambda c: c["name"])
async def test_a_record_is_fenced_or_refused_as_by_vdsm(
    store: EmbeddedStore, case: dict[str, Any]
) -> None:
    lease = await create(store, case["lvb_before"].encode())
    passed = case["passed"]
    expected = Expectation(passed["job_id"], passed["generation"], JobStatus(passed["job_status"]))
    if case["result"] == "ok":
        await fence(store, expected)
    else:
        with pytest.raises(Error) as caught:
            await fence(store, expected)
        assert caught.value.code == case["result"]["code"]
    assert block(store, lease).rstrip(b"\0").decode() == case["lvb_after"]
    assert await store.owners(lease) == []


async def test_a_second_fence_is_refused(store: EmbeddedStore) -> None:
    await create(store, b"")
    await fence(store)
    with pytest.raises(JobStatusMismatch) as caught:
        await fence(store)
    assert caught.value.code == 912


async def test_a_held_lease_is_not_fenced(store: EmbeddedStore) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        with pytest.raises(AcquireLockFailure):
            await fence(store)
        await grant.check()


async def test_a_lease_that_is_gone_is_named(store: EmbeddedStore) -> None:
    with pytest.raises(NoSuchLease):
        await fence(store)


async def test_a_lease_that_moved_between_lookup_and_acquire_is_not_fenced(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store, b'{"type": "JOB"}')
    real = EmbeddedStore.take

    def take(self: EmbeddedStore, taken: Lease) -> Any:
        grant = real(self, taken)
        with open(store.path, "r+b") as file:  # the record, not the slot
            file.seek(store.geometry.index_offset + 512)
            file.write(b"other")
        return grant

    monkeypatch.setattr(EmbeddedStore, "take", take)
    with pytest.raises(NoSuchLease):
        await fence(store)
    assert block(store, lease).startswith(b'{"type": "JOB"}')
    assert await store.owners(lease) == []


@pytest.mark.parametrize("empty", [b"", b"{}"])
async def test_a_published_lease_without_a_record_is_fenced_as_pending(
    store: EmbeddedStore, empty: bytes
) -> None:
    await create(store, empty)
    await fence(store, Expectation(JOB, 999))
    assert (await verbs.status(store, "a")).metadata == {
        "type": "JOB",
        "generation": 0,
        "job_id": JOB,
        "job_status": "FENCED",
        "created": 1700000300,
        "modified": 1700000300,
        "host_hardware_id": HOST,
    }


@pytest.mark.parametrize("status", [s for s in JobStatus if s is not JobStatus.PENDING])
async def test_a_lease_without_a_record_is_nothing_but_pending(
    store: EmbeddedStore, status: JobStatus
) -> None:
    lease = await create(store)
    with pytest.raises(UnsupportedOperation):
        await fence(store, Expectation(JOB, 0, status))
    assert block(store, lease) == bytes(512)


async def test_a_lease_without_a_record_is_fenced_only_under_the_index_lease(
    store: EmbeddedStore,
) -> None:
    lease = await create(store)
    index = await store.acquire_index()
    with trio.move_on_after(0.1) as scope:
        await fence(store)
    assert scope.cancelled_caught
    assert block(store, lease) == bytes(512)
    assert await store.owners(lease) == []  # it does not wait with the lease in its hands
    await store.release(index)
    await fence(store)


async def test_a_fence_does_not_need_the_index_lease_otherwise(store: EmbeddedStore) -> None:
    record = JobRecord.pending(JOB, 0, now=1, hardware_id="h")
    lease = await create(store)
    async with hold(store, lease) as grant:
        await grant.write(record)
    index = await store.acquire_index()
    await fence(store)
    await store.release(index)
    assert b"FENCED" in block(store, lease)


async def test_garbage_is_not_fenced(store: EmbeddedStore) -> None:
    lease = await create(store, b"garbage")
    with pytest.raises(Error) as caught:
        await fence(store)
    assert caught.value.code == 703
    assert block(store, lease).startswith(b"garbage\0")
