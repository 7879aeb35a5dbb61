"""What a rebuild does about one slot and its record. Pure.

Source: docs/formats.md, "Rebuild".
"""

from dataclasses import dataclass
from enum import Enum, auto

from leases import lvb
from leases.index import EMPTY, Place
from leases.leader import InvalidLeader, Leader
from leases.lease import NAME, NAME_SIZE
from protocol.errors import BadParameter, InvalidRecord, SanlockLVBError
from protocol.messages import JobMetadata, decode


class Repair(Enum):
    KEEP = auto()  # they agree: nothing is written
    RESTORE = auto()  # the record, from the slot
    WRITE = auto()  # the slot, from the record
    CLEAR = auto()  # both


@dataclass(frozen=True)
class Content:
    """What stands in a slot.

    used: it has the leader of some lease. lease_id: which, if it can be one of this domain.
    block: the value block; empty where it does not matter.
    """

    used: bool
    lease_id: str | None
    block: bytes = b""

    @classmethod
    def of(cls, leader: bytes, sd_id: str) -> "Content":
        """By the first sector of the slot."""
        try:
            found = Leader.unpack(leader)
        except InvalidLeader:
            return cls(used=False, lease_id=None)
        ours = found.space == sd_id and NAME.fullmatch(found.resource)
        return cls(bool(found.resource), found.resource if ours else None)

    @property
    def job(self) -> bool:
        """Is the value block the record of a job, whatever has become of that?"""
        try:
            record = lvb.decode(self.block)
            if record is None or "type" not in record.keys:
                return False
            decode(dict(record.keys), JobMetadata, name="metadata")
        except (SanlockLVBError, BadParameter):
            return False
        return True


def choose(place: Place, lease_id: str | None, content: Content, *, elsewhere: bool) -> Repair:
    """The repair of a slot and its record, which is not marked as updating.

    lease_id: the lease that the record is of; None: free, damaged, or of a lease that has another.
    elsewhere: the lease in the slot has a record of its own.
    """
    if lease_id is not None:
        return Repair.KEEP if content.lease_id == lease_id else Repair.WRITE
    free = place.record == EMPTY
    if not content.used:
        return Repair.KEEP if free else Repair.CLEAR
    # Without a record a lease was being made or deleted, unless the index was damaged: only one
    # that says something about a job is worth bringing back.
    if content.lease_id and not elsewhere and (content.job or not free):
        return Repair.RESTORE
    return Repair.CLEAR


def lease_of(place: Place) -> str | None:
    """The lease that a lookup finds by this record; None: the record is free or damaged."""
    name = place.record[: NAME_SIZE + 1].decode("ascii", "replace")
    lease_id = name.rstrip("\0")
    try:
        place.check()
    except InvalidRecord:
        return None
    return lease_id if name[NAME_SIZE:] == "\0" and NAME.fullmatch(lease_id) else None
