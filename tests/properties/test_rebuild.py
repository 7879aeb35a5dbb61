"""A rebuild of any damage.

Oracle: whatever stands in records and slots, afterwards every lease that is listed can be used, no id
stands twice, a rebuild once more changes nothing, and no lease that was in order, nor any job in a
slot of its own, is lost.
"""

import os
from collections.abc import Iterator
from functools import partial
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
from protocol.record import JobRecord
from tests.properties.inputs import edited, edits

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
    before = await verbs.leases(store)
    await verbs.rebuild(store, now=2)
    after = whole(store)
    await verbs.rebuild(store, now=2)
    assert whole(store) == after
    listed = {one.lease_id: one for one in await verbs.leases(store)}
    assert len(listed) == len(await verbs.leases(store))
    for lease_id, one in listed.items():
        if not one.updating:
            assert (await verbs.status(store, lease_id)).owners == []
    for number, (record, space, name, value, damage) in enumerate(table):
        if damage is not None or (space, value) != (
            SD_ID,
            BLOCKS[JOBS.index(name)] if name in JOBS else b"",
        ):
            continue
        free = record == EMPTY
        own = any(
            row[0][:49] == record[:49] and not free for n, row in enumerate(table) if n != number
        )
        if record == index.record(name, 0) and not own:
            assert listed[name].offset == store.geometry.offset(number)
            assert (await verbs.status(store, name)).metadata["job_id"] == name
        if free:
            assert name in listed  # here, or where a record of it was or another slot
    assert {
        one.lease_id for one in before if one.updating and one.lease_id in [*JOBS, "plain"]
    } <= set(listed)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(table=tables)
def test_whatever_stood_there_what_is_listed_can_be_used(store: EmbeddedStore, table: Any) -> None:
    lay(store, table)
    trio.run(partial(check, store, table))
