"""Lease.create."""

from pathlib import Path
from uuid import UUID

import pytest

from leases import change, index, range_lock, verbs
from leases.embedded import EmbeddedStore
from leases.grant import Grant
from leases.hold import hold
from leases.index import EMPTY
from leases.sector import Sectors
from leases.slot import Slot
from protocol.errors import BadParameter, LeaseExists, LeaseLost, NoSpace
from protocol.messages import JobMetadata
from protocol.record import Expectation, JobStatus
from tests.leases.conftest import SLOTS
from tests.leases.vectors import load

PENDING = load("lvb")["states"]["PENDING"]
JOB = PENDING["inputs"]["lease_id"]
HOST = load("lvb")["inputs"]["host_hardware_id"]
NOW = PENDING["inputs"]["now"]


def metadata(
    job: str = JOB, generation: int = 0, status: JobStatus = JobStatus.PENDING
) -> JobMetadata:
    return JobMetadata(UUID(job), generation, status)


async def create(store: EmbeddedStore, lease_id: str, given: JobMetadata | None) -> int:
    return (await verbs.create(store, lease_id, given, now=NOW, hardware_id=HOST)).offset


async def test_a_new_lease_has_the_value_block_that_vdsm_writes(store: EmbeddedStore) -> None:
    lease = await verbs.create(store, JOB, metadata(), now=NOW, hardware_id=HOST)
    assert lease == await verbs.info(store, JOB)
    assert (lease.sd_id, lease.path) == (store.sd_id, store.path)
    assert lease.offset == 3 * store.geometry.alignment
    with open(store.path, "rb") as file:
        file.seek(lease.offset + store.geometry.lvb_offset)
        assert file.read(512).hex() == PENDING["hex_512"]
    found = await verbs.status(store, JOB)
    assert (found.owners, found.version) == ([], 0)
    assert found.metadata == PENDING["vdsm_reads_back"]["metadata"]


async def test_a_lease_without_metadata_has_a_block_that_was_never_written(
    store: EmbeddedStore,
) -> None:
    await create(store, "a", None)
    assert (await verbs.status(store, "a")).metadata == {}


async def test_the_type_is_written_as_job_whatever_its_case(store: EmbeddedStore) -> None:
    await create(store, JOB, JobMetadata(UUID(JOB), 0, JobStatus.PENDING, type="job"))
    found = await verbs.status(store, JOB)
    assert found.metadata
    assert found.metadata["type"] == "JOB"


@pytest.mark.parametrize("name", ["", "x" * 49, "a b", "a\n", "ä", "a\0"], ids=repr)
async def test_a_name_that_no_lease_can_have_is_refused(store: EmbeddedStore, name: str) -> None:
    with pytest.raises(BadParameter, match="lease_id"):
        await create(store, name, None)


@pytest.mark.parametrize("name", ["x", "y" * 48, "!~", '{"\\'])
async def test_every_other_name_is_one(store: EmbeddedStore, name: str) -> None:
    offset = await create(store, name, None)
    assert (await verbs.info(store, name)).offset == offset
    async with hold(store, await verbs.info(store, name)):
        pass


@pytest.mark.parametrize("generation", [-1, 1000])
async def test_bad_metadata_is_refused_before_anything_is_written(
    store: EmbeddedStore, generation: int
) -> None:
    before = Path(store.path).read_bytes()
    with pytest.raises(BadParameter, match="metadata"):
        await create(store, JOB, metadata(generation=generation))
    assert Path(store.path).read_bytes() == before


@pytest.mark.parametrize("given", [metadata(), metadata(generation=999), None])
async def test_the_same_create_again_is_success_and_writes_nothing(
    store: EmbeddedStore, given: JobMetadata | None
) -> None:
    offset = await create(store, JOB, given)
    before = Path(store.path).read_bytes()
    again = await verbs.create(store, JOB, given, now=NOW + 9, hardware_id="other")
    assert again.offset == offset
    assert Path(store.path).read_bytes() == before


async def test_the_same_create_again_is_success_while_the_job_runs(store: EmbeddedStore) -> None:
    await create(store, JOB, metadata())
    async with hold(store, await verbs.info(store, JOB)) as grant:
        await create(store, JOB, metadata())
        await grant.check()


OTHER = "abcdef50-6666-4777-8888-999999999991"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (metadata(), metadata(OTHER)),
        (metadata(), metadata(generation=1)),
        (metadata(), metadata(status=JobStatus.FAILED)),
        (metadata(status=JobStatus.FAILED), metadata()),
        (metadata(status=JobStatus.FAILED), metadata(status=JobStatus.FAILED)),
        (metadata(), None),
        (None, metadata()),
    ],
)
async def test_a_lease_with_other_metadata_exists_already(
    store: EmbeddedStore, first: JobMetadata | None, second: JobMetadata | None
) -> None:
    await create(store, JOB, first)
    before = Path(store.path).read_bytes()
    with pytest.raises(LeaseExists):
        await create(store, JOB, second)
    assert Path(store.path).read_bytes() == before


async def test_the_lease_of_a_job_that_ended_is_not_made_again(store: EmbeddedStore) -> None:
    await create(store, JOB, metadata())
    await verbs.fence(store, JOB, Expectation(JOB, 0), now=NOW, hardware_id=HOST)
    with pytest.raises(LeaseExists):
        await create(store, JOB, metadata())


async def test_a_lease_with_garbage_in_its_block_exists_already(store: EmbeddedStore) -> None:
    offset = await create(store, JOB, metadata())
    with store.volume.open(write=True) as sectors:
        sectors.write(offset + store.geometry.lvb_offset, b"?" * store.geometry.sector)
    with pytest.raises(LeaseExists, match="JSON"):
        await create(store, JOB, metadata())


async def test_a_slot_that_somebody_holds_is_passed_over(store: EmbeddedStore) -> None:
    """A worker may hold it that looked its lease up before that was deleted."""
    alignment = store.geometry.alignment
    with Sectors.open(store.path, write=True) as holder:
        assert range_lock.lock(holder.fd, 3 * alignment, alignment)
        assert await create(store, "a", None) == 4 * alignment
        assert range_lock.lock(holder.fd, 5 * alignment, 0)
        with pytest.raises(NoSpace):
            await create(store, "b", None)
    assert await create(store, "b", None) == 3 * alignment


async def test_a_record_of_another_lease_that_was_never_finished_is_left_alone(
    store: EmbeddedStore,
) -> None:
    lock = store.take_index()
    assert lock
    offset = store.geometry.offset(0)
    half_made = index.record("half-made", offset, updating=True)
    change.write(store.volume, lock, 0, half_made, over=EMPTY)
    store.give(lock)
    for number in range(1, SLOTS):
        assert await create(store, str(number), None) == store.geometry.offset(number)
        assert (await verbs.leases(store))[0].updating
    # Only on a full volume, and only because nobody holds it.
    assert await create(store, "last", None) == offset


async def test_a_lost_index_lease_publishes_nothing(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = EmbeddedStore.write_slot

    def replaced_meanwhile(self: EmbeddedStore, lock: Grant, offset: int, slot: Slot) -> bool:
        done = real(self, lock, offset, slot)
        Path(store.path).rename(store.path + ".old")
        Path(store.path).write_bytes(Path(store.path + ".old").read_bytes())
        return done

    monkeypatch.setattr(EmbeddedStore, "write_slot", replaced_meanwhile)
    with pytest.raises(LeaseLost):
        await create(store, "a", None)
    for path in (store.path, store.path + ".old"):
        assert index.record("a", store.geometry.offset(0)) not in Path(path).read_bytes()


async def test_a_record_that_somebody_else_changed_is_not_written_over(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = EmbeddedStore.write_slot
    theirs = index.record("theirs", 0)

    def changed_meanwhile(self: EmbeddedStore, lock: Grant, offset: int, slot: Slot) -> bool:
        with open(store.path, "r+b") as file:
            file.seek(store.geometry.index_offset + 512)
            file.write(theirs)
        return real(self, lock, offset, slot)

    monkeypatch.setattr(EmbeddedStore, "write_slot", changed_meanwhile)
    with pytest.raises(LeaseLost, match="somebody else"):
        await create(store, "a", None)
    assert [listed.lease_id for listed in await verbs.leases(store)] == ["theirs"]


async def test_an_index_block_that_reads_back_changed_is_an_error(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Sectors, "write", lambda self, offset, data: None)
    with pytest.raises(LeaseLost, match="reads back"):
        await create(store, "a", None)
