"""Copying a disk, with everything that can go wrong on the way, over hosts in memory."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from engine.commands.copy_disk import CopyDisk
from engine.commands.copy_limits import CopyLimits
from engine.commands.move_disk import MoveDisk
from engine.db import attachments, audit, disks, domains, hosts, jobs, quarantine, volumes
from protocol.errors import (
    AcquireLockFailure,
    AdapterFailed,
    BadParameter,
    InQuarantine,
    InvalidDomain,
    ManagedVolumeHelperFailed,
    NoSuchObject,
    ToolFailed,
    UnsupportedOperation,
)
from protocol.managed import GIB, ConnectionInfo, Connector
from protocol.record import JobRecord, JobStatus
from tests.engine.commands import copy_world
from tests.engine.commands.copy_world import (
    ARRAY,
    DATA,
    DATA2,
    HOSTS,
    LOST,
    OTHER,
    UNASKED,
    Estate,
    Lease,
    World,
    estate,
    opened,
)
from tests.engine.stand_in import until

SOURCE = "aaaaaaaa-0000-4000-8000-00000000000a"
ENDS = [(ARRAY, OTHER), (DATA, ARRAY), (ARRAY, DATA), (DATA, DATA2), (ARRAY, ARRAY)]
MANAGED = [(ARRAY, OTHER), (DATA, ARRAY)]


async def begin(made: Estate, target: str, **more: Any) -> tuple[str, CopyDisk]:
    spec = CopyDisk(disk=SOURCE, domain=target, name="copy", **more)
    return await made.commands.start("copy_disk", spec, user="admin"), spec


async def copied(made: Estate, source: str, target: str, **more: Any) -> tuple[Any, CopyDisk]:
    await made.disk(source, SOURCE)
    command, spec = await begin(made, target, **more)
    return await made.ended(command), spec


async def nothing_is_left(made: Estate, spec: CopyDisk | MoveDisk, *kept: str) -> None:
    """No attachment, lease or volume but those of disks, and these; no disk is locked."""
    world = made.world
    assert [host.attached for host in world.hosts.values() if host.up and host.attached] == []
    assert world.leases == {}
    assert all(not let_in for array in world.arrays.values() for let_in in array.hosts.values())
    assert await made.read(quarantine.search) == []
    found = await made.read(disks.search)
    assert [disk.state for disk in found] == ["ok"] * len(found)
    there = {volume for array in world.arrays.values() for volume in array.hosts}
    there |= {volume for image in world.images.values() for volume in image}
    assert there == {disk.volume for disk in found} | set(kept)
    rows = await made.read(lambda c: [volumes.find(c, disk.volume) for disk in found])
    assert [row.state for row in rows] == ["ok"] * len(found)
    assert (await made.read(lambda c: jobs.find(c, spec.job))).state != "running"


# --- the road -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), ENDS)
async def test_a_disk_is_copied_between_all_kinds_of_domains(
    tmp_path: Path, source: str, target: str
) -> None:
    async with estate(tmp_path, World()) as made:
        row, spec = await copied(made, source, target)
        assert row.state == "succeeded", row.error
        disk = await made.read(lambda c: disks.get(c, spec.copy))
        assert (disk.name, disk.domain, disk.volume) == ("copy", target, spec.volume)
        await nothing_is_left(made, spec)


async def test_a_new_target_is_told_to_be_zero_and_a_managed_one_has_the_lease_of_its_job(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World()) as made:
        _, spec = await copied(made, DATA, ARRAY, limit=1 << 20, verify=True)
        [(_, params)] = made.world.of("SDM.copy_data")
        target = params["destination"]
        assert target["is_zero"] is True
        assert target["lease"] == {"sd_id": DATA, "lease_id": spec.job}
        assert (params["limit"], params["verify"]) == (1 << 20, True)
        assert (params["source"]["endpoint_type"], target["endpoint_type"]) == ("div", "external")


async def test_what_is_taken_away_goes_in_the_order_access_lease(tmp_path: Path) -> None:
    async with estate(tmp_path, World()) as made:
        await copied(made, ARRAY, OTHER)
        order = made.world.order()
        assert order.index("SDM.copy_data") < order.index("ManagedVolume.detach_volume")
        assert order.index("ManagedVolume.detach_volume") < order.index("Lease.delete")


async def test_sizes_are_whole_gib_on_managed_storage_only(tmp_path: Path) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(DATA, SOURCE, size=GIB + 512)
        for target, size in ((ARRAY, 2 * GIB), (DATA2, GIB + 512)):
            command, spec = await begin(made, target)
            assert (await made.ended(command)).state == "succeeded"
            assert (await made.read(partial(disks.get, id=spec.copy))).size == size


async def test_progress_is_told(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: any(kind == "job.progress" for kind, *_ in made.world.told))
        progress = made.commands.progress(command)
        assert progress is not None
        assert progress.percent == 25.0
        made.world.end(spec.job, "done")
        assert (await made.ended(command)).state == "succeeded"


# --- it fails -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), ENDS)
async def test_a_failed_copy_leaves_nothing(tmp_path: Path, source: str, target: str) -> None:
    async with estate(tmp_path, World("failed")) as made:
        row, spec = await copied(made, source, target)
        assert (row.state, row.error["code"]) == ("failed", 4113)
        await nothing_is_left(made, spec)
        with pytest.raises(NoSuchObject):
            await made.read(lambda c: disks.get(c, spec.copy))


async def test_a_failed_copy_is_cut_off_then_loses_its_lease_then_its_target(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World("failed")) as made:
        _, spec = await copied(made, DATA, ARRAY)
        array, order = made.world.arrays[ARRAY], made.world.order()
        assert order.index("ManagedVolume.detach_volume") < order.index("Lease.delete")
        assert array.did[-2:] == [("disconnect", spec.volume), ("delete", spec.volume)]


@pytest.mark.parametrize(
    ("verb", "error"),
    [
        ("ManagedVolume.attach_volume", ManagedVolumeHelperFailed("helper", "attach", "no")),
        ("Lease.create", InvalidDomain("/x", "no")),
        ("SDM.copy_data", BadParameter("source", "no")),
    ],
)
async def test_what_a_host_refuses_fails_the_copy_and_leaves_nothing(
    tmp_path: Path, verb: str, error: Exception
) -> None:
    async with estate(tmp_path, World(fails={verb: [error]})) as made:
        row, spec = await copied(made, ARRAY, OTHER)
        assert (row.state, row.error["message"]) == ("failed", str(error))
        await nothing_is_left(made, spec)


@pytest.mark.parametrize(
    "verb",
    [
        "ManagedVolume.attach_volume",
        "Lease.create",
        "SDM.copy_data",
        "ManagedVolume.detach_volume",
    ],
)
@pytest.mark.parametrize("how", [LOST, UNASKED])
async def test_a_call_whose_answer_is_lost_is_made_again(
    tmp_path: Path, verb: str, how: str
) -> None:
    async with estate(tmp_path, World(fails={verb: [how]})) as made:
        row, spec = await copied(made, DATA, ARRAY)
        assert row.state == "succeeded", row.error
        await nothing_is_left(made, spec)


async def test_a_lease_that_is_held_for_a_moment_is_deleted_later(tmp_path: Path) -> None:
    held = AcquireLockFailure("lease", "it is held")
    async with estate(tmp_path, World(fails={"Lease.delete": [held, held, None]})) as made:
        row, spec = await copied(made, DATA, ARRAY)
        assert row.state == "succeeded", row.error
        await nothing_is_left(made, spec)


async def test_a_volume_that_is_to_be_filled_is_made_as_one_that_nobody_may_use(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World()) as made:
        await copied(made, ARRAY, DATA)
        assert [params["legal"] for _, params in made.world.of("Volume.create")] == [False]


async def test_a_job_that_may_have_begun_is_not_told_that_its_target_is_zero(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World(fails={"SDM.copy_data": [LOST]})) as made:
        await copied(made, DATA, ARRAY)
        told = [params["destination"]["is_zero"] for _, params in made.world.of("SDM.copy_data")]
        assert told == [True, False]


# --- the host is silent -------------------------------------------------------------------------


async def test_a_silent_host_is_shut_out_before_lease_and_target_are_deleted(
    tmp_path: Path,
) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: world.leases.get(spec.job, None) is not None and spec.job in {
            job for host in world.hosts.values() for job in host.jobs
        })  # fmt: skip
        host = world.leases[spec.job].owner
        assert host is not None
        seen: list[bool] = []
        world.before["Lease.delete"] = lambda: seen.append(
            not world.arrays[OTHER].hosts[spec.volume]
        )
        world.kill(host)
        row = await made.ended(command)
        assert row.state == "failed"
        assert row.verdict["cut_off"] is True
        assert seen == [True]
        await nothing_is_left(made, spec)


async def test_a_copy_that_its_lease_calls_done_is_done_though_its_host_is_silent(
    tmp_path: Path,
) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
        host = world.leases[spec.job].owner
        assert host is not None
        world.end(spec.job, "done")
        world.kill(host)
        assert (await made.ended(command)).state == "succeeded"
        await nothing_is_left(made, spec)


async def test_a_host_that_was_removed_is_shut_out_as_a_silent_one(tmp_path: Path) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        command, spec = await begin(made, ARRAY)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
        host = world.leases[spec.job].owner
        assert host is not None
        world.kill(host)
        del world.hosts[host]
        assert (await made.ended(command)).state == "failed"
        await nothing_is_left(made, spec)


async def test_what_nobody_can_shut_out_is_kept_and_cleared_when_the_storage_works(
    tmp_path: Path,
) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        command, spec = await begin(made, ARRAY)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
        host = world.leases[spec.job].owner
        assert host is not None
        world.arrays[ARRAY].broken = True
        world.kill(host)
        row = await made.ended(command)
        assert row.state == "quarantined"
        assert spec.job in world.leases
        assert ("delete", spec.volume) not in world.arrays[ARRAY].did
        found = await made.read(quarantine.search)
        assert {(one.kind, one.object) for one in found} >= {
            ("volume", spec.volume),
            ("attachment", spec.volume),
            ("lease", spec.job),
        }
        told = await made.read(lambda c: audit.search(c, object=command))
        assert any(f"host {host} ({host}) to volume" in one.text for one in told)
        assert f" {host} ({host}): " in row.verdict["story"][0]["text"]
        assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"
        assert (await made.read(lambda c: disks.get(c, spec.copy))).state != "ok"
        world.arrays[ARRAY].broken = False
        await made.commands.clear(command)
        assert (await made.ended(command)).state == "failed"
        await nothing_is_left(made, spec)


async def test_a_host_that_answers_and_cannot_detach_is_not_forced(tmp_path: Path) -> None:
    world = World("failed")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        for host in world.hosts.values():
            host.uses = {"*"}

        def use() -> None:
            for host in world.hosts.values():
                host.uses = set(host.attached)

        world.before["ManagedVolume.detach_volume"] = use
        command, spec = await begin(made, ARRAY)
        assert (await made.ended(command)).state == "quarantined"
        assert world.arrays[ARRAY].hosts[spec.volume]
        for host in world.hosts.values():
            host.uses = set()
        await made.commands.clear(command)
        assert (await made.ended(command)).state == "failed"
        await nothing_is_left(made, spec)


# --- nobody can tell ----------------------------------------------------------------------------


async def unresolved(made: Estate) -> tuple[str, CopyDisk]:
    """A copy whose lease somebody has deleted."""
    world = made.world
    await made.disk(DATA, SOURCE)
    command, spec = await begin(made, ARRAY)
    await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
    world.hosts[world.leases[spec.job].owner or ""].jobs.clear()
    del world.leases[spec.job]
    assert (await made.ended(command)).state == "unresolved"
    return command, spec


async def test_an_unresolved_copy_keeps_everything_but_the_lock_of_the_source(
    tmp_path: Path,
) -> None:
    async with estate(tmp_path, World("running")) as made:
        command, spec = await unresolved(made)
        row = await made.read(lambda c: disks.get(c, SOURCE))
        assert row.state == "ok"
        target = await made.read(lambda c: disks.get(c, spec.copy))
        assert (target.state, target.locked_by) == ("locked", command)
        assert made.world.arrays[ARRAY].hosts[spec.volume]
        with pytest.raises(InQuarantine):
            await begin_of(made, spec.copy)


async def begin_of(made: Estate, disk: str) -> None:
    spec = CopyDisk(disk=disk, domain=OTHER, name="x")
    await made.commands.start("copy_disk", spec, user="admin")


async def test_resolving_asks_again_and_does_not_begin_the_job_again(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        command, _spec = await unresolved(made)
        await made.commands.resolve(command)
        assert (await made.ended(command)).state == "unresolved"
        assert len(made.world.of("SDM.copy_data")) == 1


async def test_a_copy_that_is_resolved_later_is_done(tmp_path: Path) -> None:
    """Its lease was not lost after all."""
    world = World("running")
    async with estate(tmp_path, world) as made:
        command, spec = await unresolved(made)
        record = JobRecord.pending(spec.job, 0, now=0, hardware_id="a")
        done = record.ended(JobStatus.SUCCEEDED, now=1, hardware_id="a")
        world.leases[spec.job] = Lease(dict(done.keys))
        await made.commands.resolve(command)
        assert (await made.ended(command)).state == "succeeded"
        await nothing_is_left(made, spec)


async def test_clearing_an_unresolved_copy_takes_it_back(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        command, spec = await unresolved(made)
        await made.commands.clear(command)
        assert (await made.ended(command)).state == "failed"
        await nothing_is_left(made, spec)


# --- abort --------------------------------------------------------------------------------------


async def test_an_abort_stops_the_job_and_the_lease_says_how_it_ended(tmp_path: Path) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
        await made.commands.abort(command)
        row = await made.ended(command)
        assert (row.state, row.error["code"]) == ("aborted", 443)
        assert world.of("Job.abort")
        await nothing_is_left(made, spec)


async def test_an_abort_that_comes_after_the_last_byte_changes_nothing(tmp_path: Path) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
        world.before["Job.abort"] = lambda: world.end(spec.job, "done")
        await made.commands.abort(command)
        assert (await made.ended(command)).state == "succeeded"
        await nothing_is_left(made, spec)


async def test_a_copy_that_waits_for_a_host_can_be_aborted(tmp_path: Path) -> None:
    world = World("running", hosts={})
    async with estate(tmp_path, world) as made:
        world.hosts |= World().hosts
        for host in world.hosts.values():
            host.limit = 1
        await made.disk(ARRAY, SOURCE)
        others = [f"bbbbbbbb-000{n}-4000-8000-00000000000a" for n in (1, 2)]
        running = []
        for disk in others:
            await made.disk(ARRAY, disk)
            spec = CopyDisk(disk=disk, domain=OTHER, name="x")
            running.append((await made.commands.start("copy_disk", spec, user="admin"), spec))
        await until(lambda: len(world.of("SDM.copy_data")) == 2)
        command, waiting = await begin(made, OTHER)
        await until(lambda looks=world.looks: world.looks > looks + 3)  # type: ignore[misc]
        assert world.arrays[OTHER].did.count(("create", waiting.volume)) == 0
        await made.commands.abort(command)
        assert (await made.ended(command)).state == "aborted"
        for id, spec in running:
            world.end(spec.job, "done")
            assert (await made.ended(id)).state == "succeeded"


async def test_an_abort_ends_the_waiting_for_a_host_that_gave_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have attached the volume; the undo sees to that."""
    monkeypatch.setattr(copy_world, "COPIES", replace(copy_world.COPIES, pause=60.0))
    world = World(fails={"ManagedVolume.attach_volume": [LOST]})
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await until(lambda: bool(world.of("ManagedVolume.attach_volume")))
        await made.commands.abort(command)
        assert (await made.ended(command)).state == "aborted"
        assert len(world.of("ManagedVolume.attach_volume")) == 1
        await nothing_is_left(made, spec)


async def test_an_abort_while_the_storage_connects_is_obeyed_before_the_host_is_asked(
    tmp_path: Path,
) -> None:
    world = World()
    array, came, go = world.arrays[ARRAY], trio.Event(), trio.Event()
    connect = array.connect_volume

    async def slow(volume: str, connector: Connector) -> ConnectionInfo:
        info = await connect(volume, connector)
        came.set()
        await go.wait()
        return info

    array.connect_volume = slow  # type: ignore[method-assign]
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command, spec = await begin(made, OTHER)
        await came.wait()
        await made.commands.abort(command)
        go.set()
        assert (await made.ended(command)).state == "aborted"
        assert world.of("ManagedVolume.attach_volume") == []
        await nothing_is_left(made, spec)


# --- where --------------------------------------------------------------------------------------


async def test_a_copy_waits_until_a_domain_is_below_its_limit(tmp_path: Path) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.database.write(lambda c: domains.change(c, OTHER, limits={"copies": 1}))
        first = "bbbbbbbb-0001-4000-8000-00000000000a"
        for disk in (first, SOURCE):
            await made.disk(ARRAY, disk)
        one = CopyDisk(disk=first, domain=OTHER, name="x")
        running = await made.commands.start("copy_disk", one, user="admin")
        await until(lambda: len(world.of("SDM.copy_data")) == 1)
        command, spec = await begin(made, OTHER)
        await until(lambda looks=world.looks: world.looks > looks + 3)  # type: ignore[misc]
        assert len(world.of("SDM.copy_data")) == 1
        world.end(one.job, "done")
        assert (await made.ended(running)).state == "succeeded"
        await until(lambda: len(world.of("SDM.copy_data")) == 2)
        world.end(spec.job, "done")
        assert (await made.ended(command)).state == "succeeded"


@pytest.mark.parametrize(
    ("limits", "own", "at_once"),
    [
        (CopyLimits(), None, 4),  # as many as the hosts do
        (CopyLimits(per_host=1), None, 2),
        (CopyLimits(per_host=9), None, 4),
        (CopyLimits(per_domain=1), None, 1),
        (CopyLimits(per_domain=1), 3, 3),  # what is said of the domain itself counts
        (CopyLimits(per_host=1, per_domain=3), None, 2),
    ],
    ids=["none", "host", "high", "domain", "own", "both"],
)
async def test_so_many_copies_are_begun_at_once_as_the_limits_allow(
    tmp_path: Path, limits: CopyLimits, own: int | None, at_once: int
) -> None:
    world = World("running")
    async with estate(tmp_path, world, limits) as made:
        for domain in (ARRAY, OTHER):
            await made.database.write(partial(domains.change, id=domain, limits={"copies": own}))
        commands = {}
        for number in range(5):
            disk = f"bbbbbbbb-000{number}-4000-8000-00000000000a"
            await made.disk(ARRAY, disk)
            spec = CopyDisk(disk=disk, domain=OTHER, name="x")
            commands[spec.job] = await made.commands.start("copy_disk", spec, user="admin")
        for ended in range(5):
            expected = ended + min(at_once, 5 - ended)
            await until(partial(have_begun, world, expected))
            await until(partial(was_looked, world, world.looks + 8))
            assert have_begun(world, expected)
            job = running(world)[0]
            world.end(job, "done")
            assert (await made.ended(commands[job])).state == "succeeded"


def have_begun(world: World, copies: int) -> bool:
    return len(world.of("SDM.copy_data")) == copies


def was_looked(world: World, times: int) -> bool:
    """For a host, by those that wait; where nobody does, nobody looks."""
    return world.looks >= times or len(world.of("SDM.copy_data")) == 5


def running(world: World) -> list[str]:
    jobs = [job for host in world.hosts.values() for job in host.jobs.values()]
    return [job["id"] for job in jobs if job["status"] == "running"]


async def test_a_host_that_storage_would_take_for_another_gets_no_managed_volumes(
    tmp_path: Path,
) -> None:
    world = World()
    world.hosts["a"].twin = "its iSCSI name is that of host z too"
    async with estate(tmp_path, world) as made:
        for number in range(3):
            disk = f"bbbbbbbb-000{number}-4000-8000-00000000000a"
            await made.disk(ARRAY, disk)
            spec = CopyDisk(disk=disk, domain=OTHER, name="x")
            command = await made.commands.start("copy_disk", spec, user="admin")
            assert (await made.ended(command)).state == "succeeded"
        assert {host for host, _ in world.of("SDM.copy_data")} == {"b"}
        world.hosts["b"].twin = "its name is that of host y too"
        row, _ = await copied(made, ARRAY, OTHER)
        assert (row.state, row.error["code"]) == ("failed", 4404)
        assert "a: it gets no managed volumes: its iSCSI name" in row.error["message"]
        assert "b: it gets no managed volumes: its name" in row.error["message"]
        disk = "cccccccc-0000-4000-8000-00000000000a"
        await made.disk(DATA, disk)
        spec = CopyDisk(disk=disk, domain=DATA2, name="x")
        command = await made.commands.start("copy_disk", spec, user="admin")
        assert (await made.ended(command)).state == "succeeded"


async def test_what_no_host_can_do_is_refused_without_a_wait(tmp_path: Path) -> None:
    world = World()
    async with estate(tmp_path, world) as made:
        await made.database.write(lambda c: domains.change(c, OTHER, options={"adapter": "ceph"}))
        row, spec = await copied(made, ARRAY, OTHER)
        assert (row.state, row.error["code"]) == ("failed", 4404)
        await nothing_is_left_unplaced(made, spec)


async def nothing_is_left_unplaced(made: Estate, spec: CopyDisk) -> None:
    assert made.world.arrays[OTHER].hosts == {}
    assert await made.read(lambda c: jobs.find(c, spec.job)) is None
    assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"name": "../x"}, BadParameter),
        ({"domain": "no"}, NoSuchObject),
        ({"disk": "no"}, NoSuchObject),
        ({"limit": 0}, BadParameter),
        ({"format": "cow"}, BadParameter),
    ],
)
async def test_what_is_asked_for_wrongly_makes_no_command(
    tmp_path: Path, more: dict[str, Any], error: type[Exception]
) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(DATA, SOURCE)
        wanted = {"disk": SOURCE, "domain": ARRAY, "name": "copy"} | more
        with pytest.raises(error):
            await made.commands.start("copy_disk", CopyDisk(**wanted), user="admin")
        assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"
        assert await made.read(disks.count) == 1


# --- move ---------------------------------------------------------------------------------------


async def moved(made: Estate, source: str, target: str) -> tuple[Any, MoveDisk]:
    await made.disk(source, SOURCE)
    spec = MoveDisk(disk=SOURCE, domain=target)
    command = await made.commands.start("move_disk", spec, user="admin")
    return await made.ended(command), spec


@pytest.mark.parametrize(("source", "target"), ENDS[:4])
async def test_a_moved_disk_is_at_its_new_place_only(
    tmp_path: Path, source: str, target: str
) -> None:
    async with estate(tmp_path, World()) as made:
        row, spec = await moved(made, source, target)
        assert row.state == "succeeded", row.error
        disk = await made.read(lambda c: disks.get(c, SOURCE))
        assert (disk.domain, disk.volume, disk.state) == (target, spec.volume, "ok")
        assert disk.kind == ("image" if target in (DATA, DATA2) else "managed")
        [(_, params)] = made.world.of("SDM.copy_data")
        assert params["verify"] is True
        await nothing_is_left(made, spec)


@pytest.mark.parametrize(("source", "target"), ENDS[:4])
async def test_a_failed_move_leaves_the_disk_as_it_was(
    tmp_path: Path, source: str, target: str
) -> None:
    async with estate(tmp_path, World("failed")) as made:
        row, spec = await moved(made, source, target)
        assert row.state == "failed"
        disk = await made.read(lambda c: disks.get(c, SOURCE))
        assert (disk.domain, disk.state) == (source, "ok")
        assert disk.volume != spec.volume
        await nothing_is_left(made, spec)


async def test_a_disk_of_which_a_host_has_a_local_copy_does_not_move(tmp_path: Path) -> None:
    world = World()
    local = "77777777-7777-4888-8999-aaaaaaaaaaaa"
    world.hosts[HOSTS[1]].local = {local: SOURCE}
    async with estate(tmp_path, world) as made:
        row, _ = await moved(made, DATA, DATA2)
        assert (row.state, row.error["code"]) == ("failed", UnsupportedOperation.code)
        assert f"host {HOSTS[1]} ({HOSTS[1]}) has local disk {local}" in row.error["message"]
        assert world.of("SDM.copy_data") == []
        assert (await made.read(lambda c: disks.get(c, SOURCE))).state == "ok"
        assert len(await made.read(volumes.search)) == 1
        # It may be copied, as a template is: the source stays where it is.
        command, copy = await begin(made, DATA2)
        assert (await made.ended(command)).state == "succeeded"
        await nothing_is_left(made, copy)


@pytest.mark.parametrize("why", ["another image", "its host is silent", "its host has just gone"])
async def test_a_disk_moves_whose_local_copies_nobody_tells_of(tmp_path: Path, why: str) -> None:
    world = World()
    host = world.hosts[HOSTS[1]]
    host.local = {"x": DATA if why == "another image" else SOURCE}
    host.up = why != "its host is silent"
    if why == "its host has just gone":
        world.fails["LocalDisk.list"] = [UNASKED] * 2
    async with estate(tmp_path, world) as made:
        row, _ = await moved(made, DATA, DATA2)
        assert row.state == "succeeded", row.error


@pytest.mark.parametrize(
    ("fails", "code"), [(ToolFailed("lvs", 5, "a device is gone"), 4111), (LOST, 4116)]
)
async def test_a_disk_does_not_move_when_a_host_cannot_tell_its_local_disks(
    tmp_path: Path, fails: Any, code: int
) -> None:
    world = World()
    world.hosts[HOSTS[1]].local = {}
    world.fails["LocalDisk.list"] = [fails]
    async with estate(tmp_path, world) as made:
        row, _ = await moved(made, DATA, DATA2)
        assert (row.state, row.error["code"]) == ("failed", code)


async def test_a_host_is_asked_that_could_not_tell_whether_it_has_local_disks(
    tmp_path: Path,
) -> None:
    world = World()
    world.hosts[HOSTS[1]].local = {"x": SOURCE}
    world.hosts[HOSTS[1]].fogged = True
    async with estate(tmp_path, world) as made:
        row, _ = await moved(made, DATA, DATA2)
        assert (row.state, row.error["code"]) == ("failed", UnsupportedOperation.code)


@pytest.mark.parametrize("source", [DATA, ARRAY])
async def test_a_disk_of_which_a_local_copy_is_made_meanwhile_stays_where_it_was(
    tmp_path: Path, source: str
) -> None:
    world = World()
    host = world.hosts[HOSTS[1]]
    host.local = {}
    async with estate(tmp_path, world) as made:
        await made.disk(source, SOURCE)
        before = await made.read(lambda c: disks.get(c, SOURCE))

        def begin_one() -> None:
            host.local = {before.volume: before.image or "managed"}

        world.before["SDM.copy_data"] = begin_one
        spec = MoveDisk(disk=SOURCE, domain=DATA2)
        row = await made.ended(await made.commands.start("move_disk", spec, user="admin"))
        assert (row.state, row.error["code"]) == ("failed", UnsupportedOperation.code)
        assert await made.read(lambda c: disks.get(c, SOURCE)) == before
        await nothing_is_left(made, spec)


async def test_a_source_that_cannot_be_removed_is_kept_and_the_move_has_succeeded(
    tmp_path: Path,
) -> None:
    world = World()
    failing = AdapterFailed("array", "delete_volume", "no")
    async with estate(tmp_path, world) as made:
        world.arrays[ARRAY].fails["delete"] = [failing] * 3
        row, spec = await moved(made, ARRAY, OTHER)
        assert row.state == "succeeded"
        disk = await made.read(lambda c: disks.get(c, SOURCE))
        assert (disk.domain, disk.volume, disk.state) == (OTHER, spec.volume, "ok")
        [kept] = await made.read(quarantine.search)
        assert kept.object == f"{SOURCE[:-1]}f"
        await made.commands.clear(row.id)
        assert (await made.ended(row.id)).state == "succeeded"
        await nothing_is_left(made, spec)


async def test_a_source_that_a_host_still_has_is_not_removed(tmp_path: Path) -> None:
    world, old = World(), f"{SOURCE[:-1]}f"
    async with estate(tmp_path, world) as made:
        for host in world.hosts.values():
            host.uses = {old}
        row, spec = await moved(made, ARRAY, OTHER)
        assert row.state == "succeeded"
        assert ("delete", old) not in world.arrays[ARRAY].did
        found = await made.read(quarantine.search)
        assert {(one.kind, one.object) for one in found} == {
            ("attachment", old),
            ("volume", old),
        }
        for host in world.hosts.values():
            host.uses = set()
        await made.commands.clear(row.id)
        assert (await made.ended(row.id)).state == "succeeded"
        await nothing_is_left(made, spec)


async def test_a_target_whose_access_was_not_cut_is_not_switched_to(tmp_path: Path) -> None:
    world = World()
    async with estate(tmp_path, world) as made:
        failing = AdapterFailed("array", "disconnect_volume", "no")
        world.arrays[OTHER].fails["disconnect"] = [failing] * 6
        row, spec = await moved(made, ARRAY, OTHER)
        assert row.state == "quarantined"
        disk = await made.read(lambda c: disks.get(c, SOURCE))
        assert (disk.domain, disk.locked_by) == (ARRAY, row.id)
        await made.commands.clear(row.id)
        assert (await made.ended(row.id)).state == "failed"
        await nothing_is_left(made, spec)


async def test_a_disk_does_not_move_to_where_it_is(tmp_path: Path) -> None:
    async with estate(tmp_path, World()) as made:
        await made.disk(ARRAY, SOURCE)
        spec = MoveDisk(disk=SOURCE, domain=ARRAY)
        with pytest.raises(BadParameter):
            await made.commands.start("move_disk", spec, user="admin")


# --- the host is back -----------------------------------------------------------------------------


async def lost(made: Estate) -> tuple[str, str, CopyDisk]:
    """A copy whose host went silent, to its end; host, command."""
    world = made.world
    await made.disk(DATA, SOURCE)
    command, spec = await begin(made, ARRAY)
    await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
    host = world.leases[spec.job].owner or ""
    world.kill(host)
    assert (await made.ended(command)).state == "failed"
    return host, command, spec


async def test_a_host_that_is_back_has_its_leftovers_detached(tmp_path: Path) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        host, _, spec = await lost(made)
        assert world.hosts[host].attached
        assert [one.shut_out for one in await made.read(attachments.all_attachments)] == [True]
        world.revive(host)
        await until(lambda: not world.hosts[host].attached)
        with trio.fail_after(10):
            while await made.read(attachments.all_attachments):  # noqa: ASYNC110 - a table
                await trio.sleep(0.01)
        await nothing_is_left(made, spec)


async def test_a_host_that_was_shut_out_can_be_removed(tmp_path: Path) -> None:
    async with estate(tmp_path, World("running")) as made:
        host, _, spec = await lost(made)
        await made.database.write(partial(hosts.remove, id=host))
        await nothing_is_left(made, spec)


async def test_a_volume_that_a_host_still_has_from_before_is_attached_anew(
    tmp_path: Path,
) -> None:
    """Its connection leads nowhere any more."""
    world = World()
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        for one in world.hosts.values():
            one.attached[f"{SOURCE[:-1]}f"] = "old"
        command, spec = await begin(made, OTHER)
        assert (await made.ended(command)).state == "succeeded"
        [(used, params)] = world.of("SDM.copy_data")
        assert params["source"]["url"] != "old"
        for host, here in world.hosts.items():
            assert (host == used) is not bool(here.attached)
            here.attached.clear()
        await nothing_is_left(made, spec)


# --- the engine is killed -----------------------------------------------------------------------


@pytest.mark.parametrize(("source", "target"), MANAGED)
async def test_an_engine_that_ends_in_a_copy_goes_on_with_it(
    tmp_path: Path, source: str, target: str
) -> None:
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(source, SOURCE)
        command, spec = await begin(made, target)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
    world.end(spec.job, "done")
    async with estate(tmp_path, world) as made:
        assert (await made.ended(command)).state == "succeeded"
        assert len({host for host, _ in world.of("SDM.copy_data")}) == 1
        await nothing_is_left(made, spec)


async def test_a_verdict_counts_as_soon_as_it_is_in_the_database(tmp_path: Path) -> None:
    """The engine was killed before it stood in the journal, too; the lease is not asked again."""
    world = World("running")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        command, spec = await begin(made, ARRAY)
        await until(lambda: spec.job in world.leases and bool(world.leases[spec.job].owner))
    world.end(spec.job, "done")
    verdict = {"end": "failed", "reason": "it was fenced", "error": None}
    async with opened(tmp_path) as database:
        await database.write(partial(jobs.end, id=spec.job, verdict=verdict, at=1.0))
    async with estate(tmp_path, world) as made:
        row = await made.ended(command)
        assert (row.state, row.error["code"]) == ("failed", 4440)
        assert not world.of("Lease.status")
        await nothing_is_left(made, spec)


async def test_a_verdict_that_is_written_down_is_not_asked_for_again(tmp_path: Path) -> None:
    world = World("failed")
    async with estate(tmp_path, world) as made:
        await made.disk(DATA, SOURCE)
        world.arrays[ARRAY].fails["disconnect"] = [AdapterFailed("array", "x", "no")] * 99
        command, spec = await begin(made, ARRAY)
        await until(lambda: ("disconnect", spec.volume) in world.arrays[ARRAY].did)
    asked = len(world.of("Lease.status"))
    world.arrays[ARRAY].fails.clear()
    async with estate(tmp_path, world) as made:
        assert (await made.ended(command)).state in ("failed", "quarantined")
        assert len(world.of("Lease.status")) == asked


VERBS = [
    "ManagedVolume.attach_volume",
    "Lease.create",
    "SDM.copy_data",
    "ManagedVolume.detach_volume",
    "Lease.delete",
    *("create", "connect", "disconnect", "delete"),
]
LONG = pytest.mark.full


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", VERBS)
@pytest.mark.parametrize(
    ("kind", "ends"),
    [
        ("copy", "done"),
        ("move", "failed"),
        pytest.param("move", "done", marks=LONG),
        pytest.param("copy", "failed", marks=LONG),
    ],
)
async def test_a_command_goes_on_wherever_the_engine_was_killed(
    tmp_path: Path, kind: str, ends: str, call: str, after: bool
) -> None:
    world = World(ends)
    reached = world.stop_at(call, after=after)
    spec: Any = CopyDisk(disk=SOURCE, domain=OTHER, name="copy")
    if kind == "move":
        spec = MoveDisk(disk=SOURCE, domain=OTHER)
    over = False
    async with estate(tmp_path, world) as made:
        await made.disk(ARRAY, SOURCE)
        command = await made.commands.start(f"{kind}_disk", spec, user="admin")
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                nonlocal over
                await made.ended(command)
                over = True
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait)
            await reached.wait()
            nursery.cancel_scope.cancel()
    assert over is (call == "delete" and (kind, ends) == ("copy", "done"))  # deletes nothing
    async with estate(tmp_path, world) as made:
        row = await made.ended(command)
        assert row.state == ("succeeded" if ends == "done" else "failed"), row.error
        told = [params["destination"]["is_zero"] for _, params in world.of("SDM.copy_data")]
        assert told.count(True) <= 1
        assert len({host for host, _ in world.of("SDM.copy_data")}) <= 1
        await nothing_is_left(made, spec)
