"""Lease.delete."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from leases import index, slot, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.lease import Lease
from protocol.errors import AcquireLockFailure, InvalidMetadata, NoSuchLease
from protocol.messages import JobMetadata
from protocol.record import JobStatus

JOB = "abcdef55-6666-4777-8888-999999999995"


async def create(store: EmbeddedStore, lease_id: str = JOB) -> Lease:
    metadata = JobMetadata(UUID(JOB), 0, JobStatus.PENDING)
    return await verbs.create(store, lease_id, metadata, now=1, hardware_id="h")


def whole_slot(store: EmbeddedStore, lease: Lease) -> bytes:
    with open(store.path, "rb") as file:
        file.seek(lease.offset)
        return file.read(store.geometry.alignment)


def record(store: EmbeddedStore, lease: Lease) -> bytes:
    with store.volume.open() as sectors:
        return store.volume.index(sectors).place(store.geometry.number(lease.offset)).record


async def test_a_deleted_lease_leaves_a_free_record_and_a_cleared_slot(
    store: EmbeddedStore,
) -> None:
    lease = await create(store)
    await create(store, "other")
    await verbs.delete(store, JOB)
    assert record(store, lease) == index.EMPTY
    assert whole_slot(store, lease) == slot.cleared(store.geometry).pack(store.geometry)
    with pytest.raises(NoSuchLease):
        await verbs.info(store, JOB)
    assert [listed.lease_id for listed in await verbs.leases(store)] == ["other"]
    assert (await create(store)).offset == lease.offset


async def test_a_lease_that_is_not_there_is_deleted_already(store: EmbeddedStore) -> None:
    await verbs.delete(store, "never-made")
    await verbs.delete(store, "never-made", force=True)


async def test_a_lease_behind_the_end_of_its_volume_is_not_deleted(store: EmbeddedStore) -> None:
    """Else it would be back, when the volume is."""
    lease = await create(store)
    content = Path(store.path).read_bytes()
    os.truncate(store.path, lease.offset)
    with pytest.raises(InvalidMetadata, match="cut off before the slot"):
        await verbs.delete(store, JOB)
    Path(store.path).write_bytes(content)
    await verbs.delete(store, JOB)
    with pytest.raises(NoSuchLease):
        await verbs.info(store, JOB)


async def test_deleting_a_held_lease_changes_nothing(store: EmbeddedStore) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        before = whole_slot(store, lease), record(store, lease)
        with pytest.raises(AcquireLockFailure) as caught:
            await verbs.delete(store, JOB)
        assert caught.value.code == 651
        await grant.check()
        assert (whole_slot(store, lease), record(store, lease)) == before


async def test_force_marks_only_the_record_of_a_held_lease(store: EmbeddedStore) -> None:
    lease = await create(store)
    async with hold(store, lease):
        before = whole_slot(store, lease)
        await verbs.delete(store, JOB, force=True)
        assert whole_slot(store, lease) == before
        marked = index.record(JOB, lease.offset, updating=True)
        assert record(store, lease) == marked
        await verbs.delete(store, JOB)
        await verbs.delete(store, "other")
        assert (whole_slot(store, lease), record(store, lease)) == (before, marked)
    await verbs.delete(store, "other")
    assert record(store, lease) == index.EMPTY
    assert whole_slot(store, lease) == slot.cleared(store.geometry).pack(store.geometry)


async def test_the_value_block_goes_first_and_the_slot_last(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rebuild after a crash must not find a job in a slot that no record names."""
    lease = await create(store)
    seen = []
    at = store.geometry.lvb_offset

    def look(verb: str, step: str) -> None:
        data = whole_slot(store, lease)
        seen.append(
            (
                step,
                data[at : at + 512].strip(b"\0") != b"",
                record(store, lease) != index.EMPTY,
                JOB.encode() in data,
                store.look(lease),
            )
        )

    monkeypatch.setattr("leases.deletion.reached", look)
    await verbs.delete(store, JOB)
    assert seen == [
        # step, value block, record, leader, owners
        ("locked", True, True, True, []),
        ("acquired", True, True, True, [1]),
        ("lvb", False, True, True, [1]),
        ("record", False, False, True, [1]),
        ("released", False, False, True, []),
        ("slot", False, False, False, []),
    ]


async def test_verbs_leave_no_descriptor_behind(store: EmbeddedStore) -> None:
    await create(store)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(5):
        await create(store, str(number))
        await verbs.status(store, str(number))
        await verbs.delete(store, str(number))
        with pytest.raises(NoSuchLease):
            await verbs.info(store, str(number))
    assert len(os.listdir("/proc/self/fd")) == before
