"""Snapshots: what a disk holds, and what storage keeps, before and after each command."""

from typing import Any

import pytest

from engine.commands.pruning import unneeded
from engine.commands.specs import (
    ExtendDisk,
    RemoveDisk,
    SnapshotCommit,
    SnapshotCreate,
    SnapshotDelete,
    SnapshotPreview,
    SnapshotUndo,
)
from engine.db import disks, snapshots
from engine.db.disks import Disk
from engine.db.snapshots import Snapshot
from protocol.errors import (
    AdapterFailed,
    InQuarantine,
    NoSuchManagedVolume,
    NotSupported,
    WrongState,
)
from protocol.managed import GIB
from tests.engine.commands.arrays import LOST, Array
from tests.engine.commands.rig import Engine, Killed, Rig, all_commands
from tests.engine.commands.test_managed_disks import added

BROKEN = AdapterFailed("array", "command", "no power")


async def done(engine: Engine, name: str, spec: Any) -> None:
    row = await engine.run(name, spec)
    assert row.state == "succeeded", row.error


async def snapped(engine: Engine, disk: Disk) -> str:
    spec = SnapshotCreate(disk=disk.id, description="before the upgrade")
    await done(engine, "snapshot_create", spec)
    return spec.snapshot


async def used(engine: Engine, disk: Disk) -> str:
    """The volume that a disk uses now."""
    found = await engine.read(lambda c: disks.get(c, disk.id))
    assert found.state == "ok"
    assert found.volume
    return found.volume


async def known(engine: Engine, disk: Disk) -> list[str]:
    return [one.id for one in await engine.read(lambda c: snapshots.of_disk(c, disk.id))]


async def snapshot(engine: Engine, id: str) -> Snapshot:
    return await engine.read(lambda c: snapshots.get(c, id))


async def test_a_snapshot_keeps_what_the_disk_held(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        any_array.write(volume, 1)
        id = await snapped(engine, disk)
        any_array.write(volume, 2)
        assert any_array.volumes() == {volume: [id]}
        row = await snapshot(engine, id)
        assert (row.state, row.volume, row.adapter_id, row.size) == ("ok", volume, id, GIB)
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
        assert any_array.read(await used(engine, disk)) == 1
        assert any_array.read(volume) == 2


async def test_undo_gives_back_what_was_there_before_the_preview(
    rig: Rig, any_array: Array
) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        any_array.write(volume, 1)
        id = await snapped(engine, disk)
        any_array.write(volume, 2)
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
        any_array.write(await used(engine, disk), 3)
        assert (await snapshot(engine, id)).state == "in_preview"
        await done(engine, "snapshot_undo", SnapshotUndo(disk=disk.id))
        assert await used(engine, disk) == volume
        assert any_array.read(volume) == 2
        assert any_array.volumes() == {volume: [id]}
        assert (await snapshot(engine, id)).state == "ok"


async def test_commit_keeps_the_preview_and_what_is_older(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        any_array.write(volume, 1)
        older = await snapped(engine, disk)
        any_array.write(volume, 2)
        tried = await snapped(engine, disk)
        newer = await snapped(engine, disk)
        any_array.write(volume, 3)
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=tried))
        any_array.write(await used(engine, disk), 4, at=512)
        await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
        kept = await used(engine, disk)
        assert (any_array.read(kept), any_array.read(kept, 512)) == (2, 4)
        assert await known(engine, disk) == [older, tried]
        assert any_array.volumes() == {volume: sorted([older, tried]), kept: []}
        assert newer not in any_array.volumes()[volume]
        # It can be gone back to the older ones again.
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=older))
        assert any_array.read(await used(engine, disk)) == 1


async def test_a_volume_goes_with_its_last_snapshot(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        first = await used(engine, disk)
        ids = [await snapped(engine, disk), await snapped(engine, disk)]
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=ids[1]))
        await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
        second = await used(engine, disk)
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=ids[1]))
        assert array.volumes() == {first: [ids[0]], second: []}
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=ids[0]))
        assert array.volumes() == {second: []}
        await done(engine, "remove_disk", RemoveDisk(disk=disk.id))
        assert array.volumes() == {}


async def test_a_commit_over_two_volumes_gives_up_all_that_is_newer(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        first = await used(engine, disk)
        old = await snapped(engine, disk)
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=old))
        await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
        await snapped(engine, disk)  # of the second volume
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=old))
        await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
        third = await used(engine, disk)
        assert await known(engine, disk) == [old]
        assert array.volumes() == {first: [old], third: []}


async def test_what_a_preview_goes_back_to_is_needed(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        id = await snapped(engine, disk)
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
        await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
        before = await used(engine, disk)  # it has no snapshots
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
        assert await engine.read(lambda c: unneeded(c, disk.id)) == []
        await done(engine, "snapshot_undo", SnapshotUndo(disk=disk.id))
        assert await used(engine, disk) == before


async def test_deleting_a_snapshot_leaves_the_disk_as_it_is(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        id = await snapped(engine, disk)
        any_array.write(volume, 2)
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=id))
        assert any_array.read(volume) == 2
        assert any_array.volumes() == {volume: []}
        assert await known(engine, disk) == []


async def test_a_preview_has_the_size_that_the_disk_had(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        id = await snapped(engine, disk)
        await done(engine, "extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB))
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
        assert (await engine.read(lambda c: disks.get(c, disk.id))).size == GIB
        assert array.size(await used(engine, disk)) == GIB
        await done(engine, "snapshot_undo", SnapshotUndo(disk=disk.id))
        assert (await engine.read(lambda c: disks.get(c, disk.id))).size == 2 * GIB


async def test_in_a_preview_nothing_else_is_done_to_the_disk(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        ids = [await snapped(engine, disk), await snapped(engine, disk)]
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=ids[0]))
        for name, spec in (
            ("snapshot_create", SnapshotCreate(disk=disk.id)),
            ("snapshot_delete", SnapshotDelete(snapshot=ids[0])),
            ("snapshot_delete", SnapshotDelete(snapshot=ids[1])),
            ("snapshot_preview", SnapshotPreview(snapshot=ids[1])),
            ("extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB)),
            ("remove_disk", RemoveDisk(disk=disk.id)),
        ):
            with pytest.raises(WrongState, match="preview"):
                await engine.commands.start(name, spec, user="admin")
        assert (await engine.read(lambda c: disks.get(c, disk.id))).state == "ok"


async def test_without_a_preview_there_is_nothing_to_end(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        for name, spec in (
            ("snapshot_commit", SnapshotCommit(disk=disk.id)),
            ("snapshot_undo", SnapshotUndo(disk=disk.id)),
        ):
            with pytest.raises(WrongState):
                await engine.commands.start(name, spec, user="admin")


async def test_snapshots_of_images_are_not_supported(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)

        def image(c: Any) -> None:
            disks.lock(c, disk.id, "x")
            disks.switch(c, disk.id, kind="image")
            disks.unlock(c, disk.id, "x")

        await engine.database.write(image)
        with pytest.raises(NotSupported):
            await engine.commands.start(
                "snapshot_create", SnapshotCreate(disk=disk.id), user="admin"
            )


# --- failures -----------------------------------------------------------------------------------


async def test_a_snapshot_that_cannot_be_made_leaves_nothing(rig: Rig, array: Array) -> None:
    array.fails("create_snapshot", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        row = await engine.run("snapshot_create", SnapshotCreate(disk=disk.id))
        assert row.state == "failed"
        assert array.volumes() == {await used(engine, disk): []}
        assert await known(engine, disk) == []


async def test_a_preview_that_cannot_be_made_leaves_nothing(rig: Rig, array: Array) -> None:
    array.fails("create_volume_from_snapshot", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        id = await snapped(engine, disk)
        row = await engine.run("snapshot_preview", SnapshotPreview(snapshot=id))
        assert row.state == "failed"
        assert await used(engine, disk) == volume
        assert array.volumes() == {volume: [id]}
        assert (await snapshot(engine, id)).state == "ok"


async def test_a_preview_that_is_in_quarantine_leaves_the_disk_usable(
    rig: Rig, array: Array
) -> None:
    array.fails("create_volume_from_snapshot", LOST)
    array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        id = await snapped(engine, disk)
        row = await engine.run("snapshot_preview", SnapshotPreview(snapshot=id))
        assert row.state == "quarantined"
        assert await used(engine, disk) == volume  # which also says that it is unlocked
        with pytest.raises(InQuarantine):  # it would leave a volume that nobody knows
            await engine.commands.start("remove_disk", RemoveDisk(disk=disk.id), user="admin")
        # Nor does another command take it for one that nothing needs.
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=id))
        assert len(array.volumes()) == 2
        await engine.commands.clear(row.id)
        assert (await engine.ended(row.id)).state == "failed"
        assert array.volumes() == {volume: []}


async def test_a_snapshot_that_could_not_be_deleted_can_be_deleted_again(
    rig: Rig, array: Array
) -> None:
    array.fails("remove_snapshot", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        id = await snapped(engine, disk)
        assert (await engine.run("snapshot_delete", SnapshotDelete(snapshot=id))).state == "failed"
        assert (await snapshot(engine, id)).state == "ok"
        await done(engine, "snapshot_delete", SnapshotDelete(snapshot=id))
        assert await known(engine, disk) == []


async def test_a_commit_has_succeeded_though_a_newer_snapshot_is_left(
    rig: Rig, array: Array
) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        ids = [await snapped(engine, disk), await snapped(engine, disk)]
        await done(engine, "snapshot_preview", SnapshotPreview(snapshot=ids[0]))
        array.fails("remove_snapshot", BROKEN, BROKEN, BROKEN)
        row = await engine.run("snapshot_commit", SnapshotCommit(disk=disk.id))
        assert row.state == "succeeded"
        assert [(one.kind, one.object) for one in await engine.quarantine()] == [
            ("snapshot", ids[1])
        ]
        await engine.commands.clear(row.id)
        assert (await engine.ended(row.id)).state == "succeeded"
        assert await engine.quarantine() == []
        assert await known(engine, disk) == ids[:1]


# --- ids that a vendor's adapter chooses --------------------------------------------------------


async def test_the_id_that_an_adapter_chose_is_used(rig: Rig, vendor: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = await used(engine, disk)
        vendor.write(volume, 1)
        id = await snapped(engine, disk)
        row = await snapshot(engine, id)
        assert vendor.volumes() == {volume: [row.adapter_id]}
        assert row.adapter_id != id
        spec = SnapshotPreview(snapshot=id)
        await done(engine, "snapshot_preview", spec)
        preview = await used(engine, disk)
        assert preview != spec.volume
        assert vendor.read(preview) == 1
        await done(engine, "snapshot_undo", SnapshotUndo(disk=disk.id))
        await done(engine, "remove_disk", RemoveDisk(disk=disk.id))
        assert vendor.volumes() == {}


async def test_a_lost_answer_with_an_id_is_in_quarantine_as_it_may_exist(
    rig: Rig, vendor: Array
) -> None:
    vendor.fails("create_snapshot", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        spec = SnapshotCreate(disk=disk.id)
        row = await engine.run("snapshot_create", spec)
        assert row.state == "quarantined"
        [kept] = await engine.quarantine()
        assert (kept.kind, kept.object) == ("snapshot", spec.snapshot)
        assert "may exist" in kept.reason
        assert "--by-hand" in kept.action
        assert vendor.calls("create_snapshot") == 1
        await used(engine, disk)  # it is not locked
        await engine.commands.clear(row.id)
        assert (await engine.ended(row.id)).state == "quarantined"
        await engine.commands.clear(row.id, by_hand=True)
        assert (await engine.ended(row.id)).state == "failed"
        assert await known(engine, disk) == []


async def test_a_volume_that_may_exist_is_not_asked_for_again_after_a_kill(
    rig: Rig, vendor: Array
) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        id = await snapped(engine, disk)
    vendor.fails("create_volume_from_snapshot", (Killed(),))
    async with rig.killed() as engine:
        await engine.run("snapshot_preview", SnapshotPreview(snapshot=id))
    async with rig.engine() as engine:
        row = (await all_commands(engine))[0]
        row = await engine.ended(row.id)
        assert row.state == "quarantined"
        assert row.error
        assert row.error["kind"] == "MayExist"
        assert vendor.calls("create_volume_from_snapshot") == 1


async def test_an_adapter_that_says_there_is_no_such_volume_has_made_nothing(
    rig: Rig, vendor: Array
) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        vendor.fails("create_snapshot", NoSuchManagedVolume(disk.volume or ""))
        row = await engine.run("snapshot_create", SnapshotCreate(disk=disk.id))
        assert row.state == "failed"
        assert await engine.quarantine() == []
