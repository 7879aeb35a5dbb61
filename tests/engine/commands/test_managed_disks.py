"""Disks of managed domains: added, extended and removed, over both databases and real adapters."""

from functools import partial
from typing import Any

import pytest

from engine.commands.specs import AddDisk, ExtendDisk, RemoveDisk, SnapshotCreate
from engine.db import attachments, disks, hosts, snapshots, volumes
from engine.db.disks import Disk
from engine.db.hosts import Host
from engine.names import LONGEST
from protocol.errors import (
    AdapterFailed,
    BadParameter,
    DiskLocked,
    InQuarantine,
    NoSuchObject,
    StillUsed,
    WrongState,
)
from protocol.managed import GIB, Connector
from tests.engine.commands.arrays import LOST, Array
from tests.engine.commands.rig import ARRAY, Engine, Rig

BROKEN = AdapterFailed("array", "command", "no power")


async def added(engine: Engine, size: int = GIB) -> Disk:
    spec = AddDisk(name="disk", domain=ARRAY, size=size)
    row = await engine.run("add_disk", spec)
    assert row.state == "succeeded", row.error
    return await engine.read(lambda c: disks.get(c, spec.disk))


async def rows(engine: Engine) -> tuple[int, int, int]:
    """Disks, volumes and snapshots in the database."""
    found = await engine.read(disks.search)
    snapshot = [await engine.read(partial(snapshots.of_disk, disk=one.id)) for one in found]
    return len(found), len(await engine.read(volumes.search)), sum(map(len, snapshot))


async def test_a_disk_is_added_in_whole_gib(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine, GIB + 1)
        assert (disk.size, disk.state, disk.kind, disk.format) == (2 * GIB, "ok", "managed", "raw")
        assert disk.volume
        assert any_array.volumes() == {disk.volume: []}
        assert any_array.size(disk.volume) == 2 * GIB
        volume = await engine.read(lambda c: volumes.get(c, disk.volume or ""))
        assert (volume.state, volume.size) == ("ok", 2 * GIB)


async def test_a_disk_is_removed_with_its_snapshots(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        for _ in range(2):
            row = await engine.run("snapshot_create", SnapshotCreate(disk=disk.id))
            assert row.state == "succeeded", row.error
        row = await engine.run("remove_disk", RemoveDisk(disk=disk.id))
        assert row.state == "succeeded", row.error
        assert any_array.volumes() == {}
        assert await rows(engine) == (0, 0, 0)


async def test_a_disk_that_cannot_be_made_leaves_nothing(rig: Rig, array: Array) -> None:
    array.fails("create_volume", LOST)
    async with rig.engine() as engine:
        row = await engine.run("add_disk", AddDisk(name="disk", domain=ARRAY, size=GIB))
        assert row.state == "failed"
        assert row.error
        assert row.error["kind"] == "AdapterStalled"
        assert array.volumes() == {}
        assert await rows(engine) == (0, 0, 0)


async def test_a_volume_that_cannot_be_deleted_again_keeps_its_disk_locked(
    rig: Rig, array: Array
) -> None:
    array.fails("create_volume", LOST)
    array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
    async with rig.engine() as engine:
        spec = AddDisk(name="disk", domain=ARRAY, size=GIB)
        row = await engine.run("add_disk", spec)
        assert row.state == "quarantined"
        [kept] = await engine.quarantine()
        assert (kept.kind, kept.object, kept.domain) == ("volume", spec.volume, ARRAY)
        with pytest.raises(InQuarantine):
            await engine.commands.start("remove_disk", RemoveDisk(disk=spec.disk), user="admin")
        await engine.commands.clear(row.id)
        assert (await engine.ended(row.id)).state == "failed"
        assert array.volumes() == {}
        assert await rows(engine) == (0, 0, 0)
        assert await engine.quarantine() == []


async def test_a_domain_that_is_full_is_not_asked_for_more(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        row = await engine.run("add_disk", AddDisk(name="disk", domain=ARRAY, size=1 << 50))
        assert row.error
        assert row.error["kind"] == "NoRoom"
        assert f"({ARRAY})" in row.error["message"]  # behind its name
        assert array.calls("create_volume") == 0


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"size": 0}, BadParameter),
        ({"size": 1 << 51}, BadParameter),
        ({"size": -1}, BadParameter),
        ({"name": "../x"}, BadParameter),
        ({"name": "x" * (LONGEST + 1)}, BadParameter),
        ({"description": "a\nb"}, BadParameter),
        ({"format": "cow"}, BadParameter),
        ({"domain": "unknown"}, NoSuchObject),
    ],
)
async def test_what_cannot_be_added_is_refused_at_once(
    rig: Rig, array: Array, wrong: dict[str, Any], error: type[Exception]
) -> None:
    async with rig.engine() as engine:
        spec = AddDisk(**{"name": "disk", "domain": ARRAY, "size": GIB, **wrong})
        with pytest.raises(error):
            await engine.commands.start("add_disk", spec, user="admin")
        assert await rows(engine) == (0, 0, 0)


async def test_a_disk_is_extended(rig: Rig, any_array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        assert disk.volume
        any_array.write(disk.volume, 7)
        row = await engine.run("extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB + 1))
        assert row.state == "succeeded", row.error
        assert (await engine.read(lambda c: disks.get(c, disk.id))).size == 3 * GIB
        assert any_array.size(disk.volume) == 3 * GIB
        assert any_array.read(disk.volume) == 7


async def test_a_disk_never_shrinks(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine, 2 * GIB)
        with pytest.raises(BadParameter):
            await engine.commands.start(
                "extend_disk", ExtendDisk(disk=disk.id, size=GIB), user="admin"
            )
        assert array.calls("extend_volume") == 0


async def test_when_an_extend_is_not_sure_the_storage_tells_the_size(
    rig: Rig, array: Array
) -> None:
    array.fails("extend_volume", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        row = await engine.run("extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB))
        assert row.state == "failed"
        found = await engine.read(lambda c: disks.get(c, disk.id))
        assert (found.size, found.state) == (2 * GIB, "ok")


async def test_a_disk_that_is_locked_is_not_touched(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        await engine.database.write(lambda c: disks.lock(c, disk.id, "another"))
        for name, spec in (
            ("remove_disk", RemoveDisk(disk=disk.id)),
            ("extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB)),
            ("snapshot_create", SnapshotCreate(disk=disk.id)),
        ):
            with pytest.raises(DiskLocked):
                await engine.commands.start(name, spec, user="admin")


async def test_a_volume_is_not_deleted_while_a_host_may_have_access(rig: Rig, array: Array) -> None:
    async with rig.engine() as engine:
        disk = await added(engine)
        volume = disk.volume or ""

        def attach(c: Any) -> None:
            hosts.add(c, Host("h", "h", "unix:/h"))
            attachments.begin(c, volume, "h", "another")

        await engine.database.write(attach)
        with pytest.raises(StillUsed):
            await engine.commands.start("remove_disk", RemoveDisk(disk=disk.id), user="admin")
        await engine.database.write(lambda c: attachments.keep(c, volume, "h", "another"))
        with pytest.raises(InQuarantine):
            await engine.commands.start("remove_disk", RemoveDisk(disk=disk.id), user="admin")
        assert array.calls("delete_volume") == 0
        await engine.database.write(lambda c: attachments.shut_out(c, volume, "h"))
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "succeeded"


async def test_a_removal_that_fails_before_the_volume_leaves_the_disk_usable(
    rig: Rig, array: Array
) -> None:
    array.fails("delete_volume", BROKEN)
    async with rig.engine() as engine:
        disk = await added(engine)
        await engine.run("snapshot_create", SnapshotCreate(disk=disk.id))
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "failed"
        assert (await engine.read(lambda c: disks.get(c, disk.id))).state == "ok"
        assert await rows(engine) == (1, 1, 0)
        volume = await engine.read(lambda c: volumes.get(c, disk.volume or ""))
        assert volume.state == "ok"
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "succeeded"
        assert array.volumes() == {}


async def test_a_disk_whose_volume_is_gone_can_only_be_removed(rig: Rig, array: Array) -> None:
    array.fails("delete_volume", LOST)
    async with rig.engine() as engine:
        disk = await added(engine)
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "failed"
        found = await engine.read(lambda c: disks.get(c, disk.id))
        assert (found.state, found.locked_by) == ("illegal", None)
        with pytest.raises(WrongState):
            await engine.commands.start(
                "extend_disk", ExtendDisk(disk=disk.id, size=2 * GIB), user="admin"
            )
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "succeeded"
        assert await rows(engine) == (0, 0, 0)


async def test_a_disk_that_an_adapter_connects_for_somebody_else_is_not_deleted(
    rig: Rig, any_array: Array
) -> None:
    """What the engine does not know, the adapter does."""
    async with rig.engine() as engine:
        disk = await added(engine)
        connector = Connector("other", ip="127.0.0.1", initiator="iqn.2026-01.org.example:other")
        storage = any_array.storage
        await storage.connect_volume(disk.volume or "", connector)
        row = await engine.run("remove_disk", RemoveDisk(disk=disk.id))
        assert row.error
        assert row.error["kind"] == "ManagedVolumeInUse"
        await storage.disconnect_volume(disk.volume or "")
        assert (await engine.run("remove_disk", RemoveDisk(disk=disk.id))).state == "succeeded"


async def test_a_storage_that_cannot_even_be_asked_leaves_nothing_to_undo(
    rig: Rig, array: Array
) -> None:
    array.fails("storage_stats", BROKEN)
    array.fails("delete_volume", BROKEN, BROKEN, BROKEN)
    async with rig.engine() as engine:
        row = await engine.run("add_disk", AddDisk(name="disk", domain=ARRAY, size=GIB))
        assert row.state == "failed"
        assert array.calls("delete_volume") == 0
