"""Copies from and to volumes of a storage domain, under their generation and legality."""

import time
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from endpoints.copy_data import CopyRequest, checked, copy
from endpoints.div import CopyDataDivEndpoint
from endpoints.domain import create_domain, open_store
from endpoints.external import CopyDataExternalEndpoint
from endpoints.locks import Mode, held
from endpoints.volume import create_volume, leased_volume
from jobs.job import Job, Report, Status
from jobs.progress import Progress
from leases.hold import hold
from leases.store import Store
from processes import qemu_img
from protocol.errors import (
    AcquireLockFailure,
    GenerationMismatch,
    IllegalVolume,
    SameImage,
    TooSmall,
    UnsupportedOperation,
    VolumeHasChild,
)
from protocol.messages import DivEndpoint, ExternalEndpoint
from storage import volume
from storage.domain import Domain
from storage.image import Policy
from storage.volume import Volume
from storage.volume_request import Request
from tests.servers import WAIT

MIB = 1 << 20
SIZE = 16 * MIB


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class Volumes:
    domain: Domain
    store: Store

    async def make(
        self, img_id: str, *, parent: str | None = None, size: int = SIZE, **more: Any
    ) -> Volume:
        options = {"format": "qcow2" if parent else "raw", "capacity": size, "now": 0, **more}
        request = Request(parent=parent, **options)
        return await create_volume(self.domain, img_id, new_id(), request)

    def end(
        self, of: Volume, generation: int | None = None, *, layer: bool = False
    ) -> CopyDataDivEndpoint:
        ids = UUID(self.domain.id), UUID(of.img_id), UUID(of.id)
        return CopyDataDivEndpoint(DivEndpoint(*ids, generation), self.domain, layer)

    def again(self, of: Volume) -> Volume:
        return volume.read(self.domain, of.img_id, of.id)

    def state(self, of: Volume) -> tuple[str, int]:
        metadata = self.again(of).metadata
        return metadata.legality, metadata.generation

    def job(self, request: CopyRequest, seen: Callable[[Progress], None] | None = None) -> Job:
        async def work(report: Report) -> dict[str, Any]:
            def both(progress: Progress) -> None:
                report(progress)
                if seen:
                    seen(progress)

            return await copy(request, self.store, both, now=time.time, hardware_id=new_id())

        return Job(request.job_id, work, description="copy")

    async def copied(self, source: Any, destination: Any, **more: Any) -> Job:
        job = self.job(CopyRequest(new_id(), source, destination, **more))
        with trio.fail_after(WAIT):
            await job.run()
        return job

    async def same(self, one: Volume, other: Volume) -> bool:
        nodes = [(await self.end(v).source(Policy())).node for v in (one, other)]
        return await qemu_img.compare(nodes[0], nodes[1])


@pytest.fixture
async def volumes(tmp_path: Path) -> AsyncIterator[Volumes]:
    domain = await create_domain(str(tmp_path / "mount"), leases=4)
    yield Volumes(domain, await open_store(domain))
    Path(domain.xleases).unlink()


def write(path: str | Path, pattern: int, start: int = 0, count: int = MIB) -> None:
    with Path(path).open("r+b") as file:
        file.seek(start)
        file.write(bytes([pattern]) * count)


async def qemu_write(of: Volume, pattern: int, start: int, count: int = MIB) -> None:
    command = f"write -P {pattern} {start} {count}"
    await trio.run_process(
        ["qemu-io", "-f", of.format, "-c", command, of.path], capture_stdout=True
    )


async def test_a_copy_ends_legal_with_the_next_generation(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    write(source.path, 7)
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert volumes.state(target) == ("LEGAL", 1)
    assert volumes.state(source) == ("LEGAL", 0)
    assert await volumes.same(source, target)


async def test_the_target_is_illegal_and_leased_while_it_is_written(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    seen: set[tuple[str, int]] = set()
    request = CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0))
    job = volumes.job(request, lambda progress: seen.add(volumes.state(target)))
    await job.run()
    assert job.status is Status.DONE, repr(job.error)
    assert seen == {("ILLEGAL", 0)}


async def test_generation_999_is_followed_by_0(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    volume.update(
        volumes.domain, target.img_id, target.id, lambda found: replace(found, generation=999)
    )
    await volumes.copied(volumes.end(source), volumes.end(target, 999))
    assert volumes.state(target) == ("LEGAL", 0)


async def test_another_generation_is_refused_and_nothing_is_changed(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    write(target.path, 9)
    job = await volumes.copied(volumes.end(source), volumes.end(target, 1))
    assert isinstance(job.error, GenerationMismatch)
    assert volumes.state(target) == ("LEGAL", 0)
    assert Path(target.path).read_bytes()[:MIB] == b"\x09" * MIB


async def test_without_a_generation_none_is_checked(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    volume.update(
        volumes.domain, target.img_id, target.id, lambda found: replace(found, generation=41)
    )
    await volumes.copied(volumes.end(source), volumes.end(target))
    assert volumes.state(target) == ("LEGAL", 42)


async def test_a_failed_copy_leaves_illegal_and_the_generation(volumes: Volumes) -> None:
    source = await volumes.make(new_id(), size=2 * SIZE)
    target = await volumes.make(new_id())
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert isinstance(job.error, TooSmall)
    assert volumes.state(target) == ("ILLEGAL", 0)
    # And the next copy makes it legal again, as long as the generation is the same.
    write((small := await volumes.make(new_id())).path, 3)
    await volumes.copied(volumes.end(small), volumes.end(target, 0))
    assert volumes.state(target) == ("LEGAL", 1)
    assert await volumes.same(small, target)


async def test_a_copy_that_was_fenced_meanwhile_does_not_end_legal(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())

    def fence(progress: Progress) -> None:
        if progress.stage == "flushing":
            ids = target.img_id, target.id
            volume.update(volumes.domain, *ids, lambda found: replace(found, generation=3))

    job = volumes.job(CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0)), fence)
    await job.run()
    assert isinstance(job.error, GenerationMismatch)
    assert volumes.state(target) == ("ILLEGAL", 3)


async def test_an_illegal_volume_is_no_source(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    volume.update(
        volumes.domain, source.img_id, source.id, lambda found: replace(found, legality="ILLEGAL")
    )
    with pytest.raises(IllegalVolume):
        await checked(CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0)))


async def test_a_chain_is_collapsed_into_a_volume_without_parent(volumes: Volumes) -> None:
    base = await volumes.make(new_id())
    write(base.path, 1)
    leaf = await volumes.make(base.img_id, parent=base.id)
    await qemu_write(leaf, 2, 4 * MIB)
    target = await volumes.make(new_id(), format="qcow2")
    job = await volumes.copied(volumes.end(leaf), volumes.end(target, 0), verify=True)
    assert job.status is Status.DONE, repr(job.error)
    assert await volumes.same(leaf, target)


async def test_a_chain_is_copied_volume_by_volume_and_each_stays_thin(volumes: Volumes) -> None:
    base = await volumes.make(new_id())
    write(base.path, 1, count=8 * MIB)
    leaf = await volumes.make(base.img_id, parent=base.id)
    await qemu_write(leaf, 2, 4 * MIB)
    new_base = await volumes.make(new_id())
    new_leaf = await volumes.make(new_base.img_id, parent=new_base.id)
    await volumes.copied(volumes.end(base), volumes.end(new_base, 0, layer=True))
    target = volumes.end(new_leaf, 0, layer=True)
    job = await volumes.copied(volumes.end(leaf), target, verify=True)
    assert job.status is Status.DONE, repr(job.error)
    assert job.result is not None
    assert "over a backing file" in job.result["path_taken"]
    assert await volumes.same(leaf, new_leaf)
    own = (Path(new_leaf.path).stat().st_blocks * 512) / MIB
    assert own < 3, "the leaf took what its base holds already"


async def test_the_whole_content_is_copied_over_a_parent_that_holds_something_else(
    volumes: Volumes,
) -> None:
    base = await volumes.make(new_id())
    write(base.path, 1)
    leaf = await volumes.make(base.img_id, parent=base.id)
    await qemu_write(leaf, 2, 4 * MIB)
    other = await volumes.make(new_id())
    write(other.path, 9, count=8 * MIB)
    target = await volumes.make(other.img_id, parent=other.id)
    job = await volumes.copied(volumes.end(leaf), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert await volumes.same(leaf, target)


async def test_a_volume_that_others_are_read_through_is_not_written(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    await volumes.make(target.img_id, parent=target.id)
    with pytest.raises(VolumeHasChild):
        await checked(CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0)))


async def test_the_configuration_of_a_vm_is_raw_whatever_its_metadata_say(volumes: Volumes) -> None:
    source = await volumes.make(new_id(), size=10240)
    target = await volumes.make(new_id(), size=10240)
    write(source.path, 4, count=10240)
    for one in (source, target):
        volume.update(
            volumes.domain, one.img_id, one.id, lambda found: replace(found, format="COW")
        )
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert len(Path(source.path).read_bytes()) == 10240, "source"
    assert len(Path(target.path).read_bytes()) == 10240
    assert Path(target.path).read_bytes() == b"\x04" * 10240


async def test_two_volumes_of_one_image_are_copied_without_a_deadlock(volumes: Volumes) -> None:
    source = await volumes.make(new_id())
    write(source.path, 5)
    target = await volumes.make(source.img_id)
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert await volumes.same(source, target)


async def test_a_volume_is_not_copied_to_itself(volumes: Volumes) -> None:
    source = await volumes.make(new_id())
    job = await volumes.copied(volumes.end(source), volumes.end(source, 0))
    assert isinstance(job.error, SameImage)
    assert volumes.state(source) == ("LEGAL", 0)


async def test_a_leased_volume_is_refused_and_stays_as_it_is(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    async with hold(volumes.store, await leased_volume(volumes.domain, target)):
        job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert isinstance(job.error, AcquireLockFailure)
    assert volumes.state(target) == ("LEGAL", 0)


async def test_an_abort_while_another_copy_uses_the_image_ends_aborted(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    request = CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0))
    waiting = trio.Event()
    job = volumes.job(request, lambda progress: waiting.set())
    async with held(volumes.end(target).locks(Mode.SHARED)), trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        with trio.fail_after(WAIT):
            await waiting.wait()
        assert "waiting for another copy" in job.progress.stage
        job.abort()
    assert job.status is Status.ABORTED
    assert volumes.state(target) == ("LEGAL", 0)


async def test_readers_share_an_image(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    async with held(volumes.end(source).locks(Mode.SHARED)):
        job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)


async def test_bitmaps_are_copied_from_qcow2_to_qcow2_only(volumes: Volumes) -> None:
    source = await volumes.make(new_id(), format="qcow2")
    target = await volumes.make(new_id(), format="qcow2")
    raw = await volumes.make(new_id())
    await trio.run_process(["qemu-img", "bitmap", "--add", source.path, "since-monday"])
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0), copy_bitmaps=True)
    assert job.status is Status.DONE, repr(job.error)
    info = await trio.run_process(["qemu-img", "info", target.path], capture_stdout=True)
    assert b"since-monday" in info.stdout
    request = CopyRequest(new_id(), volumes.end(source), volumes.end(raw), copy_bitmaps=True)
    with pytest.raises(UnsupportedOperation, match="bitmaps"):
        await checked(request)


async def test_a_volume_is_copied_to_a_path_and_back(volumes: Volumes, tmp_path: Path) -> None:
    source, back = await volumes.make(new_id()), await volumes.make(new_id())
    write(source.path, 6)
    (tmp_path / "disk").write_bytes(bytes(SIZE))
    path = CopyDataExternalEndpoint.read(ExternalEndpoint(str(tmp_path / "disk"), "raw"))
    write(tmp_path / "disk", 6)
    job = await volumes.copied(path, volumes.end(back, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert await volumes.same(source, back)


async def test_a_byte_flipped_between_copy_and_verify_fails_the_job(volumes: Volumes) -> None:
    source, target = await volumes.make(new_id()), await volumes.make(new_id())
    write(source.path, 8)

    def flip(progress: Progress) -> None:
        if progress.stage == "flushing":
            write(target.path, 9, start=MIB // 2, count=1)

    request = CopyRequest(new_id(), volumes.end(source), volumes.end(target, 0), verify=True)
    job = volumes.job(request, flip)
    await job.run()
    assert job.status is Status.FAILED
    assert "does not hold" in str(job.error)
    assert volumes.state(target) == ("ILLEGAL", 0)


async def test_space_that_was_taken_for_a_volume_stays_taken(volumes: Volumes) -> None:
    source = await volumes.make(new_id())
    target = await volumes.make(new_id(), preallocated=True)
    job = await volumes.copied(volumes.end(source), volumes.end(target, 0))
    assert job.status is Status.DONE, repr(job.error)
    assert Path(target.path).stat().st_blocks * 512 >= SIZE
    assert await volumes.same(source, target)
