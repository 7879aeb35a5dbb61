"""What copies in flight may still take of a thin pool is not free for another one."""

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from endpoints import disk
from endpoints.local import allotting, beginning
from endpoints.locks import Mode, held
from endpoints.url import PathUrl
from host import local_disk_room
from host.local_disk_jobs import OwnJobs
from host.local_disk_room import room
from host.local_disks import Here, prepare, prepared
from jobs.progress import Progress
from processes.lvm_report import LogicalVolume
from protocol.errors import Error, NoLocalSpace
from tests.local_disk_host import IMG, MIB, OTHER_VOL, VOL, DiskHost
from tests.local_disks import EXTENT, POOL, StandIn
from tests.servers import until

pytestmark = pytest.mark.tools("qemu-img")
SIZE = 65 * MIB
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"
CHUNK = 64 << 10  # of the stand-in


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def host(tmp_path: Path, group: StandIn) -> DiskHost:
    """Its source is full of data."""
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    return DiskHost(tmp_path, settings).set_up(os.urandom(MIB) * 65)


@pytest.fixture
async def here(host: DiskHost) -> AsyncIterator[Here]:
    here = await host.here()
    yield here
    died(here)


def died(here: Here) -> None:
    """Jobs that were begun and wait to be followed are not alive any more."""
    assert isinstance(here.jobs, OwnJobs)
    here.jobs.forget()


def with_room(group: StandIn, size: int) -> None:
    with group.content() as content:
        content.pool_size = size


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


def volume(*tags: str, percent: float = 0.0, opened: bool = False) -> LogicalVolume:
    words = frozenset({f"IU_{IMG}", "UPDATING", *tags})
    return LogicalVolume(VOL, 17 * EXTENT, words, True, opened, POOL, percent)


async def test_of_many_starts_at_once_only_those_begin_for_which_there_is_room(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    with_room(group, 100 * MIB)
    told = list[NoLocalSpace]()

    async def start() -> None:
        try:
            await prepare(here, host.request(vol_id=str(uuid.uuid4())))
        except NoLocalSpace as e:
            told.append(e)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)
    assert len(group.volumes()) == 1
    assert len(told) == 4
    for error in told:
        assert f"{SIZE} more are promised to copies that go on" in str(error)
        assert (error.needed, error.available) == (SIZE, 35 * MIB)
        assert f"--size +{30 * MIB}b" in error.command


async def promised(here: Here) -> int:
    async with room(here) as found:
        return found


async def test_a_copy_that_died_takes_nothing_more(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    with_room(group, 100 * MIB)
    await prepare(here, host.request())
    with pytest.raises(NoLocalSpace):
        await prepare(here, host.request(vol_id=OTHER_VOL))
    died(here)
    assert await promised(here) == 0
    assert (await prepare(here, host.request(vol_id=OTHER_VOL))).state == "filling"


async def test_a_copy_that_was_done_takes_nothing_more(here: Here, host: DiskHost) -> None:
    await prepared(here, host.request(), ignored)
    assert await promised(here) == 0


async def test_what_a_copy_has_written_is_not_counted_again(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await prepare(here, host.request())
    assert await promised(here) == SIZE
    with group.content() as content:
        [one] = content.volumes
        one.data_percent = 50.01  # of 68 MiB
    assert await promised(here) == pytest.approx(31 * MIB, abs=1)
    with group.content() as content:
        content.volumes[0].data_percent = 100.0
    assert await promised(here) == 0


async def test_a_sparse_source_takes_what_it_holds_alone(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    host.source.write_bytes(os.urandom(MIB))
    os.truncate(host.source, 64 * MIB)
    with_room(group, 3 * MIB)
    for _ in range(3):
        await prepare(here, host.request(vol_id=str(uuid.uuid4())))
    with pytest.raises(NoLocalSpace):
        await prepare(here, host.request(vol_id=str(uuid.uuid4())))


async def test_a_source_takes_a_chunk_wherever_it_holds_data(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    """4 KiB in each MiB."""
    host.source.write_bytes(b"")
    os.truncate(host.source, 64 * MIB)
    with host.source.open("r+b") as file:
        for place in range(0, 64 * MIB, MIB):
            os.pwrite(file.fileno(), os.urandom(4096), place)
    with_room(group, 64 * CHUNK - 1)
    with pytest.raises(NoLocalSpace) as caught:
        await prepare(here, host.request())
    assert caught.value.needed == 64 * CHUNK
    assert group.volumes() == {}
    with_room(group, 64 * CHUNK)
    await prepare(here, host.request())


async def test_a_linear_disk_has_taken_its_size_already(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    await prepare(here, host.request(backend="lvm"))
    assert await promised(here) == 0


@pytest.mark.parametrize("opened", [False, True])
async def test_a_copy_of_another_is_known_by_what_it_has_open(
    here: Here, group: StandIn, opened: bool
) -> None:
    """Of oVirt's own hook: what it takes is not known, and is the whole disk at the most."""
    group.add(volume(percent=25.01, opened=opened))
    assert await promised(here) == (pytest.approx(51 * MIB, abs=1) if opened else 0)


async def test_a_copy_of_another_user_is_known_by_its_locks(here: Here, group: StandIn) -> None:
    group.add(volume(f"JOB_{JOB}"))
    async with held(disk.locks(PathUrl(here.disks.path(VOL)), Mode.EXCLUSIVE)):
        assert await promised(here) == 17 * EXTENT
    assert await promised(here) == 0


async def test_a_job_that_is_just_beginning_is_waited_for(
    here: Here, host: DiskHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, counted = OwnJobs.begin, list[int]()

    async def slow(jobs: OwnJobs, spec: object) -> None:
        nursery.start_soon(count)
        with trio.move_on_after(0.5):  # nothing is told before it has begun
            await told.wait()
        assert counted == []
        await begin(jobs, spec)  # type: ignore[arg-type]

    async def count() -> None:
        counted.append(await promised(here))
        told.set()

    told = trio.Event()
    monkeypatch.setattr(OwnJobs, "begin", slow)
    async with trio.open_nursery() as nursery:
        await prepare(here, host.request())
    assert counted == [SIZE]


async def test_one_that_does_not_begin_is_not_waited_for_for_ever(
    here: Here, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk_room, "BEGIN_TIME", 0.1)
    group.add(volume(f"JOB_{JOB}"))
    async with held([beginning(here.disks, VOL, Mode.EXCLUSIVE)]):
        with trio.fail_after(30):
            assert await promised(here) == 17 * EXTENT


async def test_one_that_does_not_begin_brings_no_dead_one_to_life(
    here: Here, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk_room, "BEGIN_TIME", 0.1)
    group.add(volume(f"JOB_{JOB}"))
    async with held([beginning(here.disks, OTHER_VOL, Mode.EXCLUSIVE)]):
        group.add(replace(volume(), name=OTHER_VOL))
        assert await promised(here) == 17 * EXTENT


async def test_one_that_does_not_begin_keeps_nobody_from_looking(
    here: Here, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_disk_room, "BEGIN_TIME", 600.0)
    group.add(volume(f"JOB_{JOB}"))
    async with held([beginning(here.disks, VOL, Mode.EXCLUSIVE)]), trio.open_nursery() as nursery:
        nursery.start_soon(promised, here)
        await until(lambda: ["volumes"] in group.calls())
        with trio.fail_after(30):
            async with held([allotting(here.disks)]):
                nursery.cancel_scope.cancel()


async def test_a_job_that_cannot_be_begun_promises_nothing(
    here: Here, host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*ignored: object) -> None:
        raise Error

    with monkeypatch.context() as changed:
        changed.setattr(OwnJobs, "begin", broken)
        with pytest.raises(Error):
            await prepare(here, host.request())
    with_room(group, 66 * MIB)
    await prepare(here, host.request(vol_id=OTHER_VOL))


async def test_the_pool_is_asked_after_its_disks(
    here: Here, host: DiskHost, group: StandIn
) -> None:
    """Else what is written in between would be counted nowhere."""
    await prepare(here, host.request())
    verbs = [words[0] for words in group.calls()]
    asked = verbs.index("volumes")
    assert verbs[asked : verbs.index("create")] == ["volumes", "pool"]


async def test_other_pools_disks_of_others_and_what_is_ready_do_not_count(
    here: Here, group: StandIn
) -> None:
    other = LogicalVolume(VOL, EXTENT, frozenset({f"IU_{IMG}", "UPDATING"}), True, True, "other")
    foreign = LogicalVolume(OTHER_VOL, EXTENT, frozenset({"UPDATING"}), True, True, POOL)
    ready = LogicalVolume(JOB, EXTENT, frozenset({f"IU_{IMG}"}), True, True, POOL)
    for one in (other, foreign, ready):
        group.add(one)
    assert await promised(here) == 0
