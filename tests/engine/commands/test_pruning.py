"""Volumes that nothing needs any more, and that cannot be deleted at once."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.commands.specs import (
    RemoveDisk,
    SnapshotCommit,
    SnapshotDelete,
    SnapshotPreview,
    SnapshotUndo,
)
from engine.db import commands, disks, quarantine, snapshots, stages, volumes
from engine.db.disks import Disk
from protocol.errors import AdapterFailed, InQuarantine, WrongState
from tests.engine.commands.arrays import Array
from tests.engine.commands.rig import Engine, Rig
from tests.engine.commands.test_managed_disks import added, rows
from tests.engine.commands.test_snapshots import done, snapped, used
from tests.engine.commands.test_snapshots import snapshot as snapshot_row

BROKEN = AdapterFailed("array", "command", "no power")


async def undone(engine: Engine, array: Array) -> tuple[Disk, str, str]:
    """The end of a preview, whose volume is kept: the disk, that volume, the command."""
    disk = await added(engine)
    await done(engine, "snapshot_preview", SnapshotPreview(snapshot=await snapped(engine, disk)))
    volume = await used(engine, disk)
    spec = SnapshotUndo(disk=disk.id)
    return disk, volume, await failing(engine, array, volume, "snapshot_undo", spec)


async def deleted(engine: Engine, array: Array) -> tuple[Disk, str, str]:
    """The last snapshot of a volume that the disk has given up, and that is kept; likewise."""
    disk = await added(engine)
    volume, id = await used(engine, disk), await snapped(engine, disk)
    await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
    await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
    spec = SnapshotDelete(snapshot=id)
    return disk, volume, await failing(engine, array, volume, "snapshot_delete", spec)


async def failing(engine: Engine, array: Array, volume: str, name: str, spec: Any) -> str:
    """The id of a command that cannot delete a volume."""
    array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
    row = await engine.run(name, spec)
    assert row.state == "succeeded"
    assert await in_quarantine(engine) == [volume]
    assert volume in array.volumes()
    return row.id


async def in_quarantine(engine: Engine) -> list[str]:
    return [one.object for one in await engine.quarantine()]


async def cleared(engine: Engine, command: str, *, by_hand: bool = False) -> None:
    await engine.commands.clear(command, by_hand=by_hand)
    assert (await engine.ended(command)).state == "succeeded"


async def can_be_removed(engine: Engine, array: Array, disk: Disk) -> None:
    await done(engine, "remove_disk", RemoveDisk(disk=disk.id))
    assert array.volumes() == {}
    assert await rows(engine) == (0, 0, 0)
    assert await engine.quarantine() == []


either = pytest.mark.parametrize("kept", [undone, deleted])


@either
async def test_a_volume_that_was_kept_is_deleted_when_its_command_is_cleared(
    rig: Rig, array: Array, kept: Any
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await kept(engine, array)
        with pytest.raises(InQuarantine):
            await engine.commands.start("remove_disk", RemoveDisk(disk=disk.id), user="admin")
        await cleared(engine, command)
        assert volume not in array.volumes()
        assert await engine.quarantine() == []
        with pytest.raises(WrongState):
            await engine.commands.clear(command)
        await can_be_removed(engine, array, disk)


@either
async def test_it_stays_kept_as_often_as_the_storage_fails(
    rig: Rig, array: Array, kept: Any
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await kept(engine, array)
        for _ in range(2):
            array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
            await cleared(engine, command)
            assert await in_quarantine(engine) == [volume]
            assert volume in array.volumes()
        await cleared(engine, command)
        await can_be_removed(engine, array, disk)


@either
async def test_it_is_forgotten_when_a_person_has_removed_it(
    rig: Rig, array: Array, kept: Any
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await kept(engine, array)
        await array.storage.delete_volume(volume)
        await cleared(engine, command, by_hand=True)
        assert await engine.quarantine() == []
        assert await engine.read(lambda c: volumes.find(c, volume)) is None
        await can_be_removed(engine, array, disk)


async def test_it_can_be_cleared_while_its_disk_is_in_preview(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await undone(engine, array)
        before, [snapshot] = await used(engine, disk), array.volumes()[disk.volume or ""]
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=snapshot))
        await cleared(engine, command)
        assert await engine.quarantine() == []
        assert volume not in array.volumes()
        assert {before, await used(engine, disk)} == {*array.volumes()}
        assert (await snapshot_row(engine, snapshot)).preview_of == before
        await done(engine, "snapshot_undo", SnapshotUndo(disk=disk.id))
        await can_be_removed(engine, array, disk)


@pytest.mark.parametrize("use", ["before", "now"])
async def test_what_its_disk_needs_is_not_deleted_whatever_the_quarantine_says(
    rig: Rig, array: Array, use: str
) -> None:
    """use: the disk has that volume, or goes back to it after a preview."""
    async with rig.engine() as engine:
        disk, volume, command = await undone(engine, array)
        [snapshot] = array.volumes()[disk.volume or ""]

        def need(c: Any) -> None:
            if use == "before":
                snapshots.preview(c, snapshot, volume)
            else:
                disks.lock(c, disk.id, "x")
                disks.use(c, disk.id, volume, size=disk.size)
                disks.unlock(c, disk.id, "x")

        await engine.database.write(need)
        await cleared(engine, command)
        assert volume in array.volumes()


async def test_another_command_does_not_take_what_one_has_in_quarantine(
    rig: Rig, array: Array
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await undone(engine, array)
        again = await snapped(engine, disk)
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=again))
        assert await in_quarantine(engine) == [volume]
        assert volume in array.volumes()
        await cleared(engine, command)
        await can_be_removed(engine, array, disk)


# --- from before: the stage has ended without it, and names it no more --------------------------


def _ended(c: Any, command: str) -> None:
    for did in ("begin", "done"):
        stages.append(c, command, "prune", did, at=1.0, data={"unneeded": []})
    commands.note(c, command, {"unneeded": []}, at=1.0)


def _lost(c: Any, command: str) -> None:
    """Its disk has moved, and the row of the volume was forgotten with those of the old place."""
    _ended(c, command)
    [one] = quarantine.search(c, command=command)
    volumes.remove(c, one.object)


@either
@pytest.mark.parametrize("before", [_ended, _lost])
async def test_what_the_stage_names_no_more_is_deleted_all_the_same(
    rig: Rig, array: Array, kept: Any, before: Callable[[Any, str], None]
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await kept(engine, array)
        await engine.database.write(lambda c: before(c, command))
        array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
        await cleared(engine, command)
        assert await in_quarantine(engine) == [volume]
        await cleared(engine, command)
        assert volume not in array.volumes()
        assert await engine.quarantine() == []
        await can_be_removed(engine, array, disk)


@either
@pytest.mark.parametrize("before", [_ended, _lost])
async def test_what_the_stage_names_no_more_is_forgotten_by_hand(
    rig: Rig, array: Array, kept: Any, before: Callable[[Any, str], None]
) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await kept(engine, array)
        await engine.database.write(lambda c: before(c, command))
        await array.storage.delete_volume(volume)
        await cleared(engine, command, by_hand=True)
        assert await engine.quarantine() == []
        assert await engine.read(lambda c: volumes.find(c, volume)) is None
        with pytest.raises(WrongState):
            await engine.commands.clear(command, by_hand=True)
        await can_be_removed(engine, array, disk)


async def test_a_volume_that_a_disk_uses_is_not_forgotten_by_hand(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk, volume, command = await undone(engine, array)

        def use(c: Any) -> None:
            _ended(c, command)
            disks.lock(c, disk.id, "x")
            disks.use(c, disk.id, volume, size=disk.size)
            disks.unlock(c, disk.id, "x")

        await engine.database.write(use)
        await cleared(engine, command, by_hand=True)
        assert await engine.quarantine() == []
        assert (await engine.read(lambda c: volumes.get(c, volume))).state == "ok"
