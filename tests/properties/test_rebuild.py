"""A rebuild of any damage.

Oracle: whatever stood in records and slots, afterwards every lease that is listed can be used, no
id stands twice, a rebuild once more changes nothing, and no lease that was in order, nor any job in
a slot that no record names, is lost.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from leases import index, lvb, slot, verbs
from leases.embedded import EmbeddedStore
from leases.index import EMPTY
from leases.sector import Sectors
from leases.volume import format_volume
from protocol.errors import SanlockLVBError
from protocol.record import JobRecord
from tests.properties.inputs import edited, edits, full

SD_ID = "11111111-2222-4333-8444-555555555555"
SLOTS = 4
JOBS = [f"abcdef50-6666-4777-8888-99999999999{n}" for n in range(3)]
BLOCKS = [lvb.encode(JobRecord.pending(job, 0, now=1, hardware_id="h")) for job in JOBS]

names = st.sampled_from([*JOBS, "plain"])
records = st.one_of(
    st.just(EMPTY),
    st.builds(index.record, names, st.just(0), updating=st.booleans()),
    st.builds(index.record, names, st.just(0)),
    st.builds(edited, st.builds(index.record, names, st.just(0)), edits(64)),
)
spaces = st.sampled_from([SD_ID, SD_ID, SD_ID, "", "another"])
blocks = st.sampled_from([*BLOCKS, bytes(512), b"?" * 512])
damages = st.none() | edits(200)
tables = st.lists(
    st.tuples(records, spaces, names | st.just(""), blocks, damages),
    min_size=SLOTS,
    max_size=SLOTS,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """One volume for all examples: each writes all of it that counts."""
    Path(tmp_path, "ids").touch()
    store = EmbeddedStore(SD_ID, str(tmp_path / "xleases"), str(tmp_path / "ids"))
    with open(store.path, "wb") as file:
        file.truncate(store.geometry.size(SLOTS))
    format_volume(store.volume, now=1)
    yield store
    os.unlink(store.path)


def lay(store: EmbeddedStore, table: Any) -> None:
    geometry = store.geometry
    with Sectors.open(store.path, write=True) as sectors:
        block = index.metadata(SD_ID, 1) + b"".join(row[0] for row in table)
        sectors.write(geometry.index_offset, block.ljust(1024, b"\0"))
        for number, (_, space, name, value, damage) in enumerate(table):
            made = slot.fresh(geometry, space, name, value)
            head = made.head if damage is None else edited(made.head, damage)
            slot.Slot(head, made.lvb).write(sectors, geometry, geometry.offset(number))


def whole(store: EmbeddedStore) -> bytes:
    with open(store.path, "rb") as file:
        return file.read()


async def check(store: EmbeddedStore, table: Any) -> None:
    updating = {one.lease_id for one in await verbs.leases(store) if one.updating}
    await verbs.rebuild(store, now=2)
    after = whole(store)
    await verbs.rebuild(store, now=2)
    assert whole(store) == after
    listed = await verbs.leases(store)
    there = {one.lease_id: one.offset for one in listed}
    assert len(there) == len(listed)
    said: dict[str, Any] = {}
    for one in listed:
        if not one.updating:
            with suppress(SanlockLVBError):  # garbage in a value block is its job's, and stays
                said[one.lease_id] = (await verbs.status(store, one.lease_id)).metadata
    assert updating & {*JOBS, "plain"} <= set(there)
    for number, (record, *content) in enumerate(table):
        job = next((job for job in JOBS if content == [SD_ID, job, of_job(job), None]), None)
        if job is None:
            continue
        if record == EMPTY:
            assert job in there  # here, or where another record or slot of it is
        if record == index.record(job, 0) and names_in(table).count(job) == 1:
            assert there[job] == store.geometry.offset(number)
            assert said[job]["job_id"] == job


def of_job(job: str) -> bytes:
    return BLOCKS[JOBS.index(job)]


def names_in(table: Any) -> list[str]:
    """The names that stand in the records, in whatever state they are."""
    return [row[0][:49].rstrip(b"\0").decode(errors="replace") for row in table]


@settings(
    max_examples=1_000 if full() else 100,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(table=tables)
def test_whatever_stood_there_what_is_listed_can_be_used(store: EmbeddedStore, table: Any) -> None:
    lay(store, table)
    trio.run(check, store, table)
