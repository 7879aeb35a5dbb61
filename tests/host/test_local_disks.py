"""Local disks without an agent: made, used again, told when their source changes, removed."""

import os
import uuid
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest
import trio

from endpoints import disk
from endpoints.domain import create_domain, open_store
from endpoints.local import changing
from endpoints.locks import Lock, Mode, held
from endpoints.url import PathUrl
from host.copying import local_disks
from host.folder import Ending, Spec
from host.local_disk_jobs import OwnJobs
from host.local_disk_look import look
from host.local_disk_removal import remove_found
from host.local_disks import DEATHS, Here, Prepared, gc, listed, prepare, prepared, remove
from jobs.progress import Progress, Report
from jobs.status import Status
from leases import verbs
from leases.hold import hold
from leases.verbs import info
from processes.lvm_report import LogicalVolume
from protocol.errors import (
    BadParameter,
    Error,
    ImageMissing,
    LocalDiskInUse,
    LocalDiskRefused,
    LocalDiskUncertain,
    NoLocalSpace,
    StorageDomainDoesNotExist,
    ThinPoolMissing,
    VolumeGroupMissing,
    WorkerDied,
    to_rpc,
)
from protocol.messages import JobMetadata
from protocol.record import JobStatus
from protocol.reported import Reported
from storage import volume_metadata
from storage.domain import Domain
from storage.local_disk import LocalDisk
from storage.local_disks import LocalDisks
from storage.volume_metadata import VolumeMetadata
from tests.local_disk_host import EXTENT, IMG, MIB, OTHER_VOL, VM, VOL, DiskHost
from tests.local_disks import StandIn

pytestmark = pytest.mark.tools("qemu-img")
THIRD_VOL = "97777777-8888-4999-8aaa-bbbbbbbbbbbb"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
OTHER_VM = "eeeeeeee-eeee-4fff-8000-111111111111"
BACKENDS = pytest.mark.parametrize("backend", ["lvm", "lvmthin"])


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def host(tmp_path: Path, group: StandIn) -> DiskHost:
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    return DiskHost(tmp_path, settings).set_up(os.urandom(MIB) + bytes(4 * MIB))


@pytest.fixture
async def here(host: DiskHost) -> Here:
    return await host.here()


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


async def made(here: Here, host: DiskHost, **other: object) -> Prepared:
    return await prepared(here, host.request(**other), ignored)


def tags(group: StandIn, name: str = VOL) -> set[str]:
    return set(group.volumes()[name].tags)


def with_generation(host: DiskHost, generation: int) -> None:
    """Give the source the metadata of a volume."""
    facts = VolumeMetadata(
        capacity=host.source.stat().st_size,
        ctime=1700000000,
        description="",
        disktype="DATA",
        domain=JOB,
        format="RAW",
        generation=generation,
        image=IMG,
        legality="LEGAL",
        parent="00000000-0000-0000-0000-000000000000",
        type="SPARSE",
        voltype="LEAF",
    )
    meta = host.source.with_name(host.source.name + ".meta")
    meta.write_bytes(volume_metadata.encode(facts))


@BACKENDS
async def test_a_disk_is_made_once_and_then_used(
    here: Here, host: DiskHost, group: StandIn, backend: str
) -> None:
    new = await made(here, host, backend=backend)
    assert (new.state, new.reused, new.changed) == ("ready", False, False)
    assert Path(new.path).read_bytes()[: 5 * MIB] == host.source.read_bytes()
    assert group.volumes()[VOL].size == 2 * EXTENT
    assert {f"IU_{IMG}", f"VM_{VM}", f"JOB_{new.job_id}"} <= tags(group)
    assert not {"UPDATING", "STARTED"} & tags(group)
    before = len(group.calls())
    again = await made(here, host, backend=backend, start=True)
    assert again == Prepared(VOL, "ready", new.path, new.job_id, reused=True)
    assert len(group.calls()) - before <= 3  # commands of LVM
    assert "STARTED" in tags(group)
    assert await here.leases.all_own() == []
    assert os.listdir(here.config.journal) == []


async def test_lvm_looks_at_the_devices_of_the_configuration_alone(tmp_path: Path) -> None:
    """Also in the process of a worker, which is told of them by its job."""
    settings = {"devices": ["/dev/sdb"], "thin_pool": "fast", "volume_group": "vg0"}
    here = await DiskHost(tmp_path, settings).set_up(b"").here()
    for disks in (here.disks, local_disks(here.group)):
        found = disks.lvm.devices, disks.lvm.volume_group, disks.pool
        assert found == (("/dev/sdb",), "vg0", "fast")


async def test_a_thin_disk_needs_room_for_its_data_alone(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    host.source.write_bytes(os.urandom(MIB))
    os.truncate(host.source, 64 * MIB)
    with group.content() as content:
        content.pool_size = 2 * MIB
    assert (await made(here, host)).state == "ready"
    with group.content() as content:
        content.pool_size = MIB // 2
    with pytest.raises(NoLocalSpace):
        await made(here, host, vol_id=OTHER_VOL)


async def test_who_waits_for_the_copy_of_another_start_is_told_so_and_sees_its_progress(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    other, heard = await host.here(), list[str]()
    running = trio.Event()
    host.source.write_bytes(os.urandom(32 * MIB))  # half a minute, unless it is aborted

    def copying(progress: Progress) -> None:
        if progress.stage == "copying":
            running.set()

    def seen(progress: Progress) -> None:
        heard.append(progress.stage)
        if progress.stage == "copying":
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(prepared, other, host.request(limit=MIB), copying)
        await running.wait()
        await prepared(here, host.request(), seen)
    [job] = (tag.removeprefix("JOB_") for tag in tags(group) if tag.startswith("JOB_"))
    assert heard[0] == f"waiting for job {job}, which fills the disk already"
    assert heard[-1] == "copying"


async def test_progress_is_told(here: Here, host: DiskHost) -> None:
    heard: list[Progress] = []
    await prepared(here, host.request(limit=8 * MIB), heard.append)
    assert any(one.percent for one in heard)
    assert "copying" in {one.stage for one in heard}


async def test_a_cancelled_start_ends_its_copy_as_failed(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    with trio.CancelScope() as scope:

        def stop(progress: Progress) -> None:
            if progress.stage == "copying":
                scope.cancel()

        await prepared(here, host.request(limit=MIB), stop)
    assert scope.cancelled_caught
    [job_id] = await here.leases.all_own()
    assert (await here.leases.look(job_id)).lease.value == "FAILED"
    assert "UPDATING" in tags(group)
    assert (await made(here, host)).job_id != job_id
    assert await here.leases.all_own() == []


async def test_a_changed_source_is_copied_again_until_a_vm_has_started(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    with_generation(host, 1)
    first = await made(here, host)
    assert "GEN_1" in tags(group)
    with_generation(host, 2)
    second = await made(here, host, start=True)
    assert (second.changed, second.reused) == (False, False)
    assert second.job_id != first.job_id
    with_generation(host, 3)
    third = await made(here, host)
    assert (third.changed, third.reused, third.job_id) == (True, True, second.job_id)
    last = await made(here, host, again=True)
    assert (last.changed, last.reused) == (False, False)
    assert "GEN_3" in tags(group)


async def test_a_disk_of_another_size_is_kept_only_for_a_vm(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await made(here, host)
    with host.source.open("ab") as file:
        file.truncate(9 * MIB)
    await made(here, host, start=True)
    assert group.volumes()[VOL].size == 3 * EXTENT
    with host.source.open("ab") as file:
        file.truncate(13 * MIB)
    with pytest.raises(LocalDiskRefused, match="size"):
        await made(here, host)
    assert group.volumes()[VOL].size == 3 * EXTENT
    await made(here, host, again=True)
    assert group.volumes()[VOL].size == 4 * EXTENT
    with host.source.open("ab") as file:
        file.truncate(5 * MIB)
    await made(here, host)
    assert group.volumes()[VOL].size == 2 * EXTENT


async def test_the_disk_of_another_vm_is_handed_out_only_while_nothing_was_written_to_it(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await made(here, host)
    assert (await made(here, host, vm_id=OTHER_VM, start=True)).reused
    assert f"VM_{OTHER_VM}" in tags(group)
    assert f"VM_{VM}" not in tags(group)
    with pytest.raises(LocalDiskRefused, match="another VM"):
        await made(here, host)
    assert (await made(here, host, vm_id=OTHER_VM)).reused
    assert not (await made(here, host, again=True)).reused  # whatever is lost
    assert f"VM_{VM}" in tags(group)


async def test_a_disk_that_another_vm_has_open_is_not_handed_out(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await made(here, host)
    with group.content() as content:
        content.volumes[0].open = True
    with pytest.raises(LocalDiskInUse, match="another VM"):
        await made(here, host, vm_id=OTHER_VM)
    assert (await made(here, host)).reused


async def test_a_ready_disk_is_used_though_its_source_is_gone(here: Here, host: DiskHost) -> None:
    await made(here, host)
    host.source.unlink()
    assert (await made(here, host)).reused
    with pytest.raises(ImageMissing):
        await made(here, host, vol_id=OTHER_VOL)
    with pytest.raises(ImageMissing):
        await made(here, host, again=True)
    assert (await made(here, host)).reused  # nothing was removed for that


async def test_a_source_of_an_unknown_domain_is_told(here: Here, host: DiskHost) -> None:
    source = {"endpoint_type": "div", "sd_id": JOB, "img_id": IMG, "vol_id": VOL}
    with pytest.raises(StorageDomainDoesNotExist):
        await made(here, host, source=source)


@pytest.mark.parametrize(
    "other",
    [
        {"vol_id": "../../x"},
        {"vol_id": "-ay"},
        {"vol_id": VOL + "\n"},
        {"img_id": "x,UPDATING"},
        {"vm_id": "@tag"},
        {"source": {"endpoint_type": "external", "url": "relative", "format": "raw"}},
        {"source": {"endpoint_type": "local", "vol_id": VOL}},
        {"source": {}},
    ],
)
async def test_hostile_requests_are_refused(
    here: Here, host: DiskHost, group: StandIn, other: dict[str, object]
) -> None:
    with pytest.raises(BadParameter):
        await made(here, host, **other)
    assert group.volumes() == {}
    assert await here.leases.all_own() == []


@pytest.mark.parametrize(
    ("found", "error"),
    [
        (LogicalVolume(VOL, 2 * EXTENT), LocalDiskRefused),
        (LogicalVolume(VOL, 2 * EXTENT, frozenset({"backup"}), active=True), LocalDiskRefused),
        (LogicalVolume(VOL, 2 * EXTENT, frozenset({f"IU_{JOB}"})), LocalDiskRefused),
        (LogicalVolume(VOL, 2 * EXTENT, frozenset({f"IU_{JOB}", "UPDATING"})), LocalDiskRefused),
        (
            LogicalVolume(
                VOL, 2 * EXTENT, frozenset({f"IU_{IMG}", "UPDATING"}), active=True, open=True
            ),
            LocalDiskInUse,
        ),
    ],
)
async def test_what_is_not_ours_stays(
    here: Here, host: DiskHost, group: StandIn, found: LogicalVolume, error: type[Error]
) -> None:
    group.add(found)
    before = group.volumes()
    with pytest.raises(error):
        await made(here, host)
    assert group.volumes() == before


@pytest.mark.parametrize("active", [True, False])
async def test_a_disk_of_ovirts_hook_is_taken_over(
    here: Here, host: DiskHost, group: StandIn, active: bool
) -> None:
    words = frozenset({f"IU_{IMG}", f"VM_{VM}", "backup=daily"})
    group.add(LogicalVolume(VOL, 2 * EXTENT, words, active=active))
    assert (await made(here, host)).reused
    assert group.volumes()[VOL].active
    assert words <= tags(group)


async def test_one_that_ovirts_hook_has_left_unfinished_is_copied_again(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    group.add(LogicalVolume(VOL, 2 * EXTENT, frozenset({f"IU_{IMG}", "UPDATING"})))
    new = await made(here, host)
    assert not new.reused
    assert Path(new.path).read_bytes()[: 5 * MIB] == host.source.read_bytes()


async def test_what_stops_a_copy_before_it_begins_leaves_nothing(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    with group.content() as content:
        content.present = False
    with pytest.raises(VolumeGroupMissing):
        await made(here, host)
    with group.content() as content:
        content.present, content.pool_size = True, None
    with pytest.raises(ThinPoolMissing):
        await made(here, host)
    with group.content() as content:
        content.size = EXTENT
    with pytest.raises(NoLocalSpace):
        await made(here, host, backend="lvm")
    assert group.volumes() == {}
    assert await here.leases.all_own() == []


async def test_a_lease_that_cannot_be_made_leaves_nothing(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*ignored: object) -> None:
        raise Error

    monkeypatch.setattr("host.local_disk_leases.Leases.create", broken)
    with pytest.raises(Error):
        await made(here, host)
    assert group.volumes() == {}


async def test_a_job_that_cannot_be_begun_leaves_nothing(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(jobs: object, spec: Spec) -> None:
        raise OSError("no space left")

    monkeypatch.setattr("host.local_disk_jobs.OwnJobs.begin", broken)
    with pytest.raises(OSError, match="no space"):
        await made(here, host)
    assert group.volumes() == {}
    assert await here.leases.all_own() == []


async def test_a_job_that_was_begun_though_nobody_was_told_so_keeps_its_disk(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = OwnJobs.begin

    async def lost(jobs: OwnJobs, spec: Spec) -> None:
        await begin(jobs, spec)
        raise OSError("too many open files")

    monkeypatch.setattr(OwnJobs, "begin", lost)
    with pytest.raises(OSError, match="too many"):
        await prepare(here, host.request())
    [job_id] = await here.leases.all_own()
    assert f"JOB_{job_id}" in tags(group)
    here.jobs.forget()  # type: ignore[attr-defined]


async def test_a_copy_that_fails_is_told_and_the_next_start_copies_again(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    group.fail("change")
    with pytest.raises(Reported):
        await made(here, host)
    assert "UPDATING" in tags(group)
    group.fail("change", "")
    assert not (await made(here, host)).reused


async def test_starts_at_once_make_one_domain_for_their_leases(here: Here, tmp_path: Path) -> None:
    found: list[str] = []

    async def asked() -> None:
        found.append((await here.leases.domain(None)).id)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(asked)
    assert len(set(found)) == 1
    assert [path.name for path in here.leases.mount.iterdir()] == [found[0]]


@pytest.mark.parametrize("deaths", [DEATHS, DEATHS + 1])
async def test_workers_that_die_are_made_up_for_but_not_for_ever(
    here: Here, host: DiskHost, monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    ended, left = OwnJobs.ended, deaths

    async def died(jobs: OwnJobs, job_id: str, report: Report) -> Ending | None:
        nonlocal left
        if not left:
            return await ended(jobs, job_id, report)
        left -= 1
        jobs.forget()
        return Ending(status=Status.FAILED, error=to_rpc(WorkerDied(job_id, "")), ended=1.0)

    monkeypatch.setattr(OwnJobs, "ended", died)
    if deaths <= DEATHS:
        assert not (await made(here, host)).reused
    else:
        with pytest.raises(Reported, match="worker"):
            await made(here, host)


async def test_the_lease_may_be_kept_by_another_domain(
    here: Here, host: DiskHost, elsewhere: Domain
) -> None:
    job_id = await begun(here, host, sd_id=elsewhere.id)
    assert await record(elsewhere, job_id) == ("PENDING", 0)
    assert await here.leases.own() is None


async def begun(here: Here, host: DiskHost, **other: object) -> str:
    """A copy that was begun and will never be done."""
    found = await prepare(here, host.request(**other))
    here.jobs.forget()  # type: ignore[attr-defined]
    assert (found.state, found.job_id is None) == ("filling", False)
    return str(found.job_id)


@pytest.fixture
async def elsewhere(here: Here, tmp_path: Path) -> Domain:
    """A storage domain that is not ours: leases stay there when all is known of their jobs."""
    made = await create_domain(str(tmp_path / "mount"), leases=4)
    await here.domains.remember(made)
    return made


async def record(domain: Domain, job_id: str) -> tuple[object, object]:
    """Job status and generation, as whoever asks that domain is told."""
    status = await verbs.status(await open_store(domain), job_id)
    assert status.metadata is not None
    return status.metadata["job_status"], status.metadata["generation"]


async def test_a_dead_copy_is_fenced_before_its_disk_is_copied_anew(
    here: Here, host: DiskHost, elsewhere: Domain
) -> None:
    """It could begin after all, and its success would be that of another disk."""
    job_id = await begun(here, host, sd_id=elsewhere.id)
    assert not (await made(here, host)).reused
    assert await record(elsewhere, job_id) == ("FENCED", 1)


async def test_a_copy_that_died_after_its_last_byte_is_fenced_when_its_disk_is_used(
    here: Here, host: DiskHost, elsewhere: Domain
) -> None:
    job_id = await begun(here, host, sd_id=elsewhere.id)
    await here.disks.ready(VOL, job_id)
    assert (await made(here, host)).reused
    assert await record(elsewhere, job_id) == ("FENCED", 1)


@pytest.mark.parametrize("by", ["name", "vm", "gc"])
async def test_a_dead_copy_is_fenced_before_its_disk_is_removed(
    here: Here, host: DiskHost, group: StandIn, elsewhere: Domain, by: str
) -> None:
    job_id = await begun(here, host, sd_id=elsewhere.id)
    if by == "gc":
        await gc(here)
    else:
        await remove(here, vol_id=VOL if by == "name" else None, vm_id=VM if by == "vm" else None)
    assert group.volumes() == {}
    assert await record(elsewhere, job_id) == ("FENCED", 1)


async def test_a_lease_that_tells_of_another_job_says_nothing_of_the_copy(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    job_id = await begun(here, host)
    own = await here.leases.own()
    assert own is not None
    store = await open_store(own, change_index=True)
    await verbs.delete(store, job_id, force=True)
    other = JobMetadata(uuid.UUID(JOB), 0, JobStatus.FAILED)
    await verbs.create(store, job_id, other, now=1, hardware_id="h")
    with pytest.raises(LocalDiskUncertain):
        await prepare(here, host.request())
    assert await gc(here) == []
    assert f"JOB_{job_id}" in tags(group)


async def test_a_copy_that_begins_just_before_it_is_fenced_keeps_its_disk(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = await begun(here, host)
    where = (await here.leases.look(job_id)).domain
    assert where is not None
    store = await open_store(where)
    fence = verbs.fence

    async with AsyncExitStack() as stack:

        async def late(*arguments: Any, **others: Any) -> None:
            await stack.enter_async_context(hold(store, await info(store, job_id)))
            await fence(*arguments, **others)

        monkeypatch.setattr("host.local_disk_leases.verbs.fence", late)
        found = await prepare(here, host.request())
        assert (found.state, found.job_id) == ("filling", job_id)
        await stack.aclose()
        with pytest.raises(LocalDiskInUse):
            await remove(here, vol_id=VOL)
        await stack.aclose()
        [kept] = await gc(here)
        assert (kept.removed, kept.failed is None) == (False, False)
    assert f"JOB_{job_id}" in tags(group)


async def test_a_disk_is_not_removed_when_a_copy_has_begun_to_write_since_the_look(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await begun(here, host)
    found = await look(here, VOL)
    async with held(disk.locks(PathUrl(here.disks.path(VOL)), Mode.EXCLUSIVE)):
        with pytest.raises(LocalDiskInUse):
            await remove_found(here, found)
    assert set(group.volumes()) == {VOL}


async def test_whoever_may_change_a_disk_looks_at_it_under_its_lock(
    here: Here, host: DiskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that what was just looked at is still so."""
    find, locked = LocalDisks.find, list[bool]()
    vol_id = str(uuid.uuid4())  # locks are those of the whole host: nobody else has this one

    def busy(lock: Lock) -> NoReturn:
        raise LocalDiskInUse(vol_id, "somebody has its lock")

    async def watched(disks: LocalDisks, volume_id: str) -> LocalDisk | None:
        try:
            async with held([changing(disks, volume_id)], busy):
                locked.append(False)
        except LocalDiskInUse:
            locked.append(True)
        return await find(disks, volume_id)

    monkeypatch.setattr(LocalDisks, "find", watched)
    for change in (
        partial(begun, here, host, vol_id=vol_id),
        partial(remove, here, vol_id=vol_id),
        partial(begun, here, host, vol_id=vol_id),
        partial(remove, here, vm_id=VM),
        partial(begun, here, host, vol_id=vol_id),
        partial(gc, here),
    ):
        locked.clear()
        await change()
        assert locked
        assert all(locked)


async def test_a_disk_whose_lease_is_held_is_waited_for(here: Here, host: DiskHost) -> None:
    job_id = await begun(here, host)
    where = (await here.leases.look(job_id)).domain
    assert where is not None
    store = await open_store(where)
    async with hold(store, await info(store, job_id)):
        found = await prepare(here, host.request())
        assert (found.state, found.job_id) == ("filling", job_id)
        assert await gc(here) == []
        with pytest.raises(LocalDiskInUse):
            await remove(here, vol_id=VOL)
    assert (await made(here, host)).job_id != job_id


async def test_a_disk_that_somebody_writes_to_is_waited_for(here: Here, host: DiskHost) -> None:
    job_id = await begun(here, host)
    url = PathUrl(here.disks.path(VOL))
    async with held(disk.locks(url, Mode.EXCLUSIVE)):
        assert (await prepare(here, host.request())).job_id == job_id
        assert await gc(here) == []
        with pytest.raises(LocalDiskInUse):
            await remove(here, vol_id=VOL)


async def test_a_lease_that_cannot_be_read_keeps_the_disk(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await begun(here, host)
    domain = await here.leases.own()
    assert domain is not None
    os.rename(domain.xleases, domain.xleases + ".old")
    with pytest.raises(LocalDiskUncertain):
        await made(here, host)
    with pytest.raises(LocalDiskUncertain):
        await remove(here, vol_id=VOL)
    with pytest.raises(Error):  # it tells, and removes nothing
        await gc(here)
    assert "UPDATING" in tags(group)
    os.rename(domain.xleases + ".old", domain.xleases)
    await made(here, host)


async def test_disks_are_listed(here: Here, host: DiskHost) -> None:
    new = await made(here, host, start=True)
    job_id = await begun(here, host, vol_id=OTHER_VOL, backend="lvm", vm_id=None)
    first, second = await listed(here)
    assert (first["vol_id"], first["vm_id"], first["state"]) == (VOL, VM, "ready")
    assert (first["job_id"], first["job_status"]) == (new.job_id, None)
    assert (second["vol_id"], second["vm_id"], second["state"]) == (OTHER_VOL, None, "filling")
    assert (second["job_id"], second["job_status"]) == (job_id, "PENDING")
    assert (second["backend"], second["size"], second["started"]) == ("lvm", 2 * EXTENT, False)


async def test_the_disks_of_a_vm_are_removed(here: Here, host: DiskHost, group: StandIn) -> None:
    await made(here, host, start=True)
    await made(here, host, vol_id=OTHER_VOL, vm_id=OTHER_VM)
    assert await remove(here, vm_id=VM, vol_id=OTHER_VOL) == []
    assert await remove(here, vm_id=VM) == [VOL]
    assert await remove(here, vm_id=VM) == []
    assert set(group.volumes()) == {OTHER_VOL}
    assert await remove(here, vol_id=OTHER_VOL) == [OTHER_VOL]
    assert await remove(here, vol_id=OTHER_VOL) == []
    with pytest.raises(BadParameter):
        await remove(here)


async def test_what_is_open_or_not_ours_is_not_removed(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await made(here, host)
    with group.content() as content:
        content.volumes[0].open = True
    with pytest.raises(LocalDiskInUse):
        await remove(here, vol_id=VOL)
    assert await gc(here, vms=[]) == []
    job_id = await begun(here, host, vol_id=THIRD_VOL)
    with group.content() as content:
        content.volumes[1].open = True
    with pytest.raises(LocalDiskInUse):
        await remove(here, vol_id=THIRD_VOL)
    assert (await here.leases.look(job_id)).lease.value == "PENDING"  # it is as it was
    group.add(LogicalVolume(OTHER_VOL, EXTENT, frozenset({f"VM_{VM}"})))
    with pytest.raises(LocalDiskRefused):
        await remove(here, vol_id=OTHER_VOL)
    assert set(group.volumes()) == {VOL, OTHER_VOL, THIRD_VOL}


async def test_the_copy_of_a_disk_that_is_removed_can_be_ended(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    running = trio.Event()
    other = await host.here()
    host.source.write_bytes(os.urandom(32 * MIB))  # half a minute, unless it is aborted

    def seen(progress: Progress) -> None:
        if progress.stage == "copying":
            running.set()

    async def start() -> None:
        with pytest.raises(Error):  # it was aborted
            await prepared(here, host.request(limit=MIB), seen)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start)
        await running.wait()
        with pytest.raises(LocalDiskInUse, match="abort"):
            await remove(other, vm_id=VM)
        assert await remove(other, vm_id=VM, abort=True) == [VOL]
    assert group.volumes() == {}


async def test_what_nothing_needs_is_collected(here: Here, host: DiskHost, group: StandIn) -> None:
    await made(here, host)
    job_id = await begun(here, host, vol_id=OTHER_VOL, vm_id=OTHER_VM)
    [found] = await gc(here, dry_run=True)
    assert (found.vol_id, found.removed, found.failed) == (OTHER_VOL, False, None)
    assert set(group.volumes()) == {VOL, OTHER_VOL}
    assert [one.vol_id for one in await gc(here, dry_run=True, vms=[OTHER_VM])] == [VOL, OTHER_VOL]
    [found] = await gc(here)
    assert (found.vol_id, found.removed) == (OTHER_VOL, True)
    assert job_id not in await here.leases.all_own()
    [found] = await gc(here, vms=[])
    assert (found.vol_id, found.removed) == (VOL, True)
    assert group.volumes() == {}


async def test_a_disk_that_was_just_prepared_is_not_collected(
    tmp_path: Path, group: StandIn
) -> None:
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": "10m"}
    host = DiskHost(tmp_path, settings).set_up(os.urandom(MIB))
    here = await host.here()
    await made(here, host)
    job_id = await begun(here, host, vol_id=OTHER_VOL)
    assert await gc(here, vms=[]) == []
    assert await here.leases.all_own() == [job_id]


async def test_a_disk_is_judged_again_before_it_is_collected(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begun(here, host)
    every = type(here.disks).all

    async def then_opened(disks: object) -> object:
        found = await every(disks)  # type: ignore[arg-type]
        with group.content() as content:
            content.volumes[0].open = True
        return found

    monkeypatch.setattr(type(here.disks), "all", then_opened)
    [found] = await gc(here)
    assert (found.removed, found.failed) == (False, "it is needed again")
    assert set(group.volumes()) == {VOL}


async def test_the_lease_of_a_copy_that_begins_meanwhile_is_not_collected(
    here: Here, host: DiskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its disk is in no list, as it was not there when the disks were listed."""
    every, jobs = LocalDisks.all, list[str]()

    async def then_begun(disks: LocalDisks) -> list[LocalDisk]:
        found = await every(disks)
        jobs.append(await begun(here, host))
        return found

    await made(here, host, vol_id=OTHER_VOL)
    monkeypatch.setattr(LocalDisks, "all", then_begun)
    assert await gc(here) == []
    assert await here.leases.all_own() == jobs


async def test_leases_that_no_disk_names_are_collected(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await made(here, host)
    own = await here.leases.own()
    assert own is not None
    lost, held_one = str(uuid.uuid4()), str(uuid.uuid4())
    for job_id in (lost, held_one):
        await here.leases.create(own, job_id)
    store = await open_store(own)
    await gc(here, dry_run=True)
    assert set(await here.leases.all_own()) == {lost, held_one}
    async with hold(store, await info(store, held_one)):
        await gc(here)
        assert await here.leases.all_own() == [held_one]
