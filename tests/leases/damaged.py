"""A lease volume that can be damaged, and what a rebuild makes of it."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from leases import slot, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from protocol.errors import NoSuchLease
from protocol.messages import JobMetadata
from protocol.record import JobStatus

MIB = 1 << 20
FORMATTED, NOW = 1700000000, 1700000050
GARBAGE = b"\xff" * 64  # a record that is none


class Volume:
    """A lease volume to be damaged, and looked at byte by byte."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.geometry = store.geometry

    def write(self, offset: int, data: bytes) -> None:
        with open(self.store.path, "r+b") as file:
            file.seek(offset)
            file.write(data)

    def read(self, offset: int, count: int) -> bytes:
        with open(self.store.path, "rb") as file:
            file.seek(offset)
            return file.read(count)

    def record_at(self, number: int) -> int:
        return self.geometry.index_offset + 512 + number * 64

    def record(self, number: int) -> bytes:
        return self.read(self.record_at(number), 64)

    def set_record(self, number: int, record: bytes) -> None:
        self.write(self.record_at(number), record)

    def whole_slot(self, number: int) -> bytes:
        return self.read(self.geometry.offset(number), self.geometry.alignment)

    def set_slot(self, number: int, made: slot.Slot) -> None:
        self.write(self.geometry.offset(number), made.pack(self.geometry))

    def set_leader(self, number: int, data: bytes) -> None:
        self.write(self.geometry.offset(number), data)

    def block(self, number: int) -> bytes:
        return self.read(self.geometry.offset(number) + self.geometry.lvb_offset, 512)

    def set_block(self, number: int, block: bytes) -> None:
        self.write(self.geometry.offset(number) + self.geometry.lvb_offset, block)

    def whole(self) -> bytes:
        return Path(self.store.path).read_bytes()


async def create(store: EmbeddedStore, lease_id: str, job: str | None = None) -> None:
    metadata = JobMetadata(UUID(job), 0, JobStatus.PENDING) if job else None
    await verbs.create(store, lease_id, metadata, now=1, hardware_id="h")


async def rebuilt(store: EmbeddedStore) -> dict[str, list[str | None]]:
    """What the rebuild did, without the kinds that nothing was done of; then it is done again,
    when nothing more is to be done."""
    done = await verbs.rebuild(store, now=NOW)
    once = Path(store.path).read_bytes()
    again = await verbs.rebuild(store, now=NOW)
    assert Path(store.path).read_bytes() == once
    assert (again.restored, again.written, again.cleared) == ([], [], [])
    kinds = ("kept", "restored", "written", "cleared", "held", "failed")
    found = {kind: [one.lease_id for one in getattr(done, kind)] for kind in kinds}
    return {kind: ids for kind, ids in found.items() if ids}


async def usable(store: EmbeddedStore, lease_id: str) -> dict[str, Any]:
    """That the lease can be held, fenced if it is a job's, and deleted; what its block said."""
    found = await verbs.status(store, lease_id)
    assert found.owners == []
    async with hold(store, await verbs.info(store, lease_id)) as grant:
        await grant.check()
    await verbs.delete(store, lease_id)
    with pytest.raises(NoSuchLease):
        await verbs.info(store, lease_id)
    assert found.metadata is not None
    return found.metadata
