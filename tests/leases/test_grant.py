"""Writing the value block under a grant."""

import errno

import pytest

from leases import leader, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.lease import Lease
from leases.sector import Sectors
from protocol.errors import LeaseLost, SanlockLVBError
from protocol.record import JobRecord


async def create(store: EmbeddedStore) -> Lease:
    return await verbs.create(store, "a", None, now=1, hardware_id="h")


async def test_a_write_error_is_an_error_of_the_value_block(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sectors, offset: int, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with hold(store, await create(store)) as grant:
        with monkeypatch.context() as patch:
            patch.setattr(Sectors, "write", broken)
            with pytest.raises(SanlockLVBError, match="Input/output error"):
                await grant.write(JobRecord({}))
        await grant.write(JobRecord({}))


async def test_a_write_that_reads_back_changed_is_an_error(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hold(store, await create(store)) as grant:
        monkeypatch.setattr(Sectors, "write", lambda self, offset, data: None)
        with pytest.raises(SanlockLVBError, match="reads back"):
            await grant.write(JobRecord({}))


async def test_a_lease_lost_during_the_write_is_lost(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = Sectors.write

    def overtaken(self: Sectors, offset: int, data: bytes) -> None:
        real(self, offset, data)
        found = self.read(lease.offset, store.geometry.sector)
        real(self, lease.offset, leader.acquired(found))

    async with hold(store, lease) as grant:
        with monkeypatch.context() as patch:
            patch.setattr(Sectors, "write", overtaken)
            with pytest.raises(LeaseLost, match="leader"):
                await grant.write(JobRecord({}))


async def test_a_leader_that_cannot_be_read_is_a_lost_lease(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sectors, offset: int, count: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    async with hold(store, await create(store)) as grant:
        monkeypatch.setattr(Sectors, "read", broken)
        with pytest.raises(LeaseLost, match="Input/output error"):
            await grant.check()
