"""The engine is killed before and after each stage of each command of managed disks, and goes on.

The points are taken from the tables of stages. The commands run over a real adapter; after the
second life of the engine everything is counted: rows, locks, and what the storage has.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from engine.commands import dying
from engine.commands.specs import (
    AddDisk,
    ExtendDisk,
    RemoveDisk,
    SnapshotCommit,
    SnapshotCreate,
    SnapshotDelete,
    SnapshotPreview,
    SnapshotUndo,
)
from engine.commands.table import TYPES
from engine.db import disks, snapshots, volumes
from protocol.errors import AdapterFailed
from protocol.managed import GIB
from tests.engine.commands.arrays import Array
from tests.engine.commands.rig import ARRAY, Engine, Rig, all_commands, dies_at, over_databases
from tests.engine.commands.test_managed_disks import added
from tests.engine.commands.test_snapshots import done, snapped

BROKEN = AdapterFailed("array", "command", "no power")
Prepare = Callable[[Engine], Awaitable[Any]]


async def _new(engine: Engine) -> Any:
    return AddDisk(name="disk", domain=ARRAY, size=GIB)


async def _remove(engine: Engine) -> Any:
    disk = await added(engine)
    await snapped(engine, disk)
    return RemoveDisk(disk=disk.id)


async def _extend(engine: Engine) -> Any:
    return ExtendDisk(disk=(await added(engine)).id, size=2 * GIB)


async def _create(engine: Engine) -> Any:
    return SnapshotCreate(disk=(await added(engine)).id)


async def _preview(engine: Engine) -> Any:
    return SnapshotPreview(snapshot=await snapped(engine, await added(engine)))


async def _previewed(engine: Engine) -> str:
    """A disk in preview, with a newer snapshot."""
    disk = await added(engine)
    id = await snapped(engine, disk)
    await snapped(engine, disk)
    await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
    return disk.id


async def _commit(engine: Engine) -> Any:
    return SnapshotCommit(disk=await _previewed(engine))


async def _undo(engine: Engine) -> Any:
    return SnapshotUndo(disk=await _previewed(engine))


async def _delete(engine: Engine) -> Any:
    """The last snapshot of a volume that is not used any more."""
    disk = await added(engine)
    id = await snapped(engine, disk)
    await done(engine, "snapshot_preview", SnapshotPreview(snapshot=id))
    await done(engine, "snapshot_commit", SnapshotCommit(disk=disk.id))
    return SnapshotDelete(snapshot=id)


# Of each command: what it needs, and the call of the adapter that fails in the tests of its undos.
COMMANDS: dict[str, tuple[Prepare, str]] = {
    "add_disk": (_new, "create_volume"),
    "remove_disk": (_remove, "delete_volume"),
    "extend_disk": (_extend, "extend_volume"),
    "snapshot_create": (_create, "create_snapshot"),
    "snapshot_preview": (_preview, "create_volume_from_snapshot"),
    "snapshot_commit": (_commit, ""),
    "snapshot_undo": (_undo, ""),
    "snapshot_delete": (_delete, "remove_snapshot"),
}
POINTS = [point for name in COMMANDS for point in dying.points(TYPES[name])]


@over_databases(POINTS)
async def test_killed_at_any_point_it_ends_and_nothing_is_leaked(
    rig: Rig, array: Array, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    name, _, where = point.split(":")
    prepare, command = COMMANDS[name]
    failing = "undo" in where
    async with rig.engine() as engine:
        spec = await prepare(engine)
    if failing:
        array.fails(command, BROKEN)
    with dies_at(monkeypatch, point) as passed:
        async with rig.killed() as engine:
            await engine.run(name, spec)
    assert passed[-1] == point
    async with rig.engine() as engine:
        row = (await all_commands(engine))[0]
        row = await engine.ended(row.id)
        assert (row.type, row.state) == (name, "failed" if failing else "succeeded")
        await nothing_is_leaked(engine, array)


async def nothing_is_leaked(engine: Engine, array: Array) -> None:
    """The storage has what the rows say, and no row is in between."""
    assert await engine.quarantine() == []
    known: dict[str, list[str]] = {}
    for disk in await engine.read(disks.search):
        assert (disk.state, disk.locked_by) == ("ok", None)
        its = await engine.read(partial(volumes.of_disk, disk=disk.id))
        assert disk.volume in {one.id for one in its}
        assert {one.state for one in its} == {"ok"}
        known |= {one.id: [] for one in its}
        for snapshot in await engine.read(partial(snapshots.of_disk, disk=disk.id)):
            assert snapshot.state in ("ok", "in_preview")
            known[snapshot.volume].append(snapshot.adapter_id or "")
    assert array.volumes() == {volume: sorted(ids) for volume, ids in known.items()}
    assert set(known) == {one.id for one in await engine.read(volumes.search)}
