"""Lease.status."""

import errno
import os
from pathlib import Path

import pytest

from leases import leader, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.lease import Lease
from leases.sector import Sectors
from protocol.errors import InvalidMetadata, LeaseUnstable, NoSuchLease, SanlockLVBError
from protocol.record import JobRecord
from tests.leases.vectors import load


async def create(store: EmbeddedStore) -> Lease:
    return await verbs.create(store, "a", None, now=1, hardware_id="h")


def put(store: EmbeddedStore, lease: Lease, block: bytes) -> None:
    with store.volume.open(write=True) as sectors:
        sector = block.ljust(store.geometry.sector, b"\0")
        sectors.write(lease.offset + store.geometry.lvb_offset, sector)


async def test_a_held_lease_shows_its_owner_and_no_metadata(store: EmbeddedStore) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        await grant.write(JobRecord({"x": 1}))
        found = await verbs.status(store, "a")
        assert (found.owners, found.version, found.metadata) == ([1], 1, None)
    found = await verbs.status(store, "a")
    assert (found.owners, found.version, found.metadata) == ([], 1, {"x": 1})


async def test_status_writes_nothing(store: EmbeddedStore) -> None:
    await create(store)
    before = Path(store.path).read_bytes()
    for _ in range(3):
        await verbs.status(store, "a")
    assert Path(store.path).read_bytes() == before


async def test_an_unknown_lease_is_named(store: EmbeddedStore) -> None:
    with pytest.raises(NoSuchLease) as caught:
        await verbs.status(store, "b")
    assert caught.value.code == 936


async def test_a_lease_behind_the_end_of_its_volume_is_not_gone(store: EmbeddedStore) -> None:
    """The volume was cut off: whoever believes that the lease is gone would forget a job."""
    lease = await create(store)
    content = Path(store.path).read_bytes()
    for size in (lease.offset, lease.offset + store.geometry.lvb_offset):
        os.truncate(store.path, size)
        with pytest.raises(InvalidMetadata, match="cut off before the slot of lease a"):
            await verbs.status(store, "a")
        with pytest.raises(NoSuchLease):
            await verbs.status(store, "b")
        Path(store.path).write_bytes(content)
    assert (await verbs.status(store, "a")).owners == []


GARBAGE = [c for c in load("lvb")["reader"] if "error" in c["lease_status"] and c["length"] == 512]


@pytest.mark.parametrize("case", GARBAGE, ids=lambda c: c["name"])
async def test_garbage_in_the_value_block_is_an_error_of_its_own(
    store: EmbeddedStore, case: dict[str, str]
) -> None:
    lease = await create(store)
    put(store, lease, bytes.fromhex(case["data_hex"]))
    with pytest.raises(SanlockLVBError) as caught:
        await verbs.status(store, "a")
    assert caught.value.code == 703
    async with hold(store, lease):  # the value block of a held lease is not looked at
        assert (await verbs.status(store, "a")).owners == [1]


async def test_a_value_block_that_cannot_be_read_is_an_error_of_its_own(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = Sectors.read

    def broken(self: Sectors, offset: int, count: int) -> bytes:
        if offset == lease.offset + store.geometry.lvb_offset:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, offset, count)

    monkeypatch.setattr(Sectors, "read", broken)
    with pytest.raises(SanlockLVBError, match="Input/output error"):
        await verbs.status(store, "a")


def acquired_at_every_look(
    store: EmbeddedStore, lease: Lease, monkeypatch: pytest.MonkeyPatch, looks: int
) -> None:
    """As if others held the lease for a moment, `looks` times, just after we looked."""
    real = EmbeddedStore.look
    left = looks

    def look(self: EmbeddedStore, looked_at: Lease) -> list[int]:
        nonlocal left
        owners = real(self, looked_at)
        if left:
            left -= 1
            with store.volume.open(write=True) as sectors:
                sector = sectors.read(lease.offset, store.geometry.sector)
                sectors.write(lease.offset, leader.acquired(sector))
            put(store, lease, b'{"looks left": %d}' % left)
        return owners

    monkeypatch.setattr(EmbeddedStore, "look", look)


async def test_a_lease_that_changed_as_it_was_read_is_read_again(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired_at_every_look(store, await create(store), monkeypatch, 3)
    found = await verbs.status(store, "a")
    assert (found.version, found.metadata) == (3, {"looks left": 0})


async def test_a_lease_that_never_stands_still_is_given_up(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired_at_every_look(store, await create(store), monkeypatch, 1000)
    monkeypatch.setattr("leases.status._PAUSE", 0)
    with pytest.raises(LeaseUnstable):
        await verbs.status(store, "a")


async def test_a_lease_deleted_as_it_was_read_is_gone(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if its leader did not change: the record is looked up again."""
    lease = await create(store)
    real = EmbeddedStore.look

    def look(self: EmbeddedStore, looked_at: Lease) -> list[int]:
        with open(store.path, "r+b") as file:
            file.seek(store.geometry.index_offset + 512 + 61)
            file.write(b"u")
        return real(self, looked_at)

    monkeypatch.setattr(EmbeddedStore, "look", look)
    with pytest.raises(NoSuchLease):
        await verbs.status(store, lease.lease_id)
