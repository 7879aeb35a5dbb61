"""Lease.rebuild_leases: each case, and leases that are held."""

import os
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from leases import index, lvb, slot, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.index import EMPTY, Listed
from leases.leader import Leader
from leases.sector import Sectors
from protocol.errors import InvalidMetadata, NoSuchLease, TruncatedIndex
from protocol.messages import JobMetadata
from protocol.record import JobRecord, JobStatus
from tests.leases.conftest import SD_ID, SLOTS
from tests.leases.damaged import GARBAGE, NOW, Volume, create, rebuilt, usable

JOB = "abcdef50-6666-4777-8888-999999999991"
OTHER = "abcdef50-6666-4777-8888-999999999992"


@pytest.fixture
def volume(store: EmbeddedStore) -> Volume:
    return Volume(store)


# --- each case ----------------------------------------------------------------------------------


async def test_a_volume_in_order_changes_only_its_mtime(volume: Volume) -> None:
    store = volume.store
    await create(store, "a")
    await create(store, JOB, JOB)
    await create(store, "b")
    await verbs.delete(store, "b")
    before = volume.whole()
    assert await rebuilt(store) == {"kept": ["a", JOB]}
    at = volume.geometry.index_offset
    stamped = before[:at] + index.metadata(SD_ID, NOW) + before[at + 512 :]
    assert volume.whole() == stamped
    assert index.metadata(SD_ID, NOW) != before[at : at + 512]


async def test_an_interrupted_update_is_ended(volume: Volume) -> None:
    store = volume.store
    await create(store, "a")
    volume.write(volume.geometry.index_offset + 70, b"u")
    with pytest.raises(InvalidMetadata):
        await verbs.info(store, "a")
    assert await rebuilt(store) == {"kept": ["a"]}
    await usable(store, "a")


async def test_an_index_of_another_lockspace_is_not_rebuilt(volume: Volume) -> None:
    volume.write(volume.geometry.index_offset, index.metadata(SD_ID.replace("1", "9"), 0))
    before = volume.whole()
    with pytest.raises(InvalidMetadata, match="belongs to"):
        await verbs.rebuild(volume.store, now=NOW)
    assert volume.whole() == before


async def test_a_volume_shorter_than_its_index_is_not_rebuilt(volume: Volume) -> None:
    os.truncate(volume.store.path, volume.geometry.index_offset + 4096)
    before = volume.whole()
    with pytest.raises(TruncatedIndex):
        await verbs.rebuild(volume.store, now=NOW)
    assert volume.whole() == before


@pytest.mark.parametrize(
    "damage", [GARBAGE, bytes(64), EMPTY[:-1] + b"?"], ids=["?", "zero", "end"]
)
async def test_a_lease_with_a_damaged_record_is_restored(volume: Volume, damage: bytes) -> None:
    """With or without a job: nobody frees a lease by damaging its record."""
    store = volume.store
    await create(store, "plain")
    await create(store, JOB, JOB)
    records = volume.record(0), volume.record(1)
    volume.set_record(0, damage)
    volume.set_record(1, damage)
    slots = volume.whole_slot(0), volume.whole_slot(1)
    assert await rebuilt(store) == {"restored": ["plain", JOB]}
    assert (volume.record(0), volume.record(1)) == records
    assert (volume.whole_slot(0), volume.whole_slot(1)) == slots
    assert await usable(store, "plain") == {}
    assert (await usable(store, JOB))["job_id"] == JOB


@pytest.mark.parametrize("status", JobStatus)
async def test_a_job_without_a_record_is_restored(volume: Volume, status: JobStatus) -> None:
    store = volume.store
    await create(store, "first")
    await verbs.create(store, JOB, JobMetadata(UUID(JOB), 7, status), now=1, hardware_id="h")
    record, content = volume.record(1), volume.whole_slot(1)
    volume.set_record(1, EMPTY)
    assert await rebuilt(store) == {"kept": ["first"], "restored": [JOB]}
    assert (volume.record(1), volume.whole_slot(1)) == (record, content)
    found = await usable(store, JOB)
    assert (found["job_status"], found["generation"]) == (status, 7)


@pytest.mark.parametrize("block", [bytes(512), b"?" * 512, b'{"type": "JOB"}'.ljust(512, b"\0")])
async def test_a_slot_without_a_record_and_a_job_is_cleared(volume: Volume, block: bytes) -> None:
    store = volume.store
    await create(store, "gone")
    volume.set_record(0, EMPTY)
    volume.set_block(0, block)
    assert await rebuilt(store) == {"cleared": ["gone"]}
    assert volume.whole_slot(0) == slot.cleared(volume.geometry).pack(volume.geometry)
    assert volume.record(0) == EMPTY
    assert await verbs.leases(store) == []


@pytest.mark.parametrize("record", [EMPTY, GARBAGE], ids=["free", "damaged"])
async def test_a_second_slot_of_a_lease_is_cleared(volume: Volume, record: bytes) -> None:
    """Even with a job in it: the lease that lookups find has the truth about that."""
    store = volume.store
    await create(store, JOB, JOB)
    block = lvb.encode(JobRecord.pending(JOB, 0, now=1, hardware_id="h"))
    for number in (1, 2):
        volume.set_slot(number, slot.fresh(volume.geometry, SD_ID, JOB, block))
        volume.set_record(number, record)
    first = volume.record(0), volume.whole_slot(0)
    assert await rebuilt(store) == {"kept": [JOB], "cleared": [JOB, JOB]}
    assert (volume.record(0), volume.whole_slot(0)) == first
    for number in (1, 2):
        assert volume.record(number) == EMPTY
        assert volume.whole_slot(number) == slot.cleared(volume.geometry).pack(volume.geometry)


async def test_of_two_slots_without_a_record_the_first_is_restored(volume: Volume) -> None:
    store = volume.store
    for number in (1, 2):
        volume.set_slot(number, slot.fresh(volume.geometry, SD_ID, "a"))
        volume.set_record(number, GARBAGE)
    assert await rebuilt(store) == {"restored": ["a"], "cleared": ["a"]}
    assert (await verbs.info(store, "a")).offset == volume.geometry.offset(1)


@pytest.mark.parametrize("garbage", [EMPTY, GARBAGE], ids=["free", "damaged"])
async def test_a_damaged_record_without_a_lease_is_freed(volume: Volume, garbage: bytes) -> None:
    volume.set_slot(0, slot.cleared(volume.geometry))
    volume.set_record(0, garbage)
    volume.set_record(1, garbage)  # its slot was never written
    slots = volume.whole_slot(0), volume.whole_slot(1)
    assert set(await rebuilt(volume.store)) <= {"cleared"}
    assert (volume.record(0), volume.record(1)) == (EMPTY, EMPTY)
    assert (volume.whole_slot(0), volume.whole_slot(1)) == slots
    assert await verbs.leases(volume.store) == []


@pytest.mark.parametrize("leader", [bytes(512), b"?" * 512, None], ids=["zero", "?", "cleared"])
async def test_a_lease_whose_leader_is_lost_gets_a_new_slot_and_keeps_its_job(
    volume: Volume, leader: bytes | None
) -> None:
    store = volume.store
    await create(store, JOB, JOB)
    await create(store, "plain")
    whole = volume.whole_slot(0), volume.whole_slot(1)
    for number in (0, 1):
        lost = slot.cleared(volume.geometry).head if leader is None else leader
        volume.set_leader(number, lost)
    assert await rebuilt(store) == {"written": [JOB, "plain"]}
    assert (volume.whole_slot(0), volume.whole_slot(1)) == whole
    assert (await usable(store, JOB))["job_status"] == "PENDING"
    assert await usable(store, "plain") == {}


async def test_of_two_names_that_of_the_index_wins(volume: Volume) -> None:
    """And the value block is not taken for one of that lease."""
    store = volume.store
    await create(store, JOB, JOB)
    record = index.record(OTHER, volume.geometry.offset(0))
    volume.set_record(0, record)
    assert await rebuilt(store) == {"written": [OTHER]}
    assert volume.record(0) == record
    assert volume.whole_slot(0) == slot.fresh(volume.geometry, SD_ID, OTHER).pack(volume.geometry)
    assert await usable(store, OTHER) == {}


async def test_a_slot_of_another_lockspace_is_no_lease_of_this_one(volume: Volume) -> None:
    store = volume.store
    block = lvb.encode(JobRecord.pending(JOB, 0, now=1, hardware_id="h"))
    foreign = slot.fresh(volume.geometry, SD_ID.replace("1", "9"), JOB, block)
    for number, record in enumerate([EMPTY, GARBAGE, index.record(JOB, 0)]):
        volume.set_slot(number, foreign)
        volume.set_record(number, record)
    assert await rebuilt(store) == {"cleared": [None, None], "written": [JOB]}
    assert await usable(store, JOB) == {}


async def test_the_offset_in_a_record_is_only_informative(volume: Volume) -> None:
    await create(volume.store, "a")
    record = index.record("a", 9999999)
    volume.set_record(0, record)
    assert await rebuilt(volume.store) == {"kept": ["a"]}
    assert volume.record(0) == record


async def test_a_lease_with_two_records_keeps_the_one_that_its_slot_confirms(
    volume: Volume,
) -> None:
    store = volume.store
    await create(store, "a")
    await create(store, JOB, JOB)
    volume.set_record(0, index.record(JOB, volume.geometry.offset(0)))
    volume.set_record(2, index.record(JOB, volume.geometry.offset(2)))
    volume.set_slot(2, slot.fresh(volume.geometry, SD_ID, JOB))
    # The slot of the first is that of "a", which no other record names: its record comes back.
    assert await rebuilt(store) == {"restored": ["a"], "kept": [JOB], "cleared": [JOB]}
    assert (await verbs.info(store, JOB)).offset == volume.geometry.offset(1)
    assert (await usable(store, JOB))["job_id"] == JOB
    await usable(store, "a")


async def test_records_behind_the_end_of_the_volume_are_emptied(volume: Volume) -> None:
    store = volume.store
    await create(store, "a")
    await create(store, "b")
    os.truncate(store.path, volume.geometry.offset(1) + 4096)  # the slot of b is cut off
    volume.set_record(3959, index.record("c", 0))
    volume.set_record(77, GARBAGE)
    assert await rebuilt(store) == {"kept": ["a"]}
    after = volume.read(volume.geometry.index_offset + 512, 3960 * 64)
    assert after[64:] == EMPTY * 3959
    assert os.path.getsize(store.path) == volume.geometry.offset(1) + 4096


# --- what is held, or was deleted while it was --------------------------------------------------


async def test_a_lease_deleted_by_force_stays_deleted(volume: Volume) -> None:
    """Whether somebody holds it still or not; its slot is used again as before."""
    store = volume.store
    await create(store, JOB, JOB)
    async with hold(store, await verbs.info(store, JOB)) as grant:
        await verbs.delete(store, JOB, force=True)
        before = volume.record(0), volume.whole_slot(0)
        assert await rebuilt(store) == {"kept": [JOB]}
        assert (volume.record(0), volume.whole_slot(0)) == before
        await grant.check()
    assert await rebuilt(store) == {"kept": [JOB]}
    assert await verbs.leases(store) == [Listed(JOB, volume.geometry.offset(0), True)]
    await verbs.delete(store, JOB)
    assert await verbs.leases(store) == []


async def test_the_slot_of_a_lease_deleted_by_force_is_not_written_again(volume: Volume) -> None:
    """The sweep that clears slot and record was killed in between."""
    store = volume.store
    volume.set_record(0, index.record(JOB, 0, updating=True))
    volume.set_slot(0, slot.cleared(volume.geometry))
    before = volume.whole_slot(0)
    assert await rebuilt(store) == {"kept": [JOB]}
    assert volume.whole_slot(0) == before
    await verbs.delete(store, "any")
    assert volume.record(0) == EMPTY


async def test_a_damaged_record_keeps_its_flag(volume: Volume) -> None:
    """Its lease was deleted while held: it must not come back."""
    store = volume.store
    await create(store, JOB, JOB)
    record = index.record(JOB, volume.geometry.offset(0), updating=True)
    volume.set_record(0, b"\xff" + record[1:])
    assert await rebuilt(store) == {"restored": [JOB]}
    assert volume.record(0) == record
    with pytest.raises(NoSuchLease):
        await verbs.info(store, JOB)


async def held_through(volume: Volume, damage: Callable[[], None]) -> dict[str, list[str | None]]:
    """Rebuild while the job of slot 0 is held and then damaged. Its slot stays as it is."""
    store = volume.store
    await create(store, JOB, JOB)
    async with hold(store, await verbs.info(store, JOB)) as grant:
        damage()
        before = volume.whole_slot(0)
        found = await rebuilt(store)
        assert volume.whole_slot(0) == before
        assert store.look(grant.lease) == [1]
    return found


@pytest.mark.parametrize("record", [EMPTY, GARBAGE], ids=["free", "damaged"])
async def test_a_held_lease_gets_its_record_back_and_ends_as_if_nothing_had_been(
    volume: Volume, record: bytes
) -> None:
    store = volume.store
    await create(store, JOB, JOB)
    async with hold(store, await verbs.info(store, JOB)) as grant:
        volume.set_record(0, record)
        before = volume.whole_slot(0)
        assert await rebuilt(store) == {"restored": [JOB]}
        assert volume.whole_slot(0) == before
        assert (await verbs.status(store, JOB)).owners == [1]
        ended = (await grant.read() or JobRecord({})).ended(
            JobStatus.SUCCEEDED, now=2, hardware_id="h"
        )
        await grant.write(ended)
    found = await usable(store, JOB)
    assert (found["job_status"], found["generation"]) == ("SUCCEEDED", 1)


async def test_a_held_slot_is_never_cleared(volume: Volume) -> None:
    def damage() -> None:
        volume.set_record(0, EMPTY)
        volume.set_block(0, bytes(512))

    assert await held_through(volume, damage) == {"held": [JOB]}
    assert volume.record(0) == EMPTY
    assert await rebuilt(volume.store) == {"cleared": [JOB]}


async def test_a_held_slot_is_never_cleared_for_a_second_record(volume: Volume) -> None:
    def damage() -> None:
        volume.set_slot(1, slot.fresh(volume.geometry, SD_ID, JOB))
        volume.set_record(1, index.record(JOB, 0))
        volume.set_record(0, GARBAGE)

    assert await held_through(volume, damage) == {"held": [JOB], "kept": [JOB]}
    assert volume.record(0) == GARBAGE
    assert await rebuilt(volume.store) == {"cleared": [JOB], "kept": [JOB]}


async def test_a_held_slot_is_never_written(volume: Volume) -> None:
    def damage() -> None:
        volume.set_record(0, index.record(OTHER, 0))

    assert await held_through(volume, damage) == {"held": [OTHER]}
    assert await rebuilt(volume.store) == {"written": [OTHER]}


async def test_what_changes_before_the_slot_is_ours_counts(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that is just being written looks damaged; a holder ends a job just now."""
    store = volume.store
    await create(store, JOB, JOB)
    await create(store, OTHER, OTHER)
    whole, block = volume.whole_slot(0), volume.block(1)
    volume.set_leader(0, b"?" * 16)
    volume.set_record(1, EMPTY)
    volume.set_block(1, bytes(512))
    real = EmbeddedStore.take_slot

    def take_slot(self: EmbeddedStore, offset: int) -> Any:
        volume.set_leader(0, whole[:16])
        volume.set_block(1, block)
        return real(self, offset)

    monkeypatch.setattr(EmbeddedStore, "take_slot", take_slot)
    done = await verbs.rebuild(store, now=NOW)
    assert [one.lease_id for one in done.kept] == [JOB]
    assert [one.lease_id for one in done.restored] == [OTHER]
    assert volume.whole_slot(0) == whole


async def test_a_slot_that_cannot_be_read_is_left_as_it_is_and_hides_no_other(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = volume.store
    for number in range(SLOTS):
        await create(store, str(number))
    volume.set_record(1, GARBAGE)
    volume.set_record(2, GARBAGE)
    real = Sectors.read
    bad = volume.geometry.offset(1)

    def read(self: Sectors, offset: int, count: int) -> bytes:
        if offset == bad:
            raise OSError(5, "Input/output error")
        return real(self, offset, count)

    monkeypatch.setattr(Sectors, "read", read)
    done = await verbs.rebuild(store, now=NOW)
    [failed] = done.failed
    assert (failed.lease_id, failed.offset) == (None, bad)
    assert failed.error is not None
    assert "Input/output error" in failed.error
    assert volume.record(1) == GARBAGE
    assert [one.lease_id for one in done.restored] == ["2"]
    assert [one.lease_id for one in done.kept] == ["0", "3"]
    monkeypatch.undo()
    assert await rebuilt(store) == {"restored": ["1"], "kept": ["0", "2", "3"]}


async def test_the_version_of_a_lease_that_is_kept_or_restored_stays(volume: Volume) -> None:
    """No rebuild holds a lease as a job does: its leader is not written."""
    store = volume.store
    for name in ("a", "b"):
        await create(store, name)
        async with hold(store, await verbs.info(store, name)):
            pass
    volume.set_record(1, GARBAGE)
    assert await rebuilt(store) == {"kept": ["a"], "restored": ["b"]}
    for number in (0, 1):
        assert Leader.unpack(volume.whole_slot(number)[:512]).version == 1
