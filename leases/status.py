"""Lease.status: what a lease says, without acquiring it.

Acquiring in order to read would make pollers fight with jobs.
"""

from dataclasses import dataclass
from typing import Any

import trio

from leases import lvb, value_block
from leases.leader import InvalidLeader, Leader
from leases.lease import Lease, check_name
from leases.sector import Sectors
from leases.store import Store
from leases.worker import run
from protocol.errors import InvalidSlot, LeaseUnstable, NoSuchLease

_TRIES = 20
_PAUSE = 0.002  # seconds


@dataclass(frozen=True)
class LeaseStatus:
    """owners: host ids. version: grows with each acquire of one life of the lease.

    metadata: the keys of the value block, {} if it was never written; None while owned.
    """

    owners: list[int]
    version: int
    metadata: dict[str, Any] | None


async def status(store: Store, lease_id: str) -> LeaseStatus:
    """Read a consistent status. Never acquires.

    Raises BadParameter (1000): nothing is called so; NoSuchLease (936), SanlockLVBError (703),
    InvalidSlot, LeaseUnstable: the lease changed hands all the time, and those of the index.
    """
    check_name(lease_id)
    for _ in range(_TRIES):
        # It changes nothing, so it may be left behind on storage that does not answer.
        if found := await run(_snapshot, store, lease_id, abandon=True):
            return found
        await trio.sleep(_PAUSE)
    raise LeaseUnstable(lease_id)


def _snapshot(store: Store, lease_id: str) -> LeaseStatus | None:
    """Record, leader, owners, value block, leader, record; None: not all from one moment."""
    volume = store.volume
    with volume.open() as sectors:
        lease = volume.lookup(sectors, lease_id)
        before = _leader(store, sectors, lease)
        owners = store.look(lease)
        block = None if owners else value_block.read(sectors, volume.geometry, lease.offset)
        if _leader(store, sectors, lease) != before:
            return None
        try:
            volume.confirm(sectors, lease)
        except NoSuchLease:
            return None  # the next lookup says where it is now
    version = _version(lease, before)
    if block is None:
        return LeaseStatus(owners, version, None)
    record = lvb.decode(block)
    return LeaseStatus([], version, dict(record.keys) if record else {})


def _leader(store: Store, sectors: Sectors, lease: Lease) -> bytes:
    return sectors.read(lease.offset, store.volume.geometry.sector)


def _version(lease: Lease, sector: bytes) -> int:
    try:
        leader = Leader.unpack(sector)
    except InvalidLeader as e:
        raise InvalidSlot(lease.lease_id, str(e)) from None
    if (leader.space, leader.resource) != (lease.sd_id, lease.lease_id):
        raise InvalidSlot(lease.lease_id, f"its leader names {leader.resource!r}")
    return leader.version
