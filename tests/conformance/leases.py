"""What the tests do with leases, whatever holds them."""

from typing import Any
from uuid import UUID

import trio

from leases import verbs
from leases.index import INDEX_SIZE
from leases.lease import Lease
from leases.store import Store
from protocol.messages import JobMetadata
from protocol.record import Expectation, JobStatus
from tests.conformance.child import job_id

JOB = job_id("job")


async def create(store: Store, lease_id: str = JOB) -> Lease:
    metadata = JobMetadata(UUID(lease_id), 0, JobStatus.PENDING)
    return await verbs.create(store, lease_id, metadata, now=1, hardware_id="h")


async def fence(store: Store, lease_id: str = JOB) -> None:
    await verbs.fence(store, lease_id, Expectation(lease_id, 0), now=2, hardware_id="h")


async def job_status(store: Store, lease_id: str = JOB) -> str:
    found = await verbs.status(store, lease_id)
    assert found.metadata is not None
    return str(found.metadata["job_status"])


async def until_free(store: Store, lease_id: str = JOB) -> None:
    """Wait until the store has noticed that the holder is dead."""
    with trio.fail_after(5):
        while (await verbs.status(store, lease_id)).owners:  # noqa: ASYNC110
            await trio.sleep(0.01)  # there is no event: another process died


async def check_volume(store: Store) -> None:
    """No id stands twice, and each lease has a slot of its own that says so."""
    listed = await verbs.leases(store)
    assert len({lease.lease_id for lease in listed}) == len(listed)
    for lease in listed:
        if not lease.updating:
            await verbs.status(store, lease.lease_id)  # reads the names in the slot


def write_record(store: Store, lease: Lease, record: bytes) -> None:
    """Change the record of a lease behind everybody's back."""
    volume = store.volume
    at = 512 + volume.geometry.number(lease.offset) * 64
    start = volume.geometry.index_offset + at - at % volume.geometry.sector
    with volume.open(write=True) as sectors:
        block = bytearray(sectors.read(start, volume.geometry.sector))
        block[at % len(block) : at % len(block) + 64] = record
        sectors.write(start, bytes(block))


async def picture(store: Store) -> tuple[bytes, dict[str, Any]]:
    """The index byte by byte, and what every lease says; not how often each was held."""
    volume = store.volume
    with volume.open() as sectors:
        index = sectors.read(volume.geometry.index_offset, INDEX_SIZE)
    said = {}
    for lease in await verbs.leases(store):
        if not lease.updating:
            found = await verbs.status(store, lease.lease_id)
            said[lease.lease_id] = (found.owners, found.metadata)
    return index, said
