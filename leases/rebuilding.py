"""Lease.rebuild_leases: mend the index by the slots, and the slots by the index."""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from leases import change, index, slot, value_block
from leases.grant import Grant
from leases.index import EMPTY, RECORD_SIZE, Index, Place
from leases.repair import Content, Repair, choose, lease_of
from leases.sector import Sectors
from leases.slot import LVB_SIZE
from leases.steps import reached
from leases.store import Store, given_back
from protocol.errors import SanlockLVBError

_AT_ONCE = 8  # records in 512 bytes, the smallest sector


class Found(NamedTuple):
    """A slot and the lease that it is of; None: of none that is known."""

    lease_id: str | None
    offset: int
    error: str | None = None


@dataclass(frozen=True)
class Rebuilt:
    """What became of the slots, in their order; those that are free and clean are not listed.

    kept: slot and record agree. restored: the lease has a record again. written: it has a slot
    again. cleared: slot and record are free now. held: somebody uses the slot, so it was left as it
    is. failed: the storage of the slot gave an error.
    """

    kept: list[Found] = field(default_factory=list)
    restored: list[Found] = field(default_factory=list)
    written: list[Found] = field(default_factory=list)
    cleared: list[Found] = field(default_factory=list)
    held: list[Found] = field(default_factory=list)
    failed: list[Found] = field(default_factory=list)


async def rebuild(store: Store, *, now: int) -> Rebuilt:
    """Make index and slots agree again. What agrees is not written, and what is held neither.

    Others go on meanwhile; those that change the index wait. Cut off at any point and run again, it
    ends as if it had not been.
    now: seconds since the epoch, the new mtime of the index.
    Raises InvalidMetadata (the metadata block of the index is damaged: only a format helps),
    TruncatedIndex, AcquireLockFailure (651: index in use), LeaseLost, WrongStore.
    """

    def work(lock: Grant) -> Rebuilt:
        return _Rebuild(store, lock).run(now)

    return await store.under_index(work)


class _Rebuild:
    """One rebuild, under the index lease."""

    def __init__(self, store: Store, lock: Grant) -> None:
        self._store = store
        self._volume = store.volume
        self._geometry = store.volume.geometry
        self._lock = lock
        self._done = Rebuilt()
        self._numbers: dict[str, int] = {}  # by lease id: the one record that is the lease's

    def run(self, now: int) -> Rebuilt:
        found, metadata = self._volume.damaged_index(self._lock.sectors)
        slots = self._volume.slots(self._lock.sectors)
        reached("rebuild", "locked")
        self._number(found, slots)
        for first in range(0, slots, _AT_ONCE):
            run = range(first, min(first + _AT_ONCE, slots))
            self._write(found, first, b"".join(self._mended(found.place(n)) for n in run))
        self._write(found, slots, EMPTY * (found.slots - slots))  # those behind the volume's end
        change.stamp(self._volume, self._lock, now, over=metadata)
        reached("rebuild", "metadata")
        return self._done

    def _number(self, found: Index, slots: int) -> None:
        """Find the record of each lease; of several the one that its slot confirms."""
        for place in map(found.place, range(slots)):
            lease_id = lease_of(place)
            if lease_id is None:
                continue
            number = self._numbers.setdefault(lease_id, place.number)
            if number != place.number and self._claim(place) > self._claim(found.place(number)):
                self._numbers[lease_id] = place.number

    def _claim(self, place: Place) -> tuple[bool, bool]:
        """How good the record's claim to be the one of its lease is."""
        try:
            confirmed = self._look(self._lock.sectors, place).lease_id == lease_of(place)
        except (OSError, SanlockLVBError):
            confirmed = False
        return not place.updating, confirmed

    def _write(self, found: Index, first: int, records: bytes) -> None:
        """Write the records from `first` on, unless they are those that were found."""
        start = first * RECORD_SIZE
        over = found.records[start : start + len(records)]
        if records != over:
            change.write(self._volume, self._lock, first, records, over=over)
            reached("rebuild", "records")

    def _mended(self, place: Place) -> bytes:
        """Mend the slot if that is to be done; returns what the record has to be.

        The slot before the record: a crash in between leaves no other case than there was.
        """
        offset = self._geometry.offset(place.number)
        lease_id = lease_of(place)
        if lease_id is not None and self._numbers[lease_id] != place.number:
            lease_id = None
        elif lease_id is not None and place.updating:  # deleted by force: delete and create sweep
            self._done.kept.append(Found(lease_id, offset))
            return place.record
        try:
            return self._agreed(place, lease_id, offset)
        except (OSError, SanlockLVBError) as e:
            self._done.failed.append(Found(lease_id, offset, str(e)))
            return place.record

    def _agreed(self, place: Place, lease_id: str | None, offset: int) -> bytes:
        content, repair = self._judged(self._lock.sectors, place, lease_id)
        if repair is not Repair.KEEP:
            grant = self._store.take_slot(offset)
            if grant is not None:
                with given_back(self._store, grant):
                    # Now that nobody writes there: a holder may have, until just now.
                    content, repair = self._judged(grant.sectors, place, lease_id)
                    self._write_slot(grant, repair, lease_id, content)
            elif repair is not Repair.RESTORE:  # which does not touch the slot
                self._done.held.append(Found(lease_id or content.lease_id, offset))
                return place.record
        return self._record(place, repair, lease_id, content)

    def _judged(
        self, sectors: Sectors, place: Place, lease_id: str | None
    ) -> tuple[Content, Repair]:
        content = self._look(sectors, place)
        elsewhere = content.lease_id in self._numbers
        return content, choose(place, lease_id, content, elsewhere=elsewhere)

    def _look(self, sectors: Sectors, place: Place) -> Content:
        """Raises OSError, SanlockLVBError."""
        offset = self._geometry.offset(place.number)
        leader = sectors.read(offset, self._geometry.sector)
        content = Content.of(leader, self._volume.sd_id)
        if content.lease_id == lease_of(place):  # as nearly all are, the free ones too
            return content
        return replace(content, block=value_block.read(sectors, self._geometry, offset))

    def _write_slot(
        self, grant: Grant, repair: Repair, lease_id: str | None, content: Content
    ) -> None:
        if repair is Repair.WRITE and lease_id is not None:
            # Only the leader is lost when no other lease was there: the job is still this one's.
            block = content.block if content.job and not content.used else bytes(LVB_SIZE)
            made = slot.fresh(self._geometry, self._volume.sd_id, lease_id, block)
        elif repair is Repair.CLEAR and content.used:
            made = slot.cleared(self._geometry)
        else:
            return
        self._lock.verify()
        made.write(grant.sectors, self._geometry, grant.lease.offset)
        reached("rebuild", "slot")

    def _record(
        self, place: Place, repair: Repair, lease_id: str | None, content: Content
    ) -> bytes:
        """What the record has to be after the repair, which is reported."""
        offset = self._geometry.offset(place.number)
        match repair:
            case Repair.RESTORE if content.lease_id is not None:
                self._numbers[content.lease_id] = place.number
                self._done.restored.append(Found(content.lease_id, offset))
                return index.record(content.lease_id, offset, updating=place.updating)
            case Repair.CLEAR:
                self._done.cleared.append(Found(content.lease_id, offset))
                return EMPTY
            case Repair.WRITE:
                self._done.written.append(Found(lease_id, offset))
            case _ if lease_id is not None:
                self._done.kept.append(Found(lease_id, offset))
        return place.record
