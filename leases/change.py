"""Changes of the index, under the index lease. Everything here blocks."""

from leases import index, slot
from leases.grant import Grant
from leases.index import EMPTY, Index
from leases.steps import reached
from leases.store import Store
from leases.volume import LeaseVolume


def write(volume: LeaseVolume, lock: Grant, number: int, records: bytes, *, over: bytes) -> None:
    """Replace the record `over` of slot `number`, or several from there on.

    Raises LeaseLost when the index is not ours.
    """
    lock.verify()
    volume.write_records(lock.sectors, number, records, over=over)
    lock.verify()


def stamp(volume: LeaseVolume, lock: Grant, now: int, *, over: bytes) -> None:
    """Replace the metadata block `over` by that of an index rebuilt at `now`. Raises LeaseLost."""
    lock.verify()
    volume.write_metadata(lock.sectors, index.metadata(volume.sd_id, now), over=over)
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
        if store.write_slot(lock, offset, slot.cleared(volume.geometry)):
            reached("sweep", "slot")
            write(volume, lock, place.number, EMPTY, over=place.record)
            reached("sweep", "record")
            freed = True
    return freed
