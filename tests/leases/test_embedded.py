"""What only the embedded store does."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from leases import file_system, leader, range_lock, verbs
from leases.embedded import EmbeddedStore
from leases.hold import hold
from leases.lease import Lease
from leases.sector import Sectors
from leases.volume import format_volume
from protocol.errors import (
    AcquireLockFailure,
    InvalidDomain,
    InvalidSlot,
    LeaseLost,
    ReleaseLockFailure,
    WrongStore,
)

LOCK_WHOLE_FILE = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
fcntl.lockf(file, fcntl.LOCK_EX)
print("ready", flush=True)
sys.stdin.read()
"""


async def create(store: EmbeddedStore, lease_id: str = "a") -> Lease:
    return await verbs.create(store, lease_id, None, now=1, hardware_id="h")


def edit_leader(store: EmbeddedStore, lease: Lease, at: int, data: bytes) -> None:
    """Change bytes of a leader, with the checksum made right."""
    with store.volume.open(write=True) as sectors:
        sector = bytearray(sectors.read(lease.offset, store.geometry.sector))
        sector[at : at + len(data)] = data
        sectors.write(lease.offset, leader.acquired(bytes(sector)))


async def test_a_formatted_lockspace_makes_the_store_refuse(store: EmbeddedStore) -> None:
    lease = await create(store)
    before = Path(store.path).read_bytes()
    Path(store.ids).write_bytes(bytes.fromhex("10202112") + bytes(508))
    for refused in (
        store.acquire(lease),
        store.owners(lease),
        store.acquire_index(),
        verbs.status(store, "a"),
        create(store, "b"),
        verbs.delete(store, "a"),
    ):
        with pytest.raises(WrongStore, match="another domain"):
            await refused
    assert Path(store.path).read_bytes() == before
    # Records can always be read.
    assert await verbs.info(store, "a") == lease
    assert [listed.lease_id for listed in await verbs.leases(store)] == ["a"]


async def test_a_lockspace_formatted_after_the_lock_was_taken_is_seen(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`host join` formats `ids` under a lock of the whole volume, so it may come just before."""
    lease = await create(store)
    real = range_lock.lock

    def late(fd: int, start: int, length: int) -> bool:
        Path(store.ids).write_bytes(bytes.fromhex("10202112"))
        return real(fd, start, length)

    monkeypatch.setattr(range_lock, "lock", late)
    with pytest.raises(WrongStore):
        await store.acquire(lease)
    Path(store.ids).write_bytes(b"")
    assert await store.owners(lease) == []


async def test_without_its_lockspace_file_a_domain_is_not_used(store: EmbeddedStore) -> None:
    lease = await create(store)
    os.unlink(store.ids)
    with pytest.raises(InvalidDomain, match="ids"):
        await store.acquire(lease)


async def test_a_lock_of_the_whole_volume_by_another_process_counts_as_held(
    store: EmbeddedStore,
) -> None:
    lease = await create(store)
    with subprocess.Popen(
        [sys.executable, "-c", LOCK_WHOLE_FILE, store.path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout
        assert other.stdout.readline() == b"ready\n"
        assert (await verbs.status(store, "a")).owners == [1]
        with pytest.raises(AcquireLockFailure):
            await store.acquire(lease)
        with pytest.raises(AcquireLockFailure):
            await store.acquire_index(wait=0)
        other.communicate()
    assert (await verbs.status(store, "a")).owners == []


async def test_a_volume_with_a_held_lease_is_not_formatted(store: EmbeddedStore) -> None:
    async with hold(store, await create(store)) as grant:
        with pytest.raises(AcquireLockFailure):
            format_volume(store.volume, now=1)
        await grant.check()
    format_volume(store.volume, now=1)
    assert await verbs.leases(store) == []


@pytest.mark.parametrize("kind", [*file_system.REMOTE, 0x12345])
async def test_file_systems_of_several_hosts_are_refused(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    lease = await create(store)
    monkeypatch.setattr(file_system, "kind", lambda fd: kind)
    with pytest.raises(WrongStore, match=file_system.name(kind)):
        await store.acquire(lease)
    with pytest.raises(WrongStore, match="on a local disk"):
        await verbs.status(store, "a")


async def test_a_volume_that_was_replaced_is_a_lost_lease(store: EmbeddedStore) -> None:
    lease = await create(store)
    grant = await store.acquire(lease)
    Path(store.path).rename(store.path + ".old")
    with pytest.raises(LeaseLost, match="removed"):
        await grant.check()
    Path(store.path).write_bytes(Path(store.path + ".old").read_bytes())
    with pytest.raises(LeaseLost, match="replaced"):
        await grant.write(None)
    async with hold(store, lease) as other:  # on the new file it is free
        await other.check()
    await store.release(grant)


async def test_a_volume_replaced_as_it_is_locked_is_opened_again(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = range_lock.lock
    replaced = 0

    def late(fd: int, start: int, length: int) -> bool:
        nonlocal replaced
        if not replaced:
            replaced += 1
            Path(store.path).rename(store.path + ".old")
            Path(store.path).write_bytes(Path(store.path + ".old").read_bytes())
        return real(fd, start, length)

    monkeypatch.setattr(range_lock, "lock", late)
    async with hold(store, lease) as grant:
        assert replaced
        assert os.fstat(grant.fds[0]).st_ino == os.stat(store.path).st_ino
        assert await store.owners(lease) == [1]


async def test_a_volume_removed_for_good_is_named(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    monkeypatch.setattr("leases.sector.Sectors.in_place", lambda sectors: False)
    with pytest.raises(InvalidDomain, match="replaced"):
        await store.acquire(lease)


async def test_a_lease_that_a_sanlock_host_left_owned_is_not_held(store: EmbeddedStore) -> None:
    lease = await create(store)
    edit_leader(store, lease, 152, struct.pack("<Q", 5606))
    with pytest.raises(WrongStore, match="owns a"):
        await store.acquire(lease)
    assert await store.owners(lease) == []


@pytest.mark.parametrize(
    "damage", ["zeros", "other name", "other space", "bad checksum"], ids=lambda d: d
)
async def test_a_damaged_slot_is_not_held_but_can_be_deleted(
    store: EmbeddedStore, damage: str
) -> None:
    lease = await create(store)
    match damage:
        case "other name":
            edit_leader(store, lease, 104, b"other")
        case "other space":
            edit_leader(store, lease, 56, b"other")
        case _:
            with store.volume.open(write=True) as sectors:
                sector = bytearray(sectors.read(lease.offset, store.geometry.sector))
                if damage == "zeros":
                    sector[:] = bytes(len(sector))
                else:
                    sector[168] ^= 1
                sectors.write(lease.offset, bytes(sector))
    with pytest.raises(InvalidSlot):
        await store.acquire(lease)
    with pytest.raises(InvalidSlot):
        await verbs.status(store, "a")
    await verbs.delete(store, "a")
    assert await verbs.leases(store) == []
    async with hold(store, await create(store)):
        pass


async def test_the_leader_of_a_held_lease_looks_free_to_sanlock(store: EmbeddedStore) -> None:
    lease = await create(store)
    async with hold(store, lease):
        with store.volume.open() as sectors:
            found = leader.Leader.unpack(sectors.read(lease.offset, store.geometry.sector))
        assert (found.timestamp, found.owner_id, found.version) == (0, 0, 1)


async def test_the_lock_covers_the_slot_and_no_more(store: EmbeddedStore) -> None:
    lease = await create(store)
    size = store.geometry.alignment
    async with hold(store, lease):
        with Sectors.open(store.path, write=False) as sectors:
            assert range_lock.locked(sectors.fd, lease.offset, 1)
            assert range_lock.locked(sectors.fd, lease.offset + size - 1, 1)
            assert not range_lock.locked(sectors.fd, 0, lease.offset)
            assert not range_lock.locked(sectors.fd, lease.offset + size, 0)


async def test_a_lease_in_a_file_of_its_own_can_be_held(store: EmbeddedStore) -> None:
    """Leases of volumes are such: no index names them."""
    lease = await create(store)
    slot = Path(store.path).read_bytes()[lease.offset : lease.offset + store.geometry.alignment]
    path = Path(store.path + ".lease")
    path.write_bytes(slot)
    own = Lease(store.sd_id, "a", str(path), 0)
    async with hold(store, own):
        assert await store.owners(own) == [1]
        assert await store.owners(lease) == []


async def test_a_release_that_fails_is_an_error(store: EmbeddedStore) -> None:
    grant = await store.acquire(await create(store))
    await store.release(grant)
    with pytest.raises(ReleaseLockFailure):
        await store.release(grant)


async def test_a_grant_that_was_given_back_writes_no_more(store: EmbeddedStore) -> None:
    grant = await store.acquire(await create(store))
    await store.release(grant)
    with pytest.raises(LeaseLost):
        await grant.write(None)
