"""The rules that hold for every store."""

import os
import random
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
import trio

from leases import verbs
from leases.hold import hold
from leases.leader import acquired
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    LeaseExists,
    LeaseLost,
    NoSpace,
    NoSuchLease,
    ReleaseLockFailure,
    SanlockLVBError,
)
from protocol.record import JobRecord
from tests.conformance.child import job_id
from tests.conformance.conftest import SLOTS, Start
from tests.conformance.leases import JOB, check_volume, create, fence, job_status, until_free
from tests.conformance.stores import Site


@contextmanager
def orphan(pid: int) -> Iterator[int]:
    """A process that is not our child, as a pidfd; killed at the end."""
    handle = os.pidfd_open(pid)
    try:
        yield handle
    finally:
        kill(handle)
        os.close(handle)


def kill(handle: int) -> None:
    """Kill, and wait until it is gone."""
    signal.pidfd_send_signal(handle, signal.SIGKILL)
    assert select.select([handle], [], [], 30)[0]


# --- holding ------------------------------------------------------------------------------------


async def test_a_lease_has_one_holder_in_one_process(store: Store) -> None:
    lease = await create(store)
    async with hold(store, lease):
        with pytest.raises(AcquireLockFailure):
            async with hold(store, lease):
                raise AssertionError
    async with hold(store, lease):
        pass


async def test_leases_of_one_volume_are_held_independently(store: Store) -> None:
    first, second = await create(store, job_id("1")), await create(store, job_id("2"))
    async with hold(store, first), hold(store, second) as grant:
        await grant.write(JobRecord({"x": 2}))
    assert (await verbs.status(store, second.lease_id)).metadata == {"x": 2}
    assert await job_status(store, first.lease_id) == "PENDING"


async def test_a_lease_has_one_holder_in_two_processes(store: Store, start: Start) -> None:
    lease = await create(store)
    other = start("hold_it", JOB)
    other.ready()
    with pytest.raises(AcquireLockFailure):
        await store.acquire(lease)
    assert len(await store.owners(lease)) == 1
    assert other.end() == 0
    assert await store.owners(lease) == []
    async with hold(store, lease) as grant:
        assert await grant.read() == JobRecord({"held": "here"})


async def test_a_killed_holder_leaves_its_lease_free_and_its_value_block_intact(
    store: Store, start: Start
) -> None:
    await create(store)
    other = start("hold_it", JOB)
    other.ready()
    other.kill()
    await until_free(store)
    assert (await verbs.status(store, JOB)).metadata == {"held": "here"}


async def test_a_child_with_the_descriptor_keeps_the_lease_of_a_killed_holder(
    store: Store, start: Start
) -> None:
    await create(store)
    other = start("lend_it", JOB)
    with orphan(int(other.ready()[0])) as child:
        other.kill()
        assert (await verbs.status(store, JOB)).owners
        with pytest.raises(AcquireLockFailure):
            await fence(store)
        kill(child)
        await until_free(store)
    await fence(store)


async def test_a_holder_keeps_the_lease_when_its_child_dies(store: Store) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        with subprocess.Popen(["/bin/sleep", "600"], pass_fds=grant.fds) as child:
            child.kill()
        assert len(await store.owners(lease)) == 1
        await grant.check()


async def test_a_released_lease_is_free_for_all_who_inherited_it(store: Store) -> None:
    """A tool that another task is just starting has a copy of every descriptor until its exec."""
    lease = await create(store)
    async with hold(store, lease) as grant:
        child = subprocess.Popen(["/bin/sleep", "600"], pass_fds=grant.fds)
    try:
        assert await store.owners(lease) == []
        async with hold(store, lease):
            pass
    finally:
        child.kill()
        child.wait()


async def test_the_version_grows_by_one_with_each_acquire(store: Store) -> None:
    lease = await create(store)
    for version in range(3):
        assert (await verbs.status(store, JOB)).version == version
        async with hold(store, lease):
            assert (await verbs.status(store, JOB)).version == version + 1


async def test_a_lease_that_was_deleted_meanwhile_is_not_held(store: Store) -> None:
    lease = await create(store)
    await verbs.delete(store, JOB)
    with pytest.raises(NoSuchLease):
        async with hold(store, lease):
            raise AssertionError
    assert await store.owners(lease) == []


async def test_a_lease_that_was_deleted_by_force_is_not_taken_up_again(store: Store) -> None:
    """Its slot still names it, but its record says that it is gone."""
    lease = await create(store)
    async with hold(store, lease):
        await verbs.delete(store, JOB, force=True)
    with pytest.raises(NoSuchLease):
        async with hold(store, lease):
            raise AssertionError
    assert await store.owners(lease) == []


async def test_a_slot_that_is_anothers_by_now_is_not_held(store: Store) -> None:
    lease = await create(store)
    await verbs.delete(store, JOB)
    assert (await create(store, job_id("next"))).offset == lease.offset
    with pytest.raises(NoSuchLease):
        async with hold(store, lease):
            raise AssertionError


async def test_after_a_change_of_the_leader_nothing_is_written(store: Store) -> None:
    lease = await create(store)
    grant = await store.acquire(lease)
    try:
        with store.volume.open(write=True) as sectors:
            leader = sectors.read(lease.offset, store.volume.geometry.sector)
            sectors.write(lease.offset, acquired(leader))  # as if another host had acquired it
        with pytest.raises(LeaseLost):
            await grant.check()
        with pytest.raises(LeaseLost):
            await grant.write(JobRecord({"x": 1}))
    finally:
        with suppress(ReleaseLockFailure):  # sanlock sees it, too
            await store.release(grant)
    with store.volume.open() as sectors:
        at = lease.offset + store.volume.geometry.lvb_offset
        assert b"PENDING" in sectors.read(at, store.volume.geometry.sector)


# --- value block --------------------------------------------------------------------------------


async def test_value_blocks_go_to_disk_and_back(store: Store) -> None:
    lease = await create(store)
    record = JobRecord({"type": "JOB", "x": ["ä", None, 1.5], "y": "z" * 400})
    async with hold(store, lease) as grant:
        await grant.write(record)
        assert await grant.read() == record
    async with hold(store, lease) as grant:
        assert await grant.read() == record
        await grant.write(None)
        assert await grant.read() is None
    assert (await verbs.status(store, JOB)).metadata == {}


async def test_a_record_that_is_too_long_changes_nothing(store: Store) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        with pytest.raises(SanlockLVBError):
            await grant.write(JobRecord({"x": "y" * 510}))
    assert await job_status(store) == "PENDING"


# --- status -------------------------------------------------------------------------------------


async def test_status_never_disturbs_a_holder(store: Store, start: Start) -> None:
    await create(store)
    other = start("cycle", JOB, "50")
    other.ready()
    owned = numbers = 0
    while other.popen.poll() is None:
        found = await verbs.status(store, JOB)
        if found.metadata is None:
            owned += 1
        else:
            numbers += 1
    assert other.end() == 0
    assert owned > 0
    assert (await verbs.status(store, JOB)).metadata == {"number": 49}


async def test_status_beside_cycles_in_the_same_process_is_of_one_moment(store: Store) -> None:
    """version and number grow together, so a status that mixes two moments shows."""
    lease = await create(store)
    async with hold(store, lease) as grant:
        await grant.write(JobRecord({"number": 1}))

    done = trio.Event()

    async def cycles() -> None:
        for number in range(2, 52):
            async with hold(store, lease) as grant:
                await grant.write(JobRecord({"number": number}))
        done.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cycles)
        while not done.is_set():
            found = await verbs.status(store, JOB)
            if found.metadata is not None:
                assert found.metadata == {"number": found.version}
    assert (await verbs.status(store, JOB)).version == 51


# --- the index ----------------------------------------------------------------------------------


async def test_the_index_lease_has_one_holder(store: Store) -> None:
    index = await store.acquire_index()
    with pytest.raises(AcquireLockFailure):
        await store.acquire_index(wait=0.05)
    await store.release(index)
    await store.release(await store.acquire_index(wait=0))


async def test_waiting_for_the_index_lease_can_be_cancelled(store: Store) -> None:
    index = await store.acquire_index()
    with trio.move_on_after(0.1) as scope:
        await create(store)
    assert scope.cancelled_caught
    await store.release(index)
    await store.release(await store.acquire_index(wait=0))
    assert await verbs.leases(store) == []


async def test_creates_from_several_processes_never_share_a_slot(
    store: Store, start: Start
) -> None:
    others = [start("create", name, "10") for name in "abcd"]
    for other in others:
        other.ready()
    assert [other.end() for other in others] == [0] * 4
    listed = await verbs.leases(store)
    assert len(listed) == SLOTS
    assert {lease.lease_id for lease in listed} == {
        job_id(f"{name}-{number}") for name in "abcd" for number in range(10)
    }
    for lease in listed:
        found = await verbs.status(store, lease.lease_id)
        assert found.metadata is not None
        assert found.metadata["job_id"] == lease.lease_id


async def test_whole_lives_of_leases_beside_each_other(store: Store, start: Start) -> None:
    others = [start("churn", name, "10") for name in "abc"]
    for other in others:
        other.ready()
    assert [other.end() for other in others] == [0] * 3
    assert await verbs.leases(store) == []


async def test_a_full_volume_is_refused_before_anything_is_written(store: Store) -> None:
    for number in range(SLOTS):
        await create(store, job_id(str(number)))
    with store.volume.open() as sectors:
        before = store.volume.index(sectors).records
        with pytest.raises(NoSpace) as caught:
            await create(store, job_id("one more"))
        assert caught.value.slots == SLOTS
        assert store.volume.index(sectors).records == before
    await verbs.delete(store, job_id("7"))
    await create(store, job_id("one more"))
    await check_volume(store)


# --- delete -------------------------------------------------------------------------------------


async def test_a_held_lease_is_not_deleted(store: Store) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        with pytest.raises(AcquireLockFailure):
            await verbs.delete(store, JOB)
        await grant.check()
    assert await job_status(store) == "PENDING"
    await verbs.delete(store, JOB)
    await verbs.delete(store, JOB)  # missing is success


async def test_a_lease_deleted_by_force_is_its_holders_until_that_is_gone(store: Store) -> None:
    lease = await create(store)
    async with hold(store, lease) as grant:
        await verbs.delete(store, JOB, force=True)
        await verbs.delete(store, JOB, force=True)
        with pytest.raises(NoSuchLease):
            await verbs.status(store, JOB)
        with pytest.raises(LeaseExists):
            await create(store)
        others = [await create(store, job_id(str(n))) for n in range(SLOTS - 1)]
        assert lease.offset not in {other.offset for other in others}
        with pytest.raises(NoSpace):
            await create(store, job_id("one more"))
        await grant.write(JobRecord({"x": 1}))  # leader and value block are still there
        assert await grant.read() == JobRecord({"x": 1})
    assert (await create(store, job_id("one more"))).offset == lease.offset
    await check_volume(store)


@pytest.mark.parametrize("again", ["delete it", "delete another", "create it"])
async def test_a_lease_deleted_by_force_is_cleared_later(store: Store, again: str) -> None:
    lease = await create(store)
    async with hold(store, lease):
        await verbs.delete(store, JOB, force=True)
    [listed] = await verbs.leases(store)
    assert listed.updating
    match again:
        case "create it":
            assert (await create(store)) == lease
            assert (await verbs.status(store, JOB)).version == 0
        case "delete it":
            await verbs.delete(store, JOB)
            assert await verbs.leases(store) == []
        case "delete another":
            await verbs.delete(store, job_id("never made"))
            assert await verbs.leases(store) == []


async def test_force_deletes_a_lease_that_nobody_holds_at_once(store: Store) -> None:
    await create(store)
    await verbs.delete(store, JOB, force=True)
    assert await verbs.leases(store) == []


# --- cancellation and death ---------------------------------------------------------------------


async def test_a_verb_that_is_cancelled_at_random_leaves_nothing_half_made(store: Store) -> None:
    chance = random.Random(4711)
    before = len(os.listdir("/proc/self/fd"))
    finished = 0
    for number in range(60):
        made = job_id(str(number))
        with trio.move_on_after(chance.uniform(0, 0.006)) as scope:
            await create(store, made)
            await fence(store, made)
            await verbs.delete(store, made)
        finished += not scope.cancelled_caught
        await check_volume(store)
        await verbs.delete(store, made)  # nothing holds it
    assert finished < 60  # some were cut off
    assert await verbs.leases(store) == []
    await store.release(await store.acquire_index(wait=0))
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_hold_that_is_cancelled_at_random_leaves_the_lease_free(
    site: Site, store: Store
) -> None:
    lease = await create(store)
    chance = random.Random(4711)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(60):
        with trio.move_on_after(chance.uniform(0, 0.004)):
            async with hold(store, lease) as grant:
                await grant.write(JobRecord({"x": 1}))
                await trio.sleep(0.001)
        if site.kind != "embedded":  # the daemon may need a moment to see that nobody is there
            await until_free(store)
        assert await store.owners(lease) == []
    assert len(os.listdir("/proc/self/fd")) == before
