"""The leases of local disks in a domain that others use too: this host deletes its own, no other.

A domain has room for so many; without that no VM would start any more when it is full.
"""

import os
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import trio

from endpoints.domain import create_domain, open_store
from host.domains import Domains
from host.local_disk_here import in_agent
from host.local_disk_notes import FOLDER, Notes
from host.local_disks import Here, Prepared, gc, prepare, prepared, remove
from jobs.progress import Progress
from leases import verbs
from leases.hold import hold
from protocol.messages import JobMetadata
from protocol.record import JobStatus
from storage.domain import Domain
from storage.local_disks import LocalDisks
from tests.host.verbs.a_host import AHost, a_host, config, external
from tests.local_disk_host import IMG, MIB, OTHER_VOL, VM, VOL, DiskHost
from tests.local_disk_start import HARDWARE_ID
from tests.local_disks import POOL, StandIn

pytestmark = pytest.mark.tools("qemu-img")
ROOM = 3  # leases of the domain


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
async def shared(tmp_path: Path) -> Domain:
    """A storage domain that is not of this host alone, and that its configuration names."""
    made = await create_domain(str(tmp_path / "mnt"), leases=ROOM)
    known = await Domains.opened(tmp_path / "state", ())
    await known.remember(made)
    return made


@pytest.fixture
def host(tmp_path: Path, group: StandIn, shared: Domain) -> DiskHost:
    stand_in = {"helper": list(group.helper), "dev": str(tmp_path / "dev")}
    settings = {**stand_in, "keep": 0, "domain": shared.id}
    return DiskHost(tmp_path, settings).set_up(os.urandom(MIB))


@pytest.fixture
async def here(host: DiskHost, group: StandIn, monkeypatch: pytest.MonkeyPatch) -> Here:
    """With a stand-in for LVM that is quick, for the copies of this process too."""
    disks = LocalDisks(group.lvm, POOL)
    monkeypatch.setattr("host.copying.local_disks", lambda told: disks)
    return replace(await host.here(), disks=disks)


def ignored(progress: Progress) -> None:
    """Nobody wants to see it."""


async def made(here: Here, host: DiskHost, **other: object) -> Prepared:
    return await prepared(here, host.request(**other), ignored)


async def begun(here: Here, host: DiskHost, **other: object) -> str:
    """A copy that was begun and will never be done."""
    found = await prepare(here, host.request(**other))
    here.jobs.forget()  # type: ignore[attr-defined]
    return str(found.job_id)


async def leases(domain: Domain) -> set[str]:
    return {one.lease_id for one in await verbs.leases(await open_store(domain))}


async def of_another(domain: Domain) -> str:
    """The lease of another job of this host, such as an engine makes for a copy."""
    job_id = uuid.uuid4()
    store = await open_store(domain, change_index=True)
    pending = JobMetadata(job_id, 0, JobStatus.PENDING)
    await verbs.create(store, str(job_id), pending, now=1, hardware_id=HARDWARE_ID)
    return str(job_id)


async def test_as_many_starts_as_wanted_need_one_lease_of_the_configured_domain(
    here: Here, host: DiskHost, shared: Domain
) -> None:
    theirs = await of_another(shared)
    for _ in range(ROOM):
        await made(here, host, start=True)
        assert await leases(shared) == {theirs}
        assert await remove(here, vm_id=VM) == [VOL]
    assert await here.leases.noted() == []


async def test_copies_that_failed_need_no_lease_once_their_disk_is_removed(
    here: Here, host: DiskHost, shared: Domain
) -> None:
    for _ in range(ROOM):
        job_id = await begun(here, host)
        assert await leases(shared) == {job_id}
        assert await remove(here, vol_id=VOL) == [VOL]
        job_id = await begun(here, host)
        [collected] = await gc(here)
        assert collected.removed
        assert await leases(shared) == set()
    assert await here.leases.noted() == []


@pytest.fixture
async def agent(tmp_path: Path, group: StandIn, shared: Domain) -> AsyncIterator[AHost]:
    usual = config(tmp_path)
    stand_in = {"helper": group.helper, "dev": str(tmp_path / "dev"), "domain": shared.id}
    own = msgspec.structs.replace(usual.localdisk, **stand_in)
    async with a_host(tmp_path, msgspec.structs.replace(usual, localdisk=own)) as found:
        (found.disks / "source").write_bytes(os.urandom(MIB))
        yield found


async def started(agent: AHost, **other: object) -> str:
    """A disk that its agent has copied, and that is used; the id of the job."""
    wanted = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "vm_id": VM, **other}
    source = external(agent.disks / "source")
    job_id = str((await agent.call("LocalDisk.prepare", source=source, **wanted))["job_id"])
    assert (await agent.ended(job_id))["status"] == "done"
    found = await agent.call("LocalDisk.prepare", source=source, **wanted)
    assert found["state"] == "ready"
    return job_id


async def test_an_agent_leaves_no_leases_in_the_configured_domain(
    agent: AHost, shared: Domain
) -> None:
    others = {await of_another(shared) for _ in range(ROOM - 1)}
    for _ in range(2):
        await started(agent)
        assert await agent.call("LocalDisk.remove", vm_id=VM) == [VOL]
    assert await leases(shared) == others
    assert await in_agent(agent.host).leases.noted() == []


async def test_a_lease_where_a_client_of_the_agent_wanted_it_is_for_that_client_to_delete(
    agent: AHost, tmp_path: Path
) -> None:
    theirs = await create_domain(str(tmp_path / "theirs"), leases=2)
    await agent.host.domains.remember(theirs)
    job_id = await started(agent, sd_id=theirs.id)
    assert await agent.call("LocalDisk.remove", vm_id=VM) == [VOL]
    await agent.call("LocalDisk.gc")
    assert await leases(theirs) == {job_id}


async def test_a_command_deletes_the_lease_where_it_wanted_it(
    here: Here, host: DiskHost, tmp_path: Path
) -> None:
    chosen = await create_domain(str(tmp_path / "chosen"), leases=2)
    await here.domains.remember(chosen)
    job_id = await begun(here, host, sd_id=chosen.id)
    assert await leases(chosen) == {job_id}
    other = replace(await host.here(), disks=here.disks)
    await made(other, host, sd_id=chosen.id, vol_id=OTHER_VOL)
    assert await leases(chosen) == {job_id}  # of a copy that died, which somebody may ask about


async def test_a_lease_that_could_not_be_deleted_is_collected(
    here: Here, host: DiskHost, shared: Domain
) -> None:
    await made(here, host, vol_id=OTHER_VOL)
    job_id = await begun(here, host)
    await here.disks.ready(VOL, job_id)
    theirs = await of_another(shared)
    os.rename(shared.xleases, shared.xleases + ".away")
    assert await remove(here, vol_id=VOL) == [VOL]
    assert await here.leases.noted() == [job_id]
    os.rename(shared.xleases + ".away", shared.xleases)
    assert await gc(here, dry_run=True) == []
    assert await leases(shared) == {job_id, theirs}
    assert await gc(here) == []
    assert await leases(shared) == {theirs}
    assert await here.leases.noted() == []


async def test_a_lease_is_not_collected_while_it_is_held_or_a_disk_names_it(
    here: Here, host: DiskHost, shared: Domain, tmp_path: Path
) -> None:
    store = await open_store(shared)
    held_one = await begun(here, host)
    named = await begun(here, host, vol_id=OTHER_VOL)
    await here.disks.ready(OTHER_VOL, named)
    await lost(here)
    async with hold(store, await verbs.info(store, held_one)):
        await gc(here)
        assert await leases(shared) == {held_one, named}
    await gc(here)
    assert await leases(shared) == {named}


async def lost(here: Here) -> None:
    """Somebody has removed a disk by hand."""
    disk = await here.disks.find(VOL)
    assert disk is not None
    await here.disks.remove(disk)


async def test_the_lease_of_a_copy_that_is_about_to_begin_is_not_collected(
    here: Here, host: DiskHost, shared: Domain
) -> None:
    job_id = (await prepare(here, host.request())).job_id
    await lost(here)
    await gc(here)
    assert await leases(shared) == {job_id}
    here.jobs.forget()  # type: ignore[attr-defined]
    await gc(here)
    assert await leases(shared) == set()


async def test_the_note_of_another_host_or_a_damaged_one_is_none(
    here: Here, shared: Domain, tmp_path: Path
) -> None:
    """A system that was copied to another machine has its state folder there, too."""
    theirs, damaged = await of_another(shared), await of_another(shared)
    Notes(tmp_path / "state" / FOLDER, "of another host").write(theirs, shared.id)
    (tmp_path / "state" / FOLDER / damaged).write_bytes(b"{")
    assert await here.leases.noted() == []
    await gc(here)
    assert await leases(shared) == {theirs, damaged}


async def test_a_lease_is_deleted_also_when_another_domain_is_configured_meanwhile(
    here: Here, host: DiskHost, shared: Domain, tmp_path: Path
) -> None:
    job_id = await begun(here, host)
    await here.disks.ready(VOL, job_id)
    settings = {key: value for key, value in host.localdisk.items() if key != "domain"}
    changed = DiskHost(tmp_path, settings).set_up(host.source.read_bytes())
    later = replace(await changed.here(), disks=here.disks)
    assert await remove(later, vol_id=VOL) == [VOL]
    await gc(later)
    assert await leases(shared) == set()


async def test_a_lease_without_a_note_is_deleted_with_its_disk_where_it_is_configured(
    here: Here, host: DiskHost, shared: Domain, tmp_path: Path
) -> None:
    """One of a former version, or of a state folder that was lost."""
    job_id = await begun(here, host)
    (tmp_path / "state" / FOLDER / job_id).unlink()
    assert await gc(here, dry_run=True) != []
    assert await remove(here, vol_id=VOL) == [VOL]
    assert await leases(shared) == set()


async def test_the_note_of_a_start_that_was_killed_before_it_made_a_lease_is_collected(
    here: Here, host: DiskHost, shared: Domain
) -> None:
    await trio.to_thread.run_sync(host.dies, "prepare:noted")
    [job_id] = await here.leases.noted()
    assert (await made(here, host)).job_id != job_id
    assert await gc(here) == []
    assert await here.leases.noted() == []
    assert await leases(shared) == set()


async def test_a_lease_that_is_not_made_leaves_no_note(
    here: Here, host: DiskHost, shared: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*ignored: object, **others: object) -> None:
        raise OSError("no")

    monkeypatch.setattr("host.local_disk_leases.verbs.create", broken)
    with pytest.raises(OSError, match="no"):
        await made(here, host)
    assert await here.leases.noted() == []
    assert await leases(shared) == set()
