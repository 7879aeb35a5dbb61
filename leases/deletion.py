"""Lease.delete."""

from leases import change, index, slot
from leases.grant import Grant
from leases.index import EMPTY, Place
from leases.lease import Lease, check_name
from leases.steps import reached
from leases.store import Store, given_back
from protocol.errors import AcquireLockFailure, InvalidSlot


async def delete(store: Store, lease_id: str, *, force: bool = False) -> None:
    """Delete a lease; success if there is none.

    Raises BadParameter (1000): nothing is called so; InvalidMetadata: the volume was cut off before
    it, and nothing was done; AcquireLockFailure (651): it is held. With
    `force` it is then deleted all the same: nobody finds it any more, its holder keeps it, and its
    slot is used again when that is gone.
    """
    check_name(lease_id)

    def work(lock: Grant) -> None:
        _delete(store, lock, lease_id, force)

    await store.under_index(work)


def _delete(store: Store, lock: Grant, lease_id: str, force: bool) -> None:
    volume = store.volume
    found = volume.index(lock.sectors)
    place = found.find(lease_id)
    reached("delete", "locked")
    if place is None:
        volume.check_end(lock.sectors, lease_id)
    if place is not None and not place.updating:
        lease = volume.lease(lease_id, place.number)
        try:
            zeroed = _empty(store, lock, lease, place)
        except AcquireLockFailure:
            if not force:
                raise
            hidden = index.record(lease_id, lease.offset, updating=True)
            change.write(volume, lock, place.number, hidden, over=place.record)
            reached("delete", "hidden")
        else:
            # Not while it is held: a release writes into the slot.
            store.write_slot(lock, lease.offset, slot.cleared(volume.geometry, lvb=not zeroed))
            reached("delete", "slot")
    change.sweep(store, lock, found)


def _empty(store: Store, lock: Grant, lease: Lease, place: Place) -> bool:
    """Under the lease: zero its value block, then free its record. False: there was no lease to
    hold, so only its record was freed.

    The value block first: otherwise, after a crash in between, a rebuild of the index would find a
    job in an unnamed slot and bring the lease back.
    """
    try:
        grant = store.take(lease)
    except InvalidSlot:  # nobody can hold a lease that is not there: only the record is left
        change.write(store.volume, lock, place.number, EMPTY, over=place.record)
        return False
    with given_back(store, grant):
        reached("delete", "acquired")
        grant.put(None)
        reached("delete", "lvb")
        change.write(store.volume, lock, place.number, EMPTY, over=place.record)
        reached("delete", "record")
    reached("delete", "released")
    return True
