"""LocalDisk.*: the agent makes local disks as ordinary jobs, and shares them."""

import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog
import trio

from host import local_disks
from host.config import LocalDisk
from host.local_disk_here import in_agent
from host.local_disk_start import look_after_start
from protocol.errors import (
    BadParameter,
    Error,
    LocalDiskInUse,
    LocalDiskRefused,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeGroupMissing,
)
from protocol.settings import Seconds
from tests.host.verbs.a_host import (
    IMG,
    MIB,
    SD,
    VOL,
    AHost,
    a_host,
    config,
    div,
    external,
    metadata,
)
from tests.local_disk_host import OTHER_VOL, DiskHost
from tests.local_disks import StandIn
from tests.servers import LOOK, WAIT

pytestmark = pytest.mark.tools("qemu-img")
VM = "dddddddd-eeee-4fff-8000-111111111111"
OTHER_VM = "eeeeeeee-eeee-4fff-8000-111111111111"
JOB = "5b3ad4a8-3a1b-4a36-8f2e-b0f4c27be1d3"


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


def settings(group: StandIn, **other: Any) -> LocalDisk:
    usual = {"helper": group.helper, "dev": str(group.folder / "dev"), "keep": Seconds(0)}
    return LocalDisk(**{**usual, **other})


@pytest.fixture
async def host(tmp_path: Path, group: StandIn) -> AsyncIterator[AHost]:
    wanted = msgspec.structs.replace(config(tmp_path), localdisk=settings(group))
    async with a_host(tmp_path, wanted) as made:
        (made.disks / "source").write_bytes(os.urandom(MIB) + bytes(4 * MIB))
        yield made


async def prepare(host: AHost, **other: Any) -> dict[str, Any]:
    usual = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "vm_id": VM}
    source = external(host.disks / "source")
    made = await host.call("LocalDisk.prepare", **{**usual, "source": source, **other})
    assert isinstance(made, dict)
    return made


async def ready(host: AHost, **other: Any) -> dict[str, Any]:
    """A disk whose copy is done."""
    made = await prepare(host, **other)
    info = await host.ended(made["job_id"])
    assert info["status"] == "done", info
    made = await prepare(host, **other)
    assert made["state"] == "ready"
    return made


async def test_a_disk_is_filled_by_a_job_like_any_other(host: AHost, group: StandIn) -> None:
    made = await prepare(host)
    path = str(group.device(VOL))
    assert (made["state"], made["path"], made["reused"]) == ("filling", path, False)
    job_id = made["job_id"]
    info = await host.ended(job_id)
    assert (info["status"], info["bytes"]) == ("done", 5 * MIB)
    assert info["destination"]["endpoint_type"] == "local"
    assert info["description"] == f"copy {host.disks / 'source'} to {path}"
    # Its lease tells of it, to whoever asks this host.
    lease = info["destination"]["lease"]
    said = await host.call("Lease.status", lease=lease)
    assert said["metadata"]["job_status"] == "SUCCEEDED"
    made = await prepare(host, start=True)
    assert (made["state"], made["job_id"], made["reused"]) == ("ready", job_id, True)
    assert group.device(VOL).read_bytes()[: 5 * MIB] == (host.disks / "source").read_bytes()
    assert "STARTED" in group.volumes()[VOL].tags


async def test_a_domain_is_not_left_and_an_image_not_deleted_while_a_local_disk_is_a_copy(
    host: AHost, group: StandIn
) -> None:
    await host.domain()
    member = {"storagedomainID": SD}
    await ready(host)  # of an image that is not in this domain
    await host.call("StorageDomain.deactivate", **member)
    await host.done("Volume.create", **member, imageID=IMG, volumeID=VOL, size=MIB, volFormat="RAW")
    with pytest.raises(UnsupportedOperation, match="local copy of one of its disks exists"):
        await host.call("StorageDomain.deactivate", **member)
    refused = await host.task("Image.delete", **member, imageID=IMG)
    assert refused["code"] == UnsupportedOperation.code
    assert "a local copy of it exists" in refused["message"]
    other = str(uuid.uuid4())
    made = {"imageID": other, "volumeID": str(uuid.uuid4()), "size": MIB, "volFormat": "RAW"}
    await host.done("Volume.create", **member, **made)
    await host.done("Image.delete", **member, imageID=other)  # of which there is no copy
    await host.call("LocalDisk.remove", vol_id=VOL)
    await host.done("Image.delete", **member, imageID=IMG)
    await host.call("StorageDomain.deactivate", **member)


async def test_all_who_call_meanwhile_are_told_one_job(host: AHost, group: StandIn) -> None:
    host.host.agent.queue.paused = True
    made: list[dict[str, Any]] = []

    async def call() -> None:
        made.append(await prepare(host))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(call)
    assert len({one["job_id"] for one in made}) == 1
    assert {one["state"] for one in made} == {"filling"}
    await host.call("Host.resume")
    assert (await host.ended(made[0]["job_id"]))["status"] == "done"
    assert sum(words[0] == "create" for words in group.calls()) == 1


async def test_a_job_that_was_aborted_is_followed_by_another(host: AHost, group: StandIn) -> None:
    made = await prepare(host, limit=MIB)
    await host.call("Job.abort", job_id=made["job_id"])
    assert (await host.ended(made["job_id"]))["status"] == "aborted"
    assert "UPDATING" in group.volumes()[VOL].tags
    again = await ready(host)
    assert again["job_id"] != made["job_id"]


async def test_a_volume_is_copied_with_its_generation(host: AHost, group: StandIn) -> None:
    await host.domain()
    await host.volume()
    await ready(host, source=div())
    assert "GEN_0" in group.volumes()[VOL].tags
    change = {"sd_id": SD, "img_id": IMG, "vol_id": VOL}
    job_id = str(uuid.uuid4())
    attributes = {"generation": 5}
    await host.call("SDM.update_volume", job_id=job_id, vol_info=change, vol_attr=attributes)
    assert (await host.ended(job_id))["status"] == "done"
    assert (await prepare(host, source=div()))["state"] == "filling"


@pytest.fixture
async def sanlock_only(tmp_path: Path, group: StandIn) -> AsyncIterator[AHost]:
    """An agent that leaves leases to sanlock, on a host where no daemon runs."""
    usual = config(tmp_path)
    storage = msgspec.structs.replace(usual.storage, store="sanlock")
    wanted = msgspec.structs.replace(usual, localdisk=settings(group), storage=storage)
    async with a_host(tmp_path, wanted) as made:
        (made.disks / "source").write_bytes(os.urandom(MIB))
        yield made


async def test_leases_of_local_disks_are_told_and_fenced_without_sanlock(
    sanlock_only: AHost,
) -> None:
    """They lie in the domain of this host alone, whoever keeps the leases of others."""
    host = sanlock_only
    made = await prepare(host)
    info = await host.ended(made["job_id"])
    assert info["status"] == "done", info
    of_disk = info["destination"]["lease"]
    said = await host.call("Lease.status", lease=of_disk)
    assert said["metadata"]["job_status"] == "SUCCEEDED"
    assert (await host.call("Lease.info", lease=of_disk))["lease_id"] == made["job_id"]
    other = {**of_disk, "lease_id": JOB}
    await host.done("Lease.create", lease=other, metadata=metadata(JOB))
    await host.call("Lease.fence", lease=other, metadata=metadata(JOB))
    assert (await host.call("Lease.status", lease=other))["metadata"]["job_status"] == "FENCED"
    await host.done("Lease.delete", lease=other)


async def test_a_copy_may_have_its_lease_in_the_domain_of_this_host(sanlock_only: AHost) -> None:
    host = sanlock_only
    await host.ended((await prepare(host))["job_id"])
    [sd_id] = host.host.domains.folders
    lease = {"sd_id": sd_id, "lease_id": JOB}
    await host.done("Lease.create", lease=lease, metadata=metadata(JOB))
    target = host.disks / "target"
    target.write_bytes(bytes(MIB))
    destination = {**external(target), "lease": lease, "generation": 0}
    source = external(host.disks / "source")
    await host.call("SDM.copy_data", job_id=JOB, source=source, destination=destination)
    assert (await host.ended(JOB))["status"] == "done"


async def test_nobody_joins_the_domain_of_this_host(host: AHost) -> None:
    """Sanlock would keep its leases then, and no local disk could be prepared any more."""
    await ready(host)
    [sd_id] = host.host.domains.folders
    with pytest.raises(UnsupportedOperation, match="this host alone"):
        await host.call("StorageDomain.activate", storagedomainID=sd_id, host_id=1)
    await host.call("StorageDomain.activate", storagedomainID=sd_id)  # it is known: nothing to do
    await host.call("LocalDisk.remove", vol_id=VOL)
    await ready(host)


async def test_the_lease_is_kept_where_the_caller_wants_it(host: AHost) -> None:
    await host.domain()
    made = await ready(host, sd_id=SD)
    said = await host.call("Lease.status", lease={"sd_id": SD, "lease_id": made["job_id"]})
    assert said["metadata"]["job_status"] == "SUCCEEDED"
    with pytest.raises(StorageDomainDoesNotExist):
        await prepare(host, vol_id=str(uuid.uuid4()), sd_id=str(uuid.uuid4()))


@pytest.mark.parametrize(
    "other",
    [
        {"vol_id": "../x"},
        {"backend": "zfs"},
        {"backend": None},
        {"source": {"endpoint_type": "external", "url": "/etc/passwd", "format": "raw"}},
        {"source": {"endpoint_type": "external", "url": "rbd:", "format": "raw"}},
        {"source": {"endpoint_type": "local"}},
        {"limit": 0},
        {"start": "yes"},
    ],
)
async def test_a_bad_call_makes_nothing(host: AHost, group: StandIn, other: dict[str, Any]) -> None:
    with pytest.raises(BadParameter):
        await prepare(host, **other)
    assert group.volumes() == {}
    assert await host.call("Host.getJobs") == {}


async def test_the_disks_of_vms_may_be_copied_and_nothing_else(
    host: AHost, group: StandIn, tmp_path: Path
) -> None:
    """A source may lie where storage domains are, though a copy verb may not name it."""
    host.mount.mkdir()
    source = host.mount / "image"
    source.write_bytes(b"x" * MIB)
    await ready(host, source=external(source))
    with pytest.raises(BadParameter):
        await host.call(
            "SDM.copy_data", job_id=JOB, source=external(source), destination=external(source, JOB)
        )


async def test_a_client_cannot_copy_to_a_disk_that_is_not_its_jobs(
    host: AHost, group: StandIn
) -> None:
    await ready(host)
    await host.domain()
    await host.lease(JOB)
    target = {
        "endpoint_type": "local",
        "backend": "lvmthin",
        "vol_id": VOL,
        "lease": {"sd_id": SD, "lease_id": JOB},
        "generation": 0,
    }
    source = external(host.disks / "source")
    await host.call("SDM.copy_data", job_id=JOB, source=source, destination=target)
    info = await host.ended(JOB)
    assert (info["status"], info["error"]["kind"]) == ("failed", "LocalDiskChanged")


async def test_disks_are_listed_and_removed(host: AHost, group: StandIn) -> None:
    await ready(host)
    [row] = await host.call("LocalDisk.list")
    assert (row["vol_id"], row["state"], row["job_status"]) == (VOL, "ready", None)
    host.role = "monitor"
    assert len(await host.call("LocalDisk.list")) == 1
    host.role = "engine"
    assert await host.call("LocalDisk.remove", vm_id=OTHER_VM) == []
    assert await host.call("LocalDisk.remove", vm_id=VM.upper()) == [VOL]
    assert await host.call("LocalDisk.list") == []
    with pytest.raises(BadParameter):
        await host.call("LocalDisk.remove")


async def test_a_disk_that_is_filled_is_removed_when_its_copy_may_be_aborted(
    host: AHost, group: StandIn
) -> None:
    made = await prepare(host, limit=MIB)
    with pytest.raises(LocalDiskInUse) as caught:
        await host.call("LocalDisk.remove", vm_id=VM)
    assert caught.value.job_id == made["job_id"]
    assert await host.call("LocalDisk.remove", vm_id=VM, abort=True) == [VOL]
    assert (await host.ended(made["job_id"]))["status"] == "aborted"
    assert group.volumes() == {}


async def test_a_copy_that_was_aborted_has_ended(host: AHost) -> None:
    """Who removes its disk next does not meet it."""
    job_id = (await prepare(host, limit=MIB))["job_id"]
    with trio.fail_after(WAIT):
        while not (await host.call("Job.info", job_id=job_id)).get("bytes"):  # noqa: ASYNC110
            await trio.sleep(LOOK)
    jobs = in_agent(host.host).jobs
    await jobs.abort(job_id)
    assert not await jobs.alive(job_id)


async def test_a_queued_copy_is_aborted_too(host: AHost, group: StandIn) -> None:
    host.host.agent.queue.paused = True
    await prepare(host)
    assert await host.call("LocalDisk.gc") == []  # it waits, it is not dead
    assert await host.call("LocalDisk.remove", vol_id=VOL, abort=True) == [VOL]
    assert group.volumes() == {}


async def test_what_nothing_needs_is_collected(host: AHost, group: StandIn) -> None:
    await ready(host)
    assert await host.call("LocalDisk.gc") == []
    assert await host.call("LocalDisk.gc", vms=[VM]) == []
    [told] = await host.call("LocalDisk.gc", vms=[OTHER_VM], dry_run=True)
    assert (told["vol_id"], told["removed"]) == (VOL, False)
    [told] = await host.call("LocalDisk.gc", vms=[OTHER_VM])
    assert (told["vol_id"], told["removed"]) == (VOL, True)
    assert group.volumes() == {}


async def test_what_is_not_ours_is_refused(host: AHost, group: StandIn) -> None:
    await ready(host)
    with pytest.raises(LocalDiskRefused):
        await prepare(host, img_id=str(uuid.uuid4()))


async def test_capabilities_tell_the_backends(host: AHost, group: StandIn) -> None:
    told = (await host.call("Host.getCapabilities"))["local_disk"]
    assert told == {"backends": ["lvm", "lvmthin"], "volume_group": "ovirt-local"}
    with group.content() as content:
        content.pool_size = None
    assert (await host.call("Host.getCapabilities"))["local_disk"]["backends"] == ["lvm"]
    group.fail("group")
    assert (await host.call("Host.getCapabilities"))["local_disk"]["backends"] is None
    with group.content() as content:
        content.fail.clear()
        content.present = False
    assert (await host.call("Host.getCapabilities"))["local_disk"]["backends"] == []
    with pytest.raises(VolumeGroupMissing):
        await host.call("LocalDisk.list")


async def test_an_agent_without_rights_has_no_local_disks_unless_there_is_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LVM tells it nothing. An engine that took that for "perhaps" would remove no disk at all."""
    monkeypatch.setattr("host.local_disk_rights.os.geteuid", lambda: 4711)
    own = LocalDisk(dev=str(tmp_path / "dev"))
    async with a_host(tmp_path, msgspec.structs.replace(config(tmp_path), localdisk=own)) as host:
        assert (await host.call("Host.getCapabilities"))["local_disk"]["backends"] == []
        (tmp_path / "dev" / own.volume_group).mkdir(parents=True)
        assert (await host.call("Host.getCapabilities"))["local_disk"]["backends"] is None


async def died(host: AHost) -> None:
    """A disk whose copy died before the agent came."""
    made = await prepare(host, limit=MIB)
    await host.call("Job.abort", job_id=made["job_id"])
    await host.ended(made["job_id"])


@pytest.mark.parametrize(("wanted", "kept"), [("log", True), ("off", True), ("remove", False)])
async def test_what_the_agent_does_at_its_start(
    tmp_path: Path, group: StandIn, wanted: str, kept: bool
) -> None:
    chosen = msgspec.structs.replace(config(tmp_path), localdisk=settings(group, gc=wanted))
    async with a_host(tmp_path, chosen) as host:
        (host.disks / "source").write_bytes(os.urandom(4 * MIB))
        await died(host)
        calls = len(group.calls())
        await look_after_start(host.host)
        assert (len(group.calls()) == calls) is (wanted == "off")
    assert (VOL in group.volumes()) is kept


async def left_behind(host: AHost) -> None:
    """Ready disks of two VMs."""
    (host.disks / "source").write_bytes(os.urandom(MIB))
    await ready(host)
    await ready(host, vm_id=OTHER_VM, vol_id=OTHER_VOL)


def listing(tmp_path: Path, *lines: str, status: int = 0) -> tuple[str, ...]:
    """A command that prints these lines."""
    script = tmp_path / "vms"
    script.write_text(
        "\n".join(["#!/bin/sh", *(f"echo {line}" for line in lines), f"exit {status}"])
    )
    script.chmod(0o755)
    return (str(script),)


@pytest.mark.parametrize(("wanted", "kept"), [("log", True), ("remove", False)])
async def test_the_disks_of_vms_that_do_not_exist_are_found_at_the_start(
    tmp_path: Path, group: StandIn, wanted: str, kept: bool
) -> None:
    own = settings(group, gc=wanted, vms=listing(tmp_path, OTHER_VM.upper(), ""))
    async with a_host(tmp_path, msgspec.structs.replace(config(tmp_path), localdisk=own)) as host:
        await left_behind(host)
        with structlog.testing.capture_logs() as told:
            await look_after_start(host.host)
    [found] = [one for one in told if one["event"] == "local disk is not needed"]
    assert (found["vol_id"], found["vm_id"], found["removed"]) == (VOL, VM, not kept)
    assert (VOL in group.volumes()) is kept
    assert OTHER_VOL in group.volumes()


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("lines", "status", "error"),
    [
        ((OTHER_VM,), 1, "failed with status 1"),
        ((), 0, "names no VM"),
        (("web1",), 0, "no id of a VM"),
        (None, 0, "not installed"),
    ],
)
async def test_vms_that_cannot_be_listed_are_all_taken_to_exist(
    tmp_path: Path, group: StandIn, lines: tuple[str, ...] | None, status: int, error: str
) -> None:
    vms = ("/no/virsh",) if lines is None else listing(tmp_path, *lines, status=status)
    own = settings(group, gc="remove", vms=vms)
    async with a_host(tmp_path, msgspec.structs.replace(config(tmp_path), localdisk=own)) as host:
        await left_behind(host)
        with structlog.testing.capture_logs() as told:
            await look_after_start(host.host)
        with pytest.raises(Error, match=error):  # who asks for it is told
            await host.call("LocalDisk.gc")
    [warning] = [one for one in told if one["event"].startswith("VMs not known")]
    assert error in warning["error"]
    assert set(group.volumes()) == {VOL, OTHER_VOL}


async def test_the_vms_that_exist_are_asked_for_when_the_caller_does_not_name_them(
    tmp_path: Path, group: StandIn
) -> None:
    own = settings(group, vms=listing(tmp_path, OTHER_VM))
    async with a_host(tmp_path, msgspec.structs.replace(config(tmp_path), localdisk=own)) as host:
        await left_behind(host)
        [named] = await host.call("LocalDisk.gc", dry_run=True, vms=[VM])
        assert named["vol_id"] == OTHER_VOL
        with pytest.raises(BadParameter):
            await host.call("LocalDisk.gc", vms=[])
        [found] = await host.call("LocalDisk.gc")
        assert (found["vol_id"], found["removed"]) == (VOL, True)


async def test_a_host_without_lvm_starts_all_the_same(host: AHost, group: StandIn) -> None:
    with group.content() as content:
        content.present = False
    await look_after_start(host.host)
    group.fail("volumes")
    with group.content() as content:
        content.present = True
    await look_after_start(host.host)


async def test_an_agent_shares_the_copy_of_a_hook(
    host: AHost, group: StandIn, tmp_path: Path
) -> None:
    """A hook began it while there was no agent, with the same configuration."""
    localdisk = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    (host.disks / "source").write_bytes(os.urandom(12 * MIB))
    hook = DiskHost(tmp_path, localdisk).set_up((host.disks / "source").read_bytes())
    start = hook.began(limit=2 * MIB)
    await trio.to_thread.run_sync(start.wait_for_copy)
    made = await prepare(host)
    assert made["state"] == "filling"
    told = await trio.to_thread.run_sync(start.ended)
    assert told["job_id"] == made["job_id"]
    assert (await prepare(host))["state"] == "ready"
    assert sum(words[0] == "create" for words in group.calls()) == 1


async def test_a_hook_takes_a_copy_in_the_queue_of_an_agent_for_no_dead_one(
    host: AHost, group: StandIn, tmp_path: Path
) -> None:
    """It has no process yet, and its lease is free."""
    localdisk = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    hook = DiskHost(tmp_path, localdisk).set_up(os.urandom(MIB))
    host.host.agent.queue.paused = True
    made = await prepare(host)
    here = await hook.here()
    assert await local_disks.gc(here) == []
    found = await local_disks.prepare(here, hook.request())
    assert (found.state, found.job_id) == ("filling", made["job_id"])
    await host.call("Host.resume")
    assert (await host.ended(made["job_id"]))["status"] == "done"


async def test_an_agent_ends_the_copy_of_a_hook_whose_disk_is_removed(
    host: AHost, group: StandIn, tmp_path: Path
) -> None:
    """The agent has no such job."""
    localdisk = {"helper": list(group.helper), "dev": str(tmp_path / "dev"), "keep": 0}
    hook = DiskHost(tmp_path, localdisk).set_up(os.urandom(32 * MIB))
    start = hook.began(limit=MIB)
    await trio.to_thread.run_sync(start.wait_for_copy)
    with pytest.raises(LocalDiskInUse):
        await host.call("LocalDisk.remove", vm_id=VM)
    assert await host.call("LocalDisk.remove", vm_id=VM, abort=True) == [VOL]
    told = await trio.to_thread.run_sync(start.failed)
    assert told["kind"] == "ActionStopped"
    assert group.volumes() == {}
