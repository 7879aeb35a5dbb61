"""Whoever prepares a local disk is killed at any step: the next start recovers, nothing is lost.

On a volume group that stands in for LVM; on LVM itself: tests/guest/inside/test_local_kill.py.
"""

import os
from pathlib import Path

import pytest
import trio

from endpoints.domain import open_store
from host.local_disks import Here, prepare
from leases import verbs
from protocol.record import JobStatus
from tests.local_disk_host import MIB, VOL, DiskHost
from tests.local_disks import StandIn

pytestmark = pytest.mark.tools("qemu-img")

# In the order in which a first start reaches them.
STEPS = (
    "prepare:looked",
    "prepare:created",
    "create:locked",
    "create:slot",
    "create:record",
    "prepare:lease",
    "prepare:begun",
    "local:ready",
    "local:recorded",
    "prepare:copied",
    "prepare:used",
)
# Those of a start that finds a disk whose copy died.
AGAIN = (
    "prepare:looked",
    "fence:acquired",
    "fence:lvb",
    "prepare:fenced",
    "delete:lvb",
    "delete:record",
    "prepare:forgotten",
    "prepare:removed",
    "prepare:created",
)


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def host(tmp_path: Path, group: StandIn) -> DiskHost:
    settings = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    return DiskHost(tmp_path, settings).set_up(os.urandom(2 * MIB) + bytes(6 * MIB))


def check(host: DiskHost, made: dict[str, object]) -> None:
    """The disk is ready and holds what the source holds; its lease is gone."""
    assert made["state"] == "ready"
    content = Path(str(made["path"])).read_bytes()
    assert content == host.source.read_bytes()
    assert trio.run(leases, host) == {}


async def leases(host: DiskHost) -> dict[str, str]:
    """What each lease says that is left."""
    return await said(await host.here())


async def said(here: Here) -> dict[str, str]:
    own = await here.leases.own()
    assert own is not None
    found = {}
    for lease_id in await here.leases.all_own():
        found[lease_id] = (await here.leases.look(lease_id)).lease.value
    return found


@pytest.mark.sample(3)
@pytest.mark.parametrize("step", STEPS)
def test_a_start_that_is_killed_is_made_up_for_by_the_next(
    host: DiskHost, group: StandIn, step: str
) -> None:
    host.dies(step)
    complete = "local:ready" in STEPS[: STEPS.index(step) + 1]
    disk = group.volumes().get(VOL)
    if disk is not None:
        assert ("UPDATING" in disk.tags) is not complete
    made = host.started()
    check(host, made)
    assert made["reused"] is complete  # what was whole is not copied twice


@pytest.mark.sample(3)
@pytest.mark.parametrize("step", AGAIN)
def test_one_that_makes_up_for_another_is_killed_too(host: DiskHost, step: str) -> None:
    host.dies("prepare:begun")
    host.dies(step)
    check(host, host.started())


def test_a_copy_that_is_killed_in_the_middle_is_begun_anew(host: DiskHost, group: StandIn) -> None:
    start = host.began(limit=MIB)
    start.wait_for_copy()
    start.kill()
    assert "UPDATING" in group.volumes()[VOL].tags
    assert list(trio.run(leases, host).values()) == [JobStatus.PENDING]
    made = host.started()
    check(host, made)
    assert made["reused"] is False


def test_a_copy_that_is_asked_to_stop_says_so_on_its_lease(host: DiskHost, group: StandIn) -> None:
    start = host.began(limit=MIB)
    start.wait_for_copy()
    start.terminate()
    assert start.failed()["kind"] == "ActionStopped"
    assert "UPDATING" in group.volumes()[VOL].tags
    assert list(trio.run(leases, host).values()) == [JobStatus.FAILED]
    check(host, host.started())


@pytest.mark.parametrize("count", [2, 10])
def test_starts_at_once_share_one_copy(host: DiskHost, group: StandIn, count: int) -> None:
    starts = [host.began(limit=4 * MIB) for _ in range(count)]
    made = [one.ended() for one in starts]
    for one in made:
        check(host, one)
    assert sum(words[0] == "create" for words in group.calls()) == 1
    assert len({one["job_id"] for one in made}) == 1
    assert sum(not one["reused"] for one in made) >= 1


def test_all_who_share_a_copy_are_told_why_it_failed(host: DiskHost, group: StandIn) -> None:
    group.fail("change")  # LVM cannot drop the mark
    starts = [host.began(limit=4 * MIB) for _ in range(3)]
    errors = [one.failed() for one in starts]
    assert {error["kind"] for error in errors} <= {"ToolFailed"}
    # Nobody who shared it began another one; only who came later did.
    assert sum(words[0] == "create" for words in group.calls()) <= 3


def test_a_killed_one_of_ten_is_made_up_for_by_the_others(host: DiskHost, group: StandIn) -> None:
    first = host.began(limit=MIB)
    first.wait_for_copy()
    others = [host.began() for _ in range(4)]
    first.kill()
    for one in others:
        check(host, one.ended())
    assert sum(words[0] == "create" for words in group.calls()) == 2


async def test_a_disk_is_not_removed_under_a_writer_whose_lease_was_fenced(
    host: DiskHost, group: StandIn
) -> None:
    start = host.began(limit=MIB)
    await trio.to_thread.run_sync(start.wait_for_copy)
    here = await host.here()
    [job_id] = await here.leases.all_own()
    store_of = (await here.leases.look(job_id)).domain
    assert store_of is not None
    # Somebody deletes the lease by force: the disk names a job of which nothing is known.
    await verbs.delete(await open_store(store_of), job_id, force=True)
    made = await prepare(here, host.request())
    assert (made.state, made.job_id) == ("filling", job_id)
    assert "UPDATING" in group.volumes()[VOL].tags
    await trio.to_thread.run_sync(start.kill)
    assert sum(words[0] == "remove" for words in group.calls()) == 0
