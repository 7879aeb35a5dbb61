"""CopyDataLocalDiskEndpoint: what is a target, how it is marked, what a copy that fails leaves."""

import errno
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio

from endpoints.copy_data import CopyRequest, checked, copy
from endpoints.disk import Disk
from endpoints.domain import create_domain, open_store
from endpoints.external import CopyDataExternalEndpoint
from endpoints.local import CopyDataLocalDiskEndpoint, changing, unwritten
from endpoints.locks import Mode, held
from endpoints.tracked import JobFacts
from jobs.progress import Progress
from leases import verbs
from leases.grant import Grant
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    BadParameter,
    Error,
    FlushFailed,
    InputOutputError,
    LeaseLost,
    LocalDiskChanged,
    LocalDiskInUse,
    NoSuchLocalDisk,
    ToolFailed,
    ToolStalled,
    TooSmall,
    UnsupportedOperation,
    VerifyFailed,
)
from protocol.messages import JobMetadata, LocalEndpoint, decode_endpoint
from protocol.record import JobStatus
from storage.image import Policy
from storage.local_disk import LocalDisk
from storage.local_disks import LocalDisks
from tests.local_disks import EXTENT, StandIn

JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
OTHER = "6b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
# Other than that of any process beside: the lock of a local disk is one for the whole host.
VOL = str(uuid4())
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
SIZE = EXTENT
BACKENDS = pytest.mark.parametrize("backend", ["lvm", "lvmthin"])


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def disks(group: StandIn) -> LocalDisks:
    return LocalDisks(group.lvm)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    domain = await create_domain(str(tmp_path / "mount"), leases=2)
    store = await open_store(domain)
    metadata = JobMetadata(UUID(JOB), 0, JobStatus.PENDING)
    await verbs.create(store, JOB, metadata, now=1, hardware_id="h")
    yield store
    for path in tmp_path.glob("mount/*/dom_md/xleases*"):  # pytest would keep it
        path.unlink()


def message(store: Store | None = None, backend: str = "lvmthin") -> LocalEndpoint:
    sd_id = store.volume.sd_id if store is not None else IMG
    lease = {"sd_id": sd_id, "lease_id": JOB}
    data = {"endpoint_type": "local", "backend": backend, "vol_id": VOL}
    found = decode_endpoint({**data, "lease": lease, "generation": 0}, role="destination")
    assert isinstance(found, LocalEndpoint)
    return found


def endpoint(disks: LocalDisks, store: Store | None = None) -> CopyDataLocalDiskEndpoint:
    return CopyDataLocalDiskEndpoint(message(store), disks, JOB)


async def made(
    disks: LocalDisks, backend: str = "lvmthin", job: str = JOB, size: int = SIZE
) -> None:
    await disks.create(VOL, size, backend, image_id=IMG, job_id=job, now=1)  # type: ignore[arg-type]


async def target(disks: LocalDisks) -> Disk:
    found = await endpoint(disks).target(SIZE, ())
    assert isinstance(found, Disk)
    return found


@BACKENDS
async def test_only_a_new_thin_one_reads_as_zeros(disks: LocalDisks, backend: str) -> None:
    await made(disks, backend)
    found = await target(disks)
    assert (found.blank, found.sparse) == (backend == "lvmthin", backend == "lvmthin")
    assert found.is_zero is False


async def test_one_that_was_written_to_does_not(disks: LocalDisks, group: StandIn) -> None:
    await made(disks)
    with group.content() as content:
        content.volumes[0].data_percent = 0.01
    assert (await target(disks)).blank is False


async def test_what_a_linear_one_held_before_does_not_matter(disks: LocalDisks) -> None:
    await made(disks, "lvm")
    Path(disks.path(VOL)).write_bytes(b"QFI\xfb" + os.urandom(SIZE - 4))
    found = await target(disks)
    assert (found.format, found.size, found.blank) == ("raw", SIZE, False)


async def test_a_missing_one_is_told(disks: LocalDisks) -> None:
    with pytest.raises(NoSuchLocalDisk):
        await target(disks)


async def test_one_that_another_job_fills_is_not_touched(disks: LocalDisks) -> None:
    await made(disks, job=OTHER)
    with pytest.raises(LocalDiskChanged, match=JOB):
        await target(disks)


async def test_one_that_is_ready_is_not_touched(disks: LocalDisks) -> None:
    await made(disks)
    await disks.ready(VOL, JOB)
    with pytest.raises(LocalDiskChanged):
        await target(disks)


async def test_one_that_is_too_small_is_told(disks: LocalDisks) -> None:
    await made(disks)
    with pytest.raises(TooSmall):
        await endpoint(disks).target(SIZE + 1, ())


async def test_it_is_no_source(disks: LocalDisks) -> None:
    with pytest.raises(UnsupportedOperation):
        await endpoint(disks).source(Policy())
    with pytest.raises(BadParameter):
        decode_endpoint(
            {
                "endpoint_type": "local",
                "backend": "lvm",
                "vol_id": VOL,
                "lease": {"sd_id": IMG, "lease_id": JOB},
                "generation": 0,
            },
            role="source",
        )


@pytest.mark.parametrize(
    "other",
    [
        {"vol_id": "../../etc/passwd"},
        {"vol_id": f"{VOL}\n"},
        {"vol_id": "--config"},
        {"backend": "zfs"},
        {"lease": None},
        {"generation": None},
    ],
)
def test_a_message_that_cannot_be_one_is_refused(other: dict[str, object]) -> None:
    good = {
        "endpoint_type": "local",
        "backend": "lvm",
        "vol_id": VOL,
        "lease": {"sd_id": IMG, "lease_id": JOB},
        "generation": 0,
    }
    decode_endpoint(good, role="destination")
    with pytest.raises(BadParameter):
        decode_endpoint({**good, **other}, role="destination")


async def test_a_writer_keeps_others_away(disks: LocalDisks) -> None:
    await made(disks)
    async with unwritten(disks, VOL):
        pass
    async with held(endpoint(disks).locks(Mode.EXCLUSIVE)):
        with pytest.raises(LocalDiskInUse):
            async with unwritten(disks, VOL):
                pytest.fail("two have it")


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


async def copied(disks: LocalDisks, store: Store, source: Path, *, verify: bool = False) -> object:
    origin = {"endpoint_type": "external", "url": str(source), "format": "raw"}
    read = decode_endpoint(origin, role="source")
    request = CopyRequest(
        JOB,
        CopyDataExternalEndpoint.read(read),  # type: ignore[arg-type]
        endpoint(disks, store),
        verify=verify,
    )
    await checked(request)
    return await copy(request, store, ignored, now=time.time, hardware_id="h")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(1 << 20) + bytes(SIZE - (1 << 20)))
    return path


async def said(store: Store) -> object:
    return ((await verbs.status(store, JOB)).metadata or {})["job_status"]


@BACKENDS
@pytest.mark.tools("qemu-img")
async def test_a_copy_drops_the_mark_and_is_recorded(
    disks: LocalDisks, store: Store, source: Path, backend: str
) -> None:
    await made(disks, backend)
    if backend == "lvm":
        Path(disks.path(VOL)).write_bytes(os.urandom(SIZE))
    await copied(disks, store, source)
    found = await disks.find(VOL)
    assert found is not None
    assert not found.filling
    assert Path(disks.path(VOL)).read_bytes() == source.read_bytes()
    assert await said(store) == "SUCCEEDED"


OLD = b"\xaa"  # what others had on the device
ODD = 5 * (1 << 20) + 512  # bytes of a source: no whole extents


async def over_old(disks: LocalDisks, source: Path, backend: str, size: int = ODD) -> Path:
    """A new disk of two extents that still holds what was there before; its device."""
    source.write_bytes(os.urandom(size - 4096) + bytes(4096))
    await made(disks, backend, size=size)
    device = Path(disks.path(VOL))
    device.write_bytes(OLD * 2 * EXTENT)
    return device


@pytest.mark.parametrize("verify", [False, True])
@pytest.mark.parametrize("size", [ODD, ODD - 500, EXTENT + 1, 2 * EXTENT])
@pytest.mark.tools("qemu-img")
async def test_nothing_of_what_others_had_is_left_behind_the_source(
    disks: LocalDisks, store: Store, source: Path, size: int, verify: bool
) -> None:
    device = await over_old(disks, source, "lvm", size)
    await copied(disks, store, source, verify=verify)
    content = device.read_bytes()
    assert content[:size].startswith(source.read_bytes())
    assert content.count(0, size) == len(content) - size == 2 * EXTENT - size
    assert await said(store) == "SUCCEEDED"


@pytest.mark.tools("qemu-img")
async def test_a_thin_one_reads_as_zeros_there_and_is_not_written(
    disks: LocalDisks, store: Store, source: Path
) -> None:
    device = await over_old(disks, source, "lvmthin")
    await copied(disks, store, source)
    assert device.read_bytes()[ODD:] == OLD * (2 * EXTENT - ODD)  # that no real one would hold


@pytest.mark.tools("qemu-img")
async def test_a_comparison_looks_behind_the_source_too(
    disks: LocalDisks, store: Store, source: Path, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing(fd: int, start: int, end: int) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr("endpoints.tail.clear", nothing)
    await over_old(disks, source, "lvm")
    with pytest.raises(VerifyFailed):
        await copied(disks, store, source, verify=True)
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


@pytest.mark.tools("qemu-img")
async def test_the_end_is_flushed_with_the_rest(
    disks: LocalDisks, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def flushed(fd: int, length: int | None) -> None:
        seen.append(os.pread(fd, 2 * EXTENT, ODD))

    monkeypatch.setattr("endpoints.copy._settle", flushed)
    await over_old(disks, source, "lvm")
    await copied(disks, store, source)
    assert seen == [bytes(2 * EXTENT - ODD)]


@pytest.mark.tools("qemu-img")
async def test_an_end_that_cannot_be_cleared_fails_the_copy(
    disks: LocalDisks, store: Store, source: Path, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(fd: int, start: int, end: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("endpoints.tail.clear", broken)
    await over_old(disks, source, "lvm")
    with pytest.raises(InputOutputError, match=f"behind byte {ODD}"):
        await copied(disks, store, source)
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


@pytest.mark.tools("qemu-img")
async def test_a_copy_that_fails_leaves_the_mark(
    disks: LocalDisks, store: Store, source: Path, group: StandIn
) -> None:
    await made(disks)
    group.fail("change")  # LVM cannot drop it
    with pytest.raises(ToolFailed):
        await copied(disks, store, source)
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


@pytest.mark.tools("qemu-img")
async def test_a_disk_that_was_given_to_another_copy_meanwhile_stays_marked(
    disks: LocalDisks, store: Store, source: Path, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(disks)
    ready = LocalDisks.ready

    async def late(self: LocalDisks, volume_id: str, job_id: str) -> None:
        with group.content() as content:
            content.volumes[0].tags = ["UPDATING", f"IU_{IMG}", f"JOB_{OTHER}"]
        await ready(self, volume_id, job_id)

    monkeypatch.setattr(LocalDisks, "ready", late)
    with pytest.raises(LocalDiskChanged):
        await copied(disks, store, source)
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


@pytest.mark.tools("qemu-img")
async def test_the_mark_is_dropped_before_the_success_is_recorded(
    disks: LocalDisks, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(disks)

    async def broken(*ignored: object) -> None:
        found = await disks.find(VOL)
        assert found is not None
        assert not found.filling
        raise Error

    monkeypatch.setattr("endpoints.tracked.TrackedLease.succeed", broken)
    with pytest.raises(Error):
        await copied(disks, store, source)
    assert await said(store) == "FAILED"  # the disk is ready all the same


@pytest.mark.tools("qemu-img")
async def test_the_mark_stays_until_the_data_is_flushed(
    disks: LocalDisks, store: Store, source: Path, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(disks)
    told: list[frozenset[str]] = []

    def broken(fd: int, length: int | None) -> None:
        told.append(group.volumes()[VOL].tags)
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr("endpoints.copy._settle", broken)
    with pytest.raises(FlushFailed):
        await copied(disks, store, source)
    [before] = told
    assert "UPDATING" in before
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


async def test_the_mark_stays_when_the_lease_is_lost(
    disks: LocalDisks, store: Store, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others may have fenced the job, and begun another one."""
    await made(disks)
    tracked = endpoint(disks, store).tracked(store, JobFacts(JOB, time.time, "h"))

    async def lost(grant: Grant) -> None:
        raise LeaseLost(JOB, "its leader was changed")

    async with tracked.taken_up() as grant:
        with monkeypatch.context() as changed:
            changed.setattr(Grant, "check", lost)
            with pytest.raises(LeaseLost):
                await tracked.succeed(grant)
    assert "UPDATING" in group.volumes()[VOL].tags
    assert not [words for words in group.calls() if words[0] == "change"]


@BACKENDS
@pytest.mark.tools("qemu-img")
async def test_it_is_written_past_the_page_cache(
    disks: LocalDisks, store: Store, source: Path, backend: str
) -> None:
    """A thin pool that is full loses what the cache holds, and tells nobody."""
    await made(disks, backend)
    done = await copied(disks, store, source)
    assert isinstance(done, dict)
    assert " -t none " in f"{done['path_taken']} "


@pytest.mark.tools("qemu-img")
async def test_a_disk_that_is_kept_from_being_changed_ends_the_copy(
    disks: LocalDisks, store: Store, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endpoints.local.SUCCEED_TIME", 0.1)
    await made(disks)
    async with held([changing(disks, VOL)]):
        with pytest.raises(AcquireLockFailure):
            await copied(disks, store, source)
    found = await disks.find(VOL)
    assert found is not None
    assert found.filling


@dataclass
class Busy:
    """LVM has other work at each of so many looks, and then stands still for as long."""

    looks: int
    seconds: float = 0.0
    seen: int = 0

    def over(self, monkeypatch: pytest.MonkeyPatch) -> "Busy":
        find = LocalDisks.find

        async def slow(disks: LocalDisks, volume_id: str) -> LocalDisk | None:
            self.seen += 1
            if self.seen <= self.looks:
                await trio.sleep(self.seconds)
                raise ToolStalled("lvm", self.seconds)
            return await find(disks, volume_id)

        monkeypatch.setattr(LocalDisks, "find", slow)
        return self


async def succeeds(disks: LocalDisks, store: Store) -> None:
    tracked = endpoint(disks, store).tracked(store, JobFacts(JOB, time.time, "h"))
    async with tracked.taken_up() as grant:
        await tracked.succeed(grant)


async def test_a_copy_is_recorded_though_lvm_is_busy_for_longer_than_a_lock_is_waited_for(
    disks: LocalDisks, store: Store, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endpoints.local.SUCCEED_TIME", 1.0)
    await made(disks)
    Busy(looks=3, seconds=0.5).over(monkeypatch)
    await succeeds(disks, store)
    assert "UPDATING" not in group.volumes()[VOL].tags
    assert await said(store) == "SUCCEEDED"


async def test_lvm_that_is_busy_all_the_time_is_told_as_that(
    disks: LocalDisks, store: Store, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("endpoints.local.READY_TIME", 0.01)
    await made(disks)
    busy = Busy(looks=1000, seconds=0.004).over(monkeypatch)
    with pytest.raises(ToolStalled):
        await succeeds(disks, store)
    assert busy.seen > 1
    assert "UPDATING" in group.volumes()[VOL].tags
    assert await said(store) == "FAILED"


async def test_busy_lvm_is_asked_again_only_while_the_lease_is_held(
    disks: LocalDisks, store: Store, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(disks)
    busy = Busy(looks=1).over(monkeypatch)

    async def checked(grant: Grant) -> None:
        if busy.seen:
            raise LeaseLost(JOB, "its leader was changed")

    tracked = endpoint(disks, store).tracked(store, JobFacts(JOB, time.time, "h"))
    async with tracked.taken_up() as grant:
        with monkeypatch.context() as changed:
            changed.setattr(Grant, "check", checked)
            with pytest.raises(LeaseLost):
                await tracked.succeed(grant)
    assert busy.seen == 1
    assert "UPDATING" in group.volumes()[VOL].tags


async def test_facts_of_a_job_name_its_lease(disks: LocalDisks, store: Store) -> None:
    tracked = endpoint(disks, store).tracked(store, JobFacts(JOB, time.time, "h"))
    with trio.fail_after(10):
        async with tracked.taken_up():
            assert (await verbs.status(store, JOB)).owners
    assert await said(store) == "PENDING"


def test_a_volume_of_another_group_is_another_lock(disks: LocalDisks, tmp_path: Path) -> None:
    other = replace(disks, lvm=replace(disks.lvm, volume_group="other"))
    assert changing(disks, VOL).offset != changing(other, VOL).offset
