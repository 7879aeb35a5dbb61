"""A disk that moves is locked until it is known how its move ends, also by a person."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.commands.copy_disk import CopyDisk
from engine.commands.move_disk import MoveDisk
from engine.commands.specs import RemoveDisk
from engine.db import disks, snapshots, volumes
from engine.db.disks import Disk
from engine.db.snapshots import Snapshot
from engine.db.volumes import Volume
from protocol.errors import (
    AcquireLockFailure,
    AdapterFailed,
    DiskLocked,
    Error,
    InQuarantine,
    NoSuchObject,
    WrongState,
)
from protocol.managed import GIB
from protocol.record import JobRecord, JobStatus
from tests.engine.commands.copy_world import (
    ARRAY,
    DATA,
    DATA2,
    OTHER,
    Estate,
    Lease,
    World,
    estate,
)
from tests.engine.commands.moves import SOURCE, moved, nothing_is_left, unresolved

ENDS = [(ARRAY, OTHER), (DATA, ARRAY), (ARRAY, DATA), (DATA, DATA2)]
ends = pytest.mark.parametrize(("source", "target"), ENDS)


async def disk(made: Estate) -> Disk:
    found: Disk = await made.read(lambda c: disks.get(c, SOURCE))
    return found


def told(made: Estate, spec: MoveDisk, how: JobStatus) -> None:
    """What became of its job can be read again."""
    done = how is JobStatus.SUCCEEDED
    volume = made.world.images.get((spec.domain, SOURCE), {}).get(spec.volume)
    if volume is not None:
        volume |= {"generation": int(done), "legality": "LEGAL" if done else "ILLEGAL"}
        if not done:
            for host in made.world.hosts.values():
                host.jobs[spec.job] = {"id": spec.job, "status": "failed", "error": {"code": 4113}}
        return
    record = JobRecord.pending(spec.job, 0, now=0, hardware_id="a")
    made.world.leases[spec.job] = Lease(dict(record.ended(how, now=1, hardware_id="a").keys))


@ends
async def test_an_unresolved_move_keeps_its_disk(tmp_path: Path, source: str, target: str) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(source, SOURCE)
        before = await disk(made)
        command, spec = await unresolved(made, target)
        found = await disk(made)
        assert (found.volume, found.state, found.locked_by) == (before.volume, "locked", command)
        for name, other in (
            ("move_disk", MoveDisk(disk=SOURCE, domain=target)),
            ("copy_disk", CopyDisk(disk=SOURCE, domain=target, name="x")),
            ("remove_disk", RemoveDisk(disk=SOURCE)),
        ):
            with pytest.raises(DiskLocked, match=command):
                await made.commands.start(name, other, user="admin")
        await made.commands.clear(command)
        assert (await made.ended(command)).state == "failed"
        assert await disk(made) == before
        await nothing_is_left(made, spec)


@ends
@pytest.mark.parametrize("freed", [False, True], ids=["held", "freed"])
async def test_a_move_that_is_resolved_later_is_done(
    tmp_path: Path, source: str, target: str, freed: bool
) -> None:
    """freed: the disk was unlocked, by an engine of an older version."""
    async with estate(tmp_path, World("running")) as made:
        await made.disk(source, SOURCE)
        command, spec = await unresolved(made, target)
        if freed:
            await free(made, command)
        told(made, spec, JobStatus.SUCCEEDED)
        await made.commands.resolve(command)
        row = await made.ended(command)
        assert row.state == "succeeded", row.error
        found = await disk(made)
        assert (found.domain, found.volume) == (target, spec.volume)
        await nothing_is_left(made, spec)


@ends
async def test_a_move_that_turns_out_to_have_failed_frees_its_disk(
    tmp_path: Path, source: str, target: str
) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(source, SOURCE)
        before = await disk(made)
        command, spec = await unresolved(made, target)
        told(made, spec, JobStatus.FAILED)
        await made.commands.resolve(command)
        assert (await made.ended(command)).state == "failed"
        assert await disk(made) == before
        await nothing_is_left(made, spec)


async def test_a_move_that_is_asked_for_again_in_vain_keeps_its_disk(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(DATA, SOURCE)
        command, _ = await unresolved(made, ARRAY)
        await made.commands.resolve(command)
        assert (await made.ended(command)).state == "unresolved"
        assert (await disk(made)).locked_by == command


async def test_a_move_keeps_its_disk_until_the_access_to_the_target_has_ended(
    tmp_path: Path,
) -> None:
    world, failing = World("failed"), AdapterFailed("array", "disconnect_volume", "no")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        world.arrays[OTHER].fails["disconnect"] = [failing] * 3
        row, spec = await moved(made, OTHER)
        assert row.state == "quarantined"
        assert (await disk(made)).locked_by == row.id
        # Then only the volume is left, to which nobody has access.
        world.arrays[OTHER].fails["delete"] = [failing] * 3
        await made.commands.clear(row.id)
        assert (await made.ended(row.id)).state == "quarantined"
        assert (await disk(made)).state == "ok"
        await made.commands.clear(row.id)
        assert (await made.ended(row.id)).state == "failed"
        await nothing_is_left(made, spec)


@pytest.mark.parametrize("by_hand", [False, True])
async def test_a_disk_is_free_when_the_access_was_ended_by_a_person(
    tmp_path: Path, by_hand: bool
) -> None:
    world, failing = World("failed"), AdapterFailed("array", "disconnect_volume", "no")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        world.arrays[OTHER].fails["disconnect"] = [failing] * 3
        row, spec = await moved(made, OTHER)
        if by_hand:
            del world.arrays[OTHER].hosts[spec.volume]
            del world.leases[spec.job]
        await made.commands.clear(row.id, by_hand=by_hand)
        assert (await made.ended(row.id)).state == "failed"
        await nothing_is_left(made, spec)


async def test_a_lease_that_is_left_keeps_no_disk(tmp_path: Path) -> None:
    world = World("failed")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        world.fails["Lease.delete"] = [AcquireLockFailure("lease", "it is held")] * 6
        row, _ = await moved(made, ARRAY)
        assert row.state == "quarantined"
        assert (await disk(made)).state == "ok"


# --- from before: an engine of an older version has unlocked the disk ---------------------------


async def free(made: Estate, command: str) -> None:
    await made.database.write(lambda c: disks.unlock(c, SOURCE, command))


def _locked(c: Any) -> None:
    disks.lock(c, SOURCE, "another")


def _moved(c: Any) -> None:
    disks.lock(c, SOURCE, "x")
    disks.switch(c, SOURCE, domain=DATA2, volume="v")
    disks.unlock(c, SOURCE, "x")


def _larger(c: Any) -> None:
    disks.lock(c, SOURCE, "x")
    disks.resize(c, SOURCE, 2 * GIB)
    disks.unlock(c, SOURCE, "x")


def _illegal(c: Any) -> None:
    disks.lock(c, SOURCE, "x")
    disks.unlock(c, SOURCE, "x", status="illegal")


def _snapped(c: Any) -> None:
    its = disks.get(c, SOURCE).volume or ""
    snapshots.add(c, Snapshot("s", SOURCE, its, None, "", "ok", 1.0, None, GIB))


def _kept(c: Any) -> None:
    volumes.add(c, Volume("v", SOURCE, ARRAY, None, None, GIB, "raw", "ok", None))
    volumes.keep(c, "v")


def _removed(c: Any) -> None:
    disks.lock(c, SOURCE, "x")
    disks.remove(c, SOURCE)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (_locked, DiskLocked),
        (_moved, WrongState),
        (_larger, WrongState),
        (_illegal, WrongState),
        (_snapped, WrongState),
        (_kept, InQuarantine),
        (_removed, NoSuchObject),
    ],
    ids=["locked", "moved", "larger", "illegal", "snapped", "kept", "removed"],
)
async def test_a_move_whose_disk_has_changed_since_can_only_be_cleared(
    tmp_path: Path, change: Callable[[Any], None], error: type[Error]
) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await unresolved(made, OTHER)
        await free(made, command)
        await made.database.write(change)
        before = await made.read(lambda c: disks.find(c, SOURCE))
        told(made, spec, JobStatus.SUCCEEDED)
        with pytest.raises(error):
            await made.commands.resolve(command)
        assert (await made.ended(command)).state == "unresolved"
        assert spec.volume in made.world.arrays[OTHER].hosts
        assert await made.read(lambda c: disks.find(c, SOURCE)) == before
        await made.commands.clear(command)
        assert (await made.ended(command)).state == "failed"
        assert spec.volume not in made.world.arrays[OTHER].hosts
        assert await made.read(lambda c: disks.find(c, SOURCE)) == before


@pytest.mark.parametrize("changed", [False, True])
async def test_a_move_that_goes_on_without_its_lock_switches_only_a_disk_that_has_not_changed(
    tmp_path: Path, changed: bool
) -> None:
    """It was asked to resolve before the engine was replaced by this one."""
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await unresolved(made, OTHER)
        reached = world.stop_at("disconnect", after=False)
        told(made, spec, JobStatus.SUCCEEDED)
        await made.commands.resolve(command)
        await reached.wait()
        await free(made, command)
        if changed:
            await made.database.write(_larger)
    world.stop_at("", after=False)
    async with estate(tmp_path, world) as made:
        row = await made.ended(command)
        assert row.state == ("failed" if changed else "succeeded")
        assert (await disk(made)).domain == (ARRAY if changed else OTHER)
        await nothing_is_left(made, spec)
