"""The local disks of a host, on a stand-in for LVM: who may touch which, and when."""

from dataclasses import replace
from pathlib import Path

import pytest

from processes.lvm_report import LogicalVolume
from protocol.errors import (
    BadParameter,
    LocalDiskChanged,
    LocalDiskInUse,
    LocalDiskRefused,
    NoLocalSpace,
    NoSuchLocalDisk,
    ThinPoolMissing,
    ThinPoolUnsafe,
    ToolFailed,
    VolumeGroupMissing,
)
from storage.local_disk import Backend, LocalDisk
from storage.local_disks import LocalDisks
from tests.local_disks import EXTENT, GROUP, POOL, StandIn
from tests.lvm_stand_in import LvmStandIn

VOLUME = "77777777-7777-4888-8999-aaaaaaaaaaaa"
OTHER = "88888888-7777-4888-8999-aaaaaaaaaaaa"
IMAGE = "66666666-7777-4888-8999-aaaaaaaaaaaa"
JOB = "11111111-2222-4333-8444-555555555555"
JOB2 = "21111111-2222-4333-8444-555555555555"
VM = "dddddddd-eeee-4fff-8000-111111111111"
BLANK = "00000000-0000-0000-0000-000000000000"
NOW = 1_700_000_000
FOREIGN = [(), ("backup",), ("UPDATING",), (f"JOB_{JOB}",)]


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def disks(group: StandIn) -> LocalDisks:
    return LocalDisks(group.lvm)


async def made(disks: LocalDisks, backend: Backend = "lvmthin", *, job: str = JOB) -> LocalDisk:
    return await disks.create(
        VOLUME, EXTENT + 1, backend, image_id=IMAGE, job_id=job, vm_id=VM, generation=7, now=NOW
    )


def changes(group: StandIn) -> list[str]:
    """The verbs of the operations that were no mere look."""
    return [c[0] for c in group.calls() if c[0] not in ("volume", "volumes", "group", "pool")]


@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
async def test_a_new_disk_is_filled_by_its_job(
    group: StandIn, disks: LocalDisks, backend: Backend
) -> None:
    disk = await made(disks, backend)
    assert disk == await disks.find(VOLUME)
    assert disk == LocalDisk(
        VOLUME,
        2 * EXTENT,
        backend,
        image_id=IMAGE,
        vm_id=VM,
        job_id=JOB,
        generation=7,
        prepared=NOW,
        filling=True,
        active=True,
        data_percent=0.0 if backend == "lvmthin" else None,
    )
    assert group.volumes()[VOLUME].tags == {
        *("UPDATING", f"IU_{IMAGE}", f"PU_{BLANK}", f"VM_{VM}", f"JOB_{JOB}", "GEN_7"),
        f"AT_{NOW}",
    }
    assert disks.path(VOLUME) == str(group.device(VOLUME))


async def test_there_is_one_disk_of_a_name(disks: LocalDisks) -> None:
    await made(disks)
    with pytest.raises(LocalDiskChanged, match="another start"):
        await made(disks, job=JOB2)
    found = await disks.find(VOLUME)
    assert found is not None
    assert found.job_id == JOB


async def test_a_disk_is_ready_when_its_job_says_so(group: StandIn, disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    found = await disks.find(VOLUME)
    assert found is not None
    assert (found.filling, found.job_id) == (False, JOB)
    having = ["=UPDATING", f"=IU_{IMAGE}", f"=JOB_{JOB}"]  # looked at by LVM itself, once more
    assert group.calls()[-2] == ["change", VOLUME, *having, "-UPDATING"]


async def test_no_other_job_makes_a_disk_ready(disks: LocalDisks) -> None:
    await made(disks)
    with pytest.raises(LocalDiskChanged, match=JOB2):
        await disks.ready(VOLUME, JOB2)
    found = await disks.find(VOLUME)
    assert found is not None
    assert found.filling


async def test_a_disk_is_made_ready_once(disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    with pytest.raises(LocalDiskChanged, match="ready already"):
        await disks.ready(VOLUME, JOB)


async def test_a_disk_that_is_gone_is_not_made_ready(disks: LocalDisks) -> None:
    with pytest.raises(NoSuchLocalDisk):
        await disks.ready(VOLUME, JOB)


async def test_a_ready_disk_is_handed_out_with_three_commands(
    group: StandIn, disks: LocalDisks
) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    await disks.deactivate(VOLUME)
    before = len(group.calls())
    disk = await disks.find(VOLUME)
    assert disk is not None
    used = await disks.use(disk, now=NOW + 60, vm_id=OTHER, start=True)
    assert len(group.calls()) - before == 3
    assert replace(used, data_percent=0.0) == await disks.find(VOLUME)
    assert (used.active, used.started, used.vm_id, used.prepared) == (True, True, OTHER, NOW + 60)
    assert group.volumes()[VOLUME].tags == {
        *(f"IU_{IMAGE}", f"PU_{BLANK}", f"VM_{OTHER}", f"JOB_{JOB}", "GEN_7"),
        *(f"AT_{NOW + 60}", "STARTED"),
    }


async def test_it_is_marked_as_started_before_anybody_can_write_to_it(
    group: StandIn, disks: LocalDisks
) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    disk = await disks.find(VOLUME)
    assert disk is not None
    await disks.use(disk, now=NOW + 1, start=True)
    assert changes(group)[-2:] == ["change", "activate"]


async def test_what_was_started_stays_so(disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    for start in (True, False):
        disk = await disks.find(VOLUME)
        assert disk is not None
        assert (await disks.use(disk, now=NOW, start=start)).started


async def test_foreign_tags_are_kept(group: StandIn, disks: LocalDisks) -> None:
    tags = {f"IU_{IMAGE}", "backup", "owner=me"}
    group.add(LogicalVolume(VOLUME, EXTENT, frozenset(tags)))
    disk = await disks.find(VOLUME)
    assert disk is not None
    await disks.use(disk, now=NOW, vm_id=VM, start=True)
    assert group.volumes()[VOLUME].tags == {*tags, f"VM_{VM}", f"AT_{NOW}", "STARTED"}


async def test_a_disk_that_is_filled_is_not_handed_out(group: StandIn, disks: LocalDisks) -> None:
    disk = await made(disks)
    with pytest.raises(LocalDiskChanged, match="being filled"):
        await disks.use(disk, now=NOW)
    assert changes(group) == ["create"]


async def test_a_device_that_does_not_come_is_told(group: StandIn, disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOLUME, JOB)
    disk = await disks.find(VOLUME)
    assert disk is not None
    silent = LocalDisks(LvmStandIn(GROUP, dev="/nowhere", stand_in=group))
    with pytest.raises(LocalDiskChanged, match="no /nowhere"):
        await silent.use(disk, now=NOW)
    with pytest.raises(LocalDiskChanged, match="no /nowhere"):
        await silent.activate(VOLUME)


@pytest.mark.parametrize("tags", FOREIGN, ids=lambda tags: ",".join(tags)[:10] or "none")
async def test_a_volume_of_others_is_never_touched(
    group: StandIn, disks: LocalDisks, tags: tuple[str, ...]
) -> None:
    group.add(LogicalVolume(VOLUME, EXTENT, frozenset(tags), active=True))
    disk = await disks.find(VOLUME)
    assert disk is not None
    assert not disk.ours
    for call in (
        disks.ready(VOLUME, JOB),
        disks.activate(VOLUME),
        disks.deactivate(VOLUME),
        disks.remove(disk),
    ):
        with pytest.raises(LocalDiskRefused, match="made by others"):
            await call
    if "UPDATING" not in tags:
        with pytest.raises(LocalDiskRefused, match="made by others"):
            await disks.use(disk, now=NOW, start=True)
    assert changes(group) == []
    assert group.volumes()[VOLUME].tags == set(tags)
    assert await disks.all() == []


async def test_all_are_ours_and_in_order(group: StandIn, disks: LocalDisks) -> None:
    tags = frozenset({f"IU_{IMAGE}"})
    for name in (OTHER, VOLUME):
        group.add(LogicalVolume(name, EXTENT, tags))
    group.add(LogicalVolume("pool0", EXTENT, tags))
    group.add(LogicalVolume("home", EXTENT, tags))
    assert [disk.volume_id for disk in await disks.all()] == [VOLUME, OTHER]


async def test_a_disk_is_removed(group: StandIn, disks: LocalDisks) -> None:
    disk = await made(disks)
    await disks.remove(disk)
    assert group.volumes() == {}
    await disks.remove(disk)  # it is gone already


async def test_a_disk_that_was_made_since_is_not_removed(group: StandIn, disks: LocalDisks) -> None:
    old = await made(disks)
    await disks.remove(old)
    await made(disks, job=JOB2)
    with pytest.raises(LocalDiskChanged, match="another one"):
        await disks.remove(old)
    assert f"JOB_{JOB2}" in group.volumes()[VOLUME].tags


async def test_an_open_disk_is_not_removed(group: StandIn, disks: LocalDisks) -> None:
    opened = LogicalVolume(VOLUME, EXTENT, frozenset({f"IU_{IMAGE}"}), active=True, open=True)
    group.add(opened)
    disk = await disks.find(VOLUME)
    assert disk is not None
    with pytest.raises(LocalDiskInUse, match="open"):
        await disks.remove(disk)
    assert changes(group) == []
    closed = LocalDisk(VOLUME, EXTENT, image_id=IMAGE)  # as it was a moment ago
    with pytest.raises(LocalDiskInUse, match="in use"):
        await disks.remove(closed)
    assert group.volumes()[VOLUME] == opened


@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
async def test_room_is_looked_for_in_the_right_place(
    group: StandIn, disks: LocalDisks, backend: Backend
) -> None:
    with group.content() as content:
        content.size, content.pool_size = 300 * EXTENT, 100 * EXTENT
        content.data_percent = 50.0
    fits, place = (200, "volume group") if backend == "lvm" else (50, "thin pool")
    await disks.check_space(backend, fits * EXTENT)
    with pytest.raises(NoLocalSpace, match=f"{place} {GROUP}"):
        await disks.check_space(backend, fits * EXTENT + 1)
    assert changes(group) == []


async def test_a_thin_disk_may_be_larger_than_its_data(group: StandIn, disks: LocalDisks) -> None:
    with group.content() as content:
        content.pool_size = 100 * EXTENT
    await disks.check_space("lvmthin", 1000 * EXTENT, data=EXTENT)
    with pytest.raises(NoLocalSpace):
        await disks.check_space("lvm", 1 << 41, data=EXTENT)


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("remove", "  Cannot send messages to thin pool vg-pool0 with read only metadata."),
        ("create", "  Cannot create new thin volume, free space in thin pool reached threshold."),
        ("create", "  Free space in pool vg/p is above threshold, new volumes are not allowed."),
    ],
)
async def test_a_pool_that_lvm_can_change_nothing_in_is_told_with_the_way_out(
    group: StandIn, disks: LocalDisks, verb: str, words: str
) -> None:
    disk = await made(disks, "lvmthin") if verb == "remove" else None
    group.fail(verb, words)
    with group.content() as content:
        content.metadata_percent = 100.0
    with pytest.raises(NoLocalSpace, match="--poolmetadatasize"):
        await (made(disks, "lvmthin") if disk is None else disks.remove(disk))


@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
async def test_what_lvm_says_stays_when_there_is_room(
    group: StandIn, disks: LocalDisks, backend: Backend
) -> None:
    disk = await made(disks, backend)
    group.fail("remove", "  read only metadata")
    with pytest.raises(ToolFailed, match="read only metadata"):
        await disks.remove(disk)


@pytest.mark.parametrize("backend", ["lvm", "lvmthin"])
async def test_a_missing_group_is_named(
    group: StandIn, disks: LocalDisks, backend: Backend
) -> None:
    with group.content() as content:
        content.present = False
    with pytest.raises(VolumeGroupMissing, match="vgcreate"):
        await disks.check_space(backend, EXTENT)
    with pytest.raises(VolumeGroupMissing):
        await disks.find(VOLUME)
    with pytest.raises(VolumeGroupMissing):
        await made(disks, backend)


async def test_a_missing_pool_is_named(group: StandIn, disks: LocalDisks) -> None:
    with group.content() as content:
        content.pool_size = None
    with pytest.raises(ThinPoolMissing, match="lvcreate --type thin-pool"):
        await disks.check_space("lvmthin", EXTENT)
    await disks.check_space("lvm", EXTENT)
    with pytest.raises(ThinPoolMissing):
        await made(disks)


async def test_a_pool_that_lets_writes_wait_is_refused(group: StandIn, disks: LocalDisks) -> None:
    with group.content() as content:
        content.error_when_full = False
    with pytest.raises(ThinPoolUnsafe, match=f"--errorwhenfull y {GROUP}/{POOL}"):
        await disks.check_space("lvmthin", EXTENT)


async def test_a_sleeping_pool_is_woken_to_be_asked(group: StandIn, disks: LocalDisks) -> None:
    with group.content() as content:
        content.pool_active = False
    await disks.check_space("lvmthin", EXTENT)
    assert changes(group) == ["wake"]


async def test_a_group_that_became_full_meanwhile_is_named(
    group: StandIn, disks: LocalDisks
) -> None:
    with group.content() as content:
        content.size = content.pool_size = EXTENT
    with pytest.raises(NoLocalSpace, match=f"vgextend {GROUP} DEVICE"):
        await made(disks, "lvm")


@pytest.mark.parametrize("volume_id", ["", "--help", "../pool0", "pool0", f"{VOLUME}\n", "@x"])
async def test_a_hostile_name_reaches_nothing(
    group: StandIn, disks: LocalDisks, volume_id: str
) -> None:
    for call in (disks.find(volume_id), disks.activate(volume_id), disks.ready(volume_id, JOB)):
        with pytest.raises(BadParameter):
            await call
    with pytest.raises(BadParameter):
        disks.path(volume_id)
    with pytest.raises(BadParameter):
        await disks.create(volume_id, EXTENT, "lvm", image_id=IMAGE, job_id=JOB, now=NOW)
    assert group.calls() == []


@pytest.mark.parametrize("hostile", ["x", "", f"{IMAGE}\n", f"{IMAGE},STARTED", "--addtag"])
async def test_hostile_ids_become_no_tags(group: StandIn, disks: LocalDisks, hostile: str) -> None:
    with pytest.raises(BadParameter):
        await disks.create(VOLUME, EXTENT, "lvm", image_id=hostile, job_id=JOB, now=NOW)
    with pytest.raises(BadParameter):
        await disks.create(VOLUME, EXTENT, "lvm", image_id=IMAGE, job_id=hostile, now=NOW)
    assert group.calls() == []
