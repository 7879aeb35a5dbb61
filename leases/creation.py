"""Lease.create."""

from collections.abc import Iterable, Iterator

import msgspec

from leases import change, index, lvb, slot, value_block
from leases.grant import Grant
from leases.index import EMPTY, Index
from leases.lease import Lease, check_name
from leases.steps import reached
from leases.store import Store
from protocol.errors import LeaseExists, NoSpace, SanlockLVBError
from protocol.messages import JobMetadata, decode
from protocol.record import JobRecord, JobStatus


async def create(
    store: Store, lease_id: str, metadata: JobMetadata | None, *, now: int, hardware_id: str
) -> Lease:
    """Make a lease; with `metadata` its value block says so.

    now: seconds since the epoch. hardware_id: of the host that we are on.
    Again with the same metadata, PENDING: success, and nothing is written. Raises BadParameter
    (1000), LeaseExists, NoSpace, AcquireLockFailure (651: index in use), and those of the index.
    """
    check_name(lease_id)
    record = _record(metadata, now, hardware_id)
    block = lvb.encode(record)

    def work(lock: Grant) -> Lease:
        return _create(store, lock, lease_id, record, block)

    return await store.under_index(work)


def _record(metadata: JobMetadata | None, now: int, hardware_id: str) -> JobRecord | None:
    if metadata is None:
        return None
    # It may have been made by code of ours, which msgspec does not check.
    checked = decode(msgspec.to_builtins(metadata), JobMetadata, name="metadata")
    pending = JobRecord.pending(
        str(checked.job_id), checked.generation, now=now, hardware_id=hardware_id
    )
    return JobRecord({**pending.keys, "job_status": checked.job_status.value})


def _create(
    store: Store, lock: Grant, lease_id: str, record: JobRecord | None, block: bytes
) -> Lease:
    """The slot first, then the index record that publishes it: a crash leaves all or nothing."""
    volume = store.volume
    found = volume.index(lock.sectors)
    reached("create", "locked")
    place = found.find(lease_id)
    if place is not None:
        place.check()
        lease = volume.lease(lease_id, place.number)
        if not place.updating:
            _check_same(store, lock, lease, record)
            return lease
    made = slot.fresh(volume.geometry, volume.sd_id, lease_id, block)
    # A record of the same id is used again, even if others are free: no id stands twice.
    numbers = _free(store, lock, found) if place is None else [place.number]
    number = _written(store, lock, numbers, made)
    if number is None:
        if place is not None:
            raise LeaseExists(lease_id, "it was deleted by force and is still held")
        raise NoSpace(lease_id, found.slots)
    reached("create", "slot")
    lease = volume.lease(lease_id, number)
    published = index.record(lease_id, lease.offset)
    over = EMPTY if place is None else place.record
    change.write(volume, lock, number, published, over=over)
    reached("create", "record")
    return lease


def _free(store: Store, lock: Grant, found: Index) -> Iterator[int]:
    """Numbers of the free slots; last those whose leases were deleted by force while held."""
    yield from found.free()
    if change.sweep(store, lock, found):
        yield from store.volume.index(lock.sectors).free()


def _written(store: Store, lock: Grant, numbers: Iterable[int], made: slot.Slot) -> int | None:
    """Write the slot to the first place that nobody holds."""
    for number in numbers:
        if store.write_slot(lock, store.volume.geometry.offset(number), made):
            return number
    return None


def _check_same(store: Store, lock: Grant, lease: Lease, wanted: JobRecord | None) -> None:
    """Raise LeaseExists unless the lease is just what the caller wants to make."""
    try:
        found = lvb.decode(value_block.read(lock.sectors, store.volume.geometry, lease.offset))
    except SanlockLVBError as e:
        raise LeaseExists(lease.lease_id, str(e)) from None
    if wanted is None:
        if found is not None:
            raise LeaseExists(lease.lease_id, "it has metadata")
        return
    pending = {"job_status": JobStatus.PENDING.value}
    keys = ("type", "job_id", "generation")
    same = pending | {key: wanted.keys[key] for key in keys}
    if found is None or any(found.keys.get(key) != value for key, value in same.items()):
        raise LeaseExists(lease.lease_id, "it has other metadata")
    if wanted.keys["job_status"] != JobStatus.PENDING:
        raise LeaseExists(lease.lease_id, "its job is pending")
