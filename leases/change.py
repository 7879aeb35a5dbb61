"""Changes of the index, under the index lease. Everything here blocks."""

from leases import slot
from leases.grant import Grant
from leases.index import EMPTY, Index
from leases.store import Store
from leases.volume import LeaseVolume


def write(volume: LeaseVolume, lock: Grant, number: int, record: bytes, *, over: bytes) -> None:
    """Replace the record `over` of slot `number`. Raises LeaseLost when the index is not ours."""
    lock.verify()
    volume.write_record(lock.sectors, number, record, over=over)
    lock.verify()


def sweep(store: Store, lock: Grant, found: Index) -> bool:
    """Free the slots of leases that were deleted by force, or never finished, and are not held.

    found: the index as it is. Returns: was there any?
    The slot before the record: otherwise, after a crash in between, a rebuild of the index would
    find its value block in an unnamed slot and bring the deleted lease back.
    """
    volume = store.volume
    freed = False
    for place in found.updating():
        offset = volume.geometry.offset(place.number)
        if store.write_slot(offset, slot.cleared(volume.geometry)):
            write(volume, lock, place.number, EMPTY, over=place.record)
            freed = True
    return freed
