"""What one command has left in the folder of an image, and what others have there.

A host deletes an image with all that is in its folder, and the image of a disk has the id of the
disk wherever it is: so a disk that comes back to a place lies beside what was left there.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.commands import image_places
from engine.commands.copy_disk import CopyDisk
from engine.commands.move_disk import MoveDisk
from engine.commands.specs import AddDisk, RemoveDisk
from engine.db import disks, quarantine, volumes
from engine.db.disks import Disk
from engine.db.volumes import Volume
from protocol.errors import AcquireLockFailure, AdapterFailed, InQuarantine, StillUsed, WrongState
from protocol.managed import GIB
from tests.engine.commands.copy_world import ARRAY, DATA, DATA2, OTHER, Estate, World, estate
from tests.engine.commands.moves import SOURCE, moved, moving, nothing_is_left, run, unresolved

HELD = AcquireLockFailure("image", "it is held")
OLD = f"{SOURCE[:-1]}f"  # the volume that the disk has at first


async def left_behind(made: Estate) -> str:
    """A move from DATA to DATA2 whose old volume could not be removed; its command."""
    made.world.fails["Image.delete"] = [HELD] * 3
    row, spec = await moved(made, DATA2)
    assert row.state == "succeeded"
    assert {OLD} == {*made.world.images[DATA, SOURCE]}
    assert {spec.volume} == {*made.world.images[DATA2, SOURCE]}
    return str(row.id)


async def given_up(made: Estate) -> str:
    """A move from DATA to DATA2 that failed, and whose target could not be deleted."""
    world, made.world.ends = made.world, "failed"
    world.fails["Image.delete"] = [HELD] * 3
    row, _ = await moved(made, DATA2)
    assert row.state == "quarantined"
    world.ends = "done"
    return str(row.id)


async def open_to_all(made: Estate) -> str:
    """A move from DATA to DATA2 of which nobody knows how it ended; an engine of an older version
    has unlocked its disk."""
    command, _ = await unresolved(made, DATA2)
    await made.database.write(lambda c: disks.unlock(c, SOURCE, command))
    made.world.ends = "done"
    return command


def volumes_at(made: Estate, domain: str) -> set[str]:
    return {*made.world.images.get((domain, SOURCE), {})}


async def used(made: Estate) -> str:
    row: Disk = await made.read(lambda c: disks.get(c, SOURCE))
    assert row.state == "ok"
    assert row.volume is not None
    return row.volume


async def kept(made: Estate) -> list[str]:
    return [one.object for one in await made.read(quarantine.search)]


@pytest.mark.parametrize(("first", "to"), [(left_behind, DATA), (given_up, DATA2)])
async def test_a_disk_does_not_move_to_where_an_earlier_move_has_left_a_volume(
    tmp_path: Path, first: Any, to: str
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(DATA, SOURCE)
        command = await first(made)
        before = await made.read(lambda c: disks.get(c, SOURCE))
        with pytest.raises(InQuarantine, match=f"`leasehold engine job clear {command}`"):
            await moved(made, to)
        assert await made.read(lambda c: disks.get(c, SOURCE)) == before
        await made.commands.clear(command)
        await made.ended(command)
        row, spec = await moved(made, to)
        assert row.state == "succeeded", row.error
        assert volumes_at(made, to) == {spec.volume} == {await used(made)}
        await nothing_is_left(made, spec)


async def test_an_unresolved_move_is_named_with_the_wish_that_helps(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(DATA, SOURCE)
        command = await open_to_all(made)
        with pytest.raises(InQuarantine, match=f"`leasehold engine job resolve {command}`"):
            await moved(made, DATA2)
        row, _ = await moved(made, ARRAY)  # elsewhere nothing is in its way
        assert row.state == "succeeded", row.error


@pytest.mark.parametrize("state", ["creating", "ok", "removing"])
async def test_no_command_makes_an_image_where_the_database_has_a_volume_of_it(
    tmp_path: Path, state: Any
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(ARRAY, SOURCE)
        there = Volume("v", None, DATA, SOURCE, None, GIB, "raw", state, None)
        copy = CopyDisk(disk=SOURCE, domain=DATA, name="x", copy="c")
        await made.database.write(lambda c: volumes.add(c, there))
        await made.database.write(
            lambda c: volumes.add(c, Volume("w", None, DATA, "c", None, GIB, "raw", state, None))
        )
        for name, spec in (
            ("move_disk", MoveDisk(disk=SOURCE, domain=DATA)),
            ("copy_disk", copy),
            ("add_disk", AddDisk(disk="c", name="x", domain=DATA, size=GIB)),
        ):
            with pytest.raises(StillUsed):
                await made.commands.start(name, spec, user="admin")
        assert made.world.images == {}
        assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"


async def test_a_disk_with_the_id_of_one_that_was_removed_is_not_added_beside_what_it_left(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(DATA, SOURCE)
        command = await left_behind(made)
        assert (await run(made, "remove_disk", RemoveDisk(disk=SOURCE))).state == "succeeded"
        with pytest.raises(InQuarantine, match=command):
            await run(made, "add_disk", AddDisk(disk=SOURCE, name="x", domain=DATA, size=GIB))
        await made.commands.clear(command)
        await made.ended(command)
        assert made.world.images == {}
        assert await made.read(volumes.search) == []


# --- from before: an engine of an older version has let it come to that -------------------------


@pytest.fixture
def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether an image is there already."""
    monkeypatch.setattr(image_places, "must_be_new", lambda *args: None)


async def beside(made: Estate, first: Any, to: str) -> tuple[str, str]:
    """A volume that was left, and beside it the one that the disk uses: the command that has left
    the one, and the id of the other."""
    await made.disk(DATA, SOURCE)
    command = await first(made)
    row, spec = await moved(made, to)
    assert row.state == "succeeded", row.error
    assert volumes_at(made, to) > {spec.volume}
    return command, spec.volume


@pytest.mark.parametrize(
    ("first", "to"), [(left_behind, DATA), (given_up, DATA2), (open_to_all, DATA2)]
)
async def test_clearing_what_an_earlier_move_has_left_spares_the_disk(
    tmp_path: Path, first: Any, to: str, careless: None
) -> None:
    async with estate(tmp_path, World("running" if first is open_to_all else "done")) as made:
        command, volume = await beside(made, first, to)
        before, left = volumes_at(made, to), await kept(made)
        if first is open_to_all:
            with pytest.raises(WrongState, match="changed since its move began"):
                await made.commands.resolve(command)
        asked = len(made.world.of("Image.delete"))
        await made.commands.clear(command)
        row = await made.ended(command)
        assert row.state == ("succeeded" if first is left_behind else "quarantined")
        assert len(made.world.of("Image.delete")) == asked
        assert volumes_at(made, to) == before
        assert await used(made) == volume
        [one] = await made.read(quarantine.search)
        assert [one.object] == left
        assert f"in use by volume {volume} of disk disk-{SOURCE[:4]} ({SOURCE})" in one.reason


@pytest.mark.parametrize(
    ("first", "to"), [(left_behind, DATA), (given_up, DATA2), (open_to_all, DATA2)]
)
async def test_what_was_left_beside_a_disk_can_be_cleared_when_the_disk_has_moved(
    tmp_path: Path, first: Any, to: str, careless: None
) -> None:
    async with estate(tmp_path, World("running" if first is open_to_all else "done")) as made:
        command, _ = await beside(made, first, to)
        row, spec = await moved(made, OTHER)
        assert row.state == "succeeded", row.error
        for id in (command, row.id):
            if id in {one.command for one in await made.read(quarantine.search)}:
                await made.commands.clear(id)
                await made.ended(id)
        assert made.world.images == {}
        await nothing_is_left(made, spec)


async def test_a_disk_is_removed_with_what_it_had_left_in_the_same_folder(
    tmp_path: Path, careless: None
) -> None:
    async with estate(tmp_path, World()) as made:
        command, _ = await beside(made, left_behind, DATA)
        row = await run(made, "remove_disk", RemoveDisk(disk=SOURCE))
        assert row.state == "succeeded", row.error
        assert made.world.images == {}
        await made.commands.clear(command)
        await made.ended(command)
        assert await made.read(quarantine.search) == []
        assert await made.read(volumes.search) == []


async def test_a_disk_is_not_removed_with_what_a_host_may_have_in_the_same_folder(
    tmp_path: Path, careless: None
) -> None:
    async with estate(tmp_path, World("running")) as made:
        command, volume = await beside(made, open_to_all, DATA2)
        there = volumes_at(made, DATA2)
        row = await run(made, "remove_disk", RemoveDisk(disk=SOURCE))
        assert (row.state, row.error["code"]) == ("failed", StillUsed.code)
        assert f"`leasehold engine job resolve {command}`" in row.error["message"]
        assert await used(made) == volume
        assert volumes_at(made, DATA2) == there


# --- the volumes that a disk has besides --------------------------------------------------------


async def more(made: Estate, state: str) -> str:
    """Another volume of the disk, which it does not use; its id."""
    id = f"{SOURCE[:-1]}e"
    made.world.arrays[ARRAY].hosts[id] = set()
    row = Volume(id, SOURCE, ARRAY, None, None, GIB, "raw", "ok", None)

    def add(c: Any) -> None:
        volumes.add(c, row)
        if state == "kept":
            volumes.keep(c, id)

    await made.database.write(add)
    return id


@pytest.mark.parametrize("domain", [OTHER, DATA])
async def test_a_disk_does_not_move_while_a_volume_of_it_is_in_quarantine(
    tmp_path: Path, domain: str
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(ARRAY, SOURCE)
        id = await more(made, "kept")
        with pytest.raises(InQuarantine, match=id):
            await moved(made, domain)
        assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"


async def test_a_volume_that_is_in_quarantine_when_a_disk_switches_is_not_lost(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await moving(made, OTHER)
        id = await more(made, "kept")
        made.world.end(spec.job, "done")
        assert (await made.ended(command)).state == "succeeded"
        assert await used(made) == spec.volume
        assert made.world.arrays[ARRAY].hosts == {id: set()}
        row = await made.read(lambda c: volumes.get(c, id))
        assert (row.disk, row.domain, row.state) == (SOURCE, ARRAY, "kept")


async def test_a_moved_disk_leaves_none_of_its_volumes(tmp_path: Path) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(ARRAY, SOURCE)
        await more(made, "ok")
        row, spec = await moved(made, OTHER)
        assert row.state == "succeeded", row.error
        assert made.world.arrays[ARRAY].hosts == {}
        assert [one.id for one in await made.read(volumes.search)] == [spec.volume]
        await nothing_is_left(made, spec)


async def test_a_failed_copy_whose_target_was_removed_by_hand_ends(tmp_path: Path) -> None:
    async with estate(tmp_path, World("failed")) as made:
        await made.disk(DATA, SOURCE)
        for name, spec in (
            ("move_disk", MoveDisk(disk=SOURCE, domain=DATA2)),
            ("copy_disk", CopyDisk(disk=SOURCE, domain=DATA2, name="copy")),
        ):
            made.world.fails["Image.delete"] = [HELD] * 3
            row = await run(made, name, spec)
            assert row.state == "quarantined"
            del made.world.images[DATA2, getattr(spec, "copy", SOURCE)]
            await made.commands.clear(row.id, by_hand=True)
            assert (await made.ended(row.id)).state == "failed"
            await nothing_is_left(made, spec)


@pytest.mark.parametrize("vain", [False, True], ids=["at once", "after a clear in vain"])
async def test_a_copy_keeps_its_volume_when_its_access_was_cut_by_hand(
    tmp_path: Path, vain: bool
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(DATA, SOURCE)
        made.world.arrays[ARRAY].fails["disconnect"] = [AdapterFailed("array", "x", "no")] * 99
        spec = CopyDisk(disk=SOURCE, domain=ARRAY, name="copy")
        row = await run(made, "copy_disk", spec)
        if vain:
            await made.commands.clear(row.id)
            await made.ended(row.id)
        kept = await made.read(lambda c: volumes.get(c, spec.volume))
        assert (row.state, kept.state) == ("succeeded", "kept")
        made.world.arrays[ARRAY].fails.clear()
        await made.commands.clear(row.id, by_hand=True)
        assert (await made.ended(row.id)).state == "succeeded"
        volume = await made.read(lambda c: volumes.get(c, spec.volume))
        disk = await made.read(lambda c: disks.get(c, spec.copy))
        assert (volume.state, disk.state, disk.locked_by) == ("ok", "ok", None)


async def test_a_moved_disk_leaves_no_volume_though_its_row_was_forgotten(tmp_path: Path) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(ARRAY, SOURCE)
        [old] = made.world.arrays[ARRAY].hosts
        await made.database.write(lambda c: volumes.remove(c, old))
        row, spec = await moved(made, OTHER)
        assert row.state == "succeeded", row.error
        assert made.world.arrays[ARRAY].hosts == {}
        await nothing_is_left(made, spec)


async def test_only_its_own_volume_may_be_all_that_goes_with_an_image(tmp_path: Path) -> None:
    """Those that are only still to be removed are no hindrance; all others are."""
    async with estate(tmp_path, World()) as made:
        rows = [
            Volume("mine", None, DATA, "i", None, GIB, "raw", "creating", None),
            Volume("left", None, DATA, "i", None, GIB, "raw", "removing", None),
            Volume("kept", None, DATA, "i", None, GIB, "raw", "removing", None),
            Volume("made", None, DATA, "i", None, GIB, "raw", "creating", None),
            Volume("open", None, DATA, "i", None, GIB, "raw", "creating", None),
            Volume("else", None, DATA2, "i", None, GIB, "raw", "ok", None),
        ]

        def add(c: Any) -> list[str]:
            for one in rows:
                volumes.add(c, one)
            for id in ("kept", "open"):
                volumes.keep(c, id)
            but = partial(volumes.of_image, c, DATA, "i", but=("mine",))
            assert len(but()) == 4
            return [one.id for one in but(needed=True)]

        assert await made.database.write(add) == ["made", "open"]
