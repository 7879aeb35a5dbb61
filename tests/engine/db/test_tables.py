"""Each noun: its machine, its guards, and what it is removed with."""

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import Connection

from engine.db import (
    attachments,
    deliveries,
    disks,
    domains,
    host_ids,
    hosts,
    jobs,
    leases,
    snapshots,
    volumes,
    webhooks,
)
from engine.db.attachments import Attachment
from engine.db.database import Database
from engine.db.jobs import Job
from engine.db.leases import Lease
from engine.db.snapshots import Snapshot
from engine.db.webhooks import Webhook
from protocol.errors import (
    DiskLocked,
    NameTaken,
    NoRoom,
    NoSuchObject,
    StillUsed,
    WrongState,
)
from tests.engine.db.things import (
    added_command,
    added_disk,
    added_domain,
    added_host,
    host,
    new_id,
    volume,
)


def added_volume(c: Connection) -> str:
    volumes.add(c, one := volume(added_disk(c), id=new_id()))
    return one.id


def added_snapshot(c: Connection, **fields: Any) -> str:
    disk = added_disk(c)
    row = Snapshot(
        **{
            "id": new_id(),
            "disk": disk.id,
            "volume": str(disk.volume),
            "adapter_id": None,
            "description": "",
            "state": "creating",
            "created": 1.0,
            "preview_of": None,
            "size": disk.size,
            **fields,
        }
    )
    snapshots.add(c, row)
    return row.id


def added_lease(c: Connection) -> str:
    leases.begin(c, row := Lease(new_id(), added_domain(c).id, added_command(c).id))
    return row.id


def added_job(c: Connection, **fields: Any) -> str:
    given = {"id": new_id(), "command": added_command(c).id, "host": "x", **fields}
    jobs.add(c, row := Job(**given))
    return row.id


def added_delivery(c: Connection) -> int:
    webhooks.add(c, hook := Webhook(new_id(), "https://x", ()))
    return deliveries.add(c, hook.id, {"kind": "x"}, at=1.0)


MACHINES: dict[str, tuple[ModuleType, Callable[[Connection], Any]]] = {
    "volumes": (volumes, added_volume),
    "snapshots": (snapshots, added_snapshot),
    "leases": (leases, added_lease),
    "jobs": (jobs, added_job),
    "deliveries": (deliveries, added_delivery),
    "domains": (domains, lambda c: added_domain(c).id),
}


@pytest.mark.parametrize("name", MACHINES)
async def test_states_change_as_the_table_says_and_not_otherwise(db: Database, name: str) -> None:
    module, add = MACHINES[name]
    machine: Mapping[str, tuple[str, ...]] = module.MOVES
    noun = module._NOUN
    assert {state for one in machine.values() for state in one} <= set(machine)

    def moves(c: Connection, id: Any, state: str) -> bool:
        try:
            noun.move(c, id, state)
        except WrongState:
            return False
        return True

    def work(c: Connection) -> None:
        for before in machine:
            for after in machine:
                id = add(c)
                c.execute(noun.table.update().where(noun.table.c.id == id).values(state=before))
                allowed = before in machine[after] or before == after
                assert moves(c, id, after) is allowed, (before, after)
                assert noun.get(c, module_row(module), id).state == (after if allowed else before)

    await db.write(work)


def module_row(module: ModuleType) -> type[Any]:
    names = {"volumes": "Volume", "snapshots": "Snapshot", "leases": "Lease", "jobs": "Job"}
    names |= {"deliveries": "Delivery", "domains": "Domain"}
    row: type[Any] = getattr(module, names[module.__name__.rpartition(".")[2]])
    return row


@pytest.mark.parametrize("name", ["volumes", "snapshots", "leases"])
async def test_what_is_kept_goes_back_to_what_it_was(db: Database, name: str) -> None:
    module, add = MACHINES[name]

    def work(c: Connection) -> None:
        id = add(c)
        assert module.keep(c, id)
        assert module.keep(c, id)
        assert module.get(c, id).state == "kept"
        assert module.free(c, id)
        assert module.get(c, id).state == "creating"
        assert not module.free(c, id)
        assert not module.keep(c, "nothing")
        assert not module.free(c, "nothing")

    await db.write(work)


MISSING: list[Callable[[Connection], object]] = [
    lambda c: disks.get(c, "x"),
    lambda c: disks.lock(c, "x", "y"),
    lambda c: disks.unlock(c, "x", "y"),
    lambda c: disks.remove(c, "x"),
    lambda c: disks.resize(c, "x", 1),
    lambda c: disks.change(c, "x", name="y"),
    lambda c: volumes.get(c, "x"),
    lambda c: volumes.move(c, "x", "ok"),
    lambda c: volumes.rename(c, "x", "y"),
    lambda c: volumes.remove(c, "x"),
    lambda c: snapshots.with_domain(c, "x"),
    lambda c: snapshots.move(c, "x", "ok"),
    lambda c: hosts.get(c, "x"),
    lambda c: hosts.named(c, "x"),
    lambda c: hosts.set_maintenance(c, "x", True),
    lambda c: hosts.met(c, "x", hardware_id="y", connector=None, at=1.0),
    lambda c: hosts.remove(c, "x"),
    lambda c: domains.named(c, "x"),
    lambda c: domains.secret(c, "x"),
    lambda c: domains.remove(c, "x"),
    lambda c: attachments.get(c, "x", "y"),
    lambda c: attachments.there(c, "x", "y", "z"),
    lambda c: attachments.leave(c, "x", "y"),
    lambda c: attachments.shut_out(c, "x", "y"),
    lambda c: leases.move(c, "x", "gone"),
    lambda c: leases.remove(c, "x"),
    lambda c: jobs.end(c, "x", {"end": "done"}, at=1.0),
    lambda c: webhooks.get(c, "x"),
    lambda c: webhooks.remove(c, "x"),
    lambda c: deliveries.get(c, 7),
    lambda c: deliveries.sent(c, 7),
]


async def test_what_is_not_there_is_told(db: Database) -> None:
    def work(c: Connection) -> None:
        for one in MISSING:
            with pytest.raises(NoSuchObject):
                one(c)

    await db.write(work)


# --- hosts and their ids ------------------------------------------------------------------------


async def test_a_host_is_kept_as_it_was_given_and_met(db: Database) -> None:
    one = await db.write(added_host)
    connector = {"host": "a", "multipath": False, "wwpns": ["x"]}

    def work(c: Connection) -> None:
        hosts.met(c, one.id, hardware_id="hw", connector=connector, at=7.5)
        hosts.set_maintenance(c, one.id, True)
        found = hosts.named(c, one.name)
        assert (found.hardware_id, found.connector, found.seen) == ("hw", connector, 7.5)
        assert found.maintenance
        assert hosts.search(c, maintenance=True) == [found]
        assert hosts.search(c, maintenance=False) == []
        assert hosts.count(c, maintenance=True) == 1

    await db.write(work)


async def test_two_hosts_or_domains_cannot_have_one_name(db: Database) -> None:
    one = await db.write(added_host)
    with pytest.raises(NameTaken, match=one.name):
        await db.write(lambda c: hosts.add(c, host(name=one.name)))
    with pytest.raises(NameTaken):
        await db.write(lambda c: hosts.add(c, host(id=one.id)))
    two = await db.write(added_host)
    with pytest.raises(NameTaken, match=one.name):
        await db.write(lambda c: hosts.change(c, two.id, name=one.name))
    space = await db.write(added_domain)
    with pytest.raises(NameTaken, match=space.name):
        await db.write(lambda c: added_domain(c, name=space.name))


async def test_a_host_that_is_used_is_not_removed(db: Database) -> None:
    def work(c: Connection) -> None:
        one = added_host(c)
        attachments.begin(c, "v", one.id, "cmd")
        with pytest.raises(StillUsed, match="volume v"):
            hosts.remove(c, one.id)
        attachments.remove(c, "v", one.id, "cmd")
        job = added_job(c, host=one.id)
        with pytest.raises(StillUsed, match=rf"host {one.name} \({one.id}\).* job {job}"):
            hosts.remove(c, one.id)
        jobs.end(c, job, {"end": "unresolved"}, at=1.0)
        with pytest.raises(StillUsed):
            hosts.remove(c, one.id)
        jobs.end(c, job, {"end": "failed"}, at=2.0)
        host_ids.allocated(c, added_domain(c).id, one.id)
        hosts.remove(c, one.id)
        assert hosts.all_hosts(c) == []

    await db.write(work)


async def test_a_host_keeps_its_host_id_and_no_other_gets_it(db: Database) -> None:
    def work(c: Connection) -> None:
        space, other = added_domain(c).id, added_domain(c).id
        a, b, d = (added_host(c).id for _ in range(3))
        assert [host_ids.allocated(c, space, one) for one in (a, b, a, b)] == [1, 2, 1, 2]
        assert host_ids.allocated(c, other, b) == 1
        assert host_ids.of_domain(c, space) == {a: 1, b: 2}
        assert host_ids.host_of(c, space, 2) == b
        assert host_ids.host_of(c, space, 3) is None
        host_ids.release(c, space, a)
        assert host_ids.allocated(c, space, d) == 1
        assert host_ids.allocated(c, space, a) == 3

    await db.write(work)


async def test_host_ids_end(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_ids, "LAST", 2)

    def work(c: Connection) -> None:
        space = added_domain(c).id
        for _ in range(2):
            host_ids.allocated(c, space, added_host(c).id)
        with pytest.raises(NoRoom):
            host_ids.allocated(c, space, added_host(c).id)

    await db.write(work)


# --- domains ------------------------------------------------------------------------------------


async def test_a_domain_that_is_used_is_not_removed(db: Database) -> None:
    def work(c: Connection) -> None:
        disk = added_disk(c)
        with pytest.raises(
            StillUsed, match=rf"domain-.* \({disk.domain}\).*disk disk \({disk.id}\)"
        ):
            domains.remove(c, disk.domain)
        disks.lock(c, disk.id, "cmd")
        disks.remove(c, disk.id)
        with pytest.raises(StillUsed, match=f"volume {disk.volume}"):
            domains.remove(c, disk.domain)
        volumes.remove(c, str(disk.volume))
        leases.begin(c, lease := Lease(new_id(), disk.domain, "cmd"))
        with pytest.raises(StillUsed, match=f"lease {lease.id}"):
            domains.remove(c, disk.domain)
        leases.move(c, lease.id, "gone")
        domains.remove(c, disk.domain)
        assert domains.all_domains(c) == []

    await db.write(work)


async def test_the_secret_of_a_domain_can_be_changed(db: Database) -> None:
    def work(c: Connection) -> None:
        one = added_domain(c)
        assert domains.secret(c, one.id) == {}
        domains.set_secret(c, one.id, {"password": "x"})
        assert domains.secret(c, one.id) == {"password": "x"}
        domains.set_secret(c, one.id, {})
        assert domains.secret(c, one.id) == {}

    await db.write(work)


# --- disks and volumes --------------------------------------------------------------------------


async def test_one_command_locks_a_disk(db: Database) -> None:
    def work(c: Connection) -> None:
        disk = added_disk(c)
        disks.lock(c, disk.id, "first")
        disks.lock(c, disk.id, "first")
        with pytest.raises(DiskLocked) as refused:
            disks.lock(c, disk.id, "second")
        assert refused.value.command == "first"
        assert [one.id for one in disks.locked_by(c, "first")] == [disk.id]
        with pytest.raises(DiskLocked):
            disks.unlock(c, disk.id, "second")
        assert disks.get(c, disk.id).state == "locked"
        disks.unlock(c, disk.id, "first", status="illegal")
        disks.unlock(c, disk.id, "first", status="illegal")
        with pytest.raises(WrongState):
            disks.unlock(c, disk.id, "first")
        disks.lock(c, disk.id, "second")
        disks.unlock(c, disk.id, "second")
        assert disks.get(c, disk.id) == disk
        assert disks.locked_by(c, "first") == []

    await db.write(work)


async def test_a_disk_that_is_not_locked_is_not_changed(db: Database) -> None:
    changes: list[Callable[[Connection, str], None]] = [
        disks.remove,
        lambda c, id: disks.resize(c, id, 1),
        lambda c, id: disks.use(c, id, "v", size=1),
        lambda c, id: disks.switch(c, id, domain="x"),
    ]

    def work(c: Connection) -> None:
        disk = added_disk(c)
        for change in changes:
            with pytest.raises(WrongState, match="ok, not locked"):
                change(c, disk.id)
        assert disks.get(c, disk.id) == disk

    await db.write(work)


async def test_a_disk_goes_with_its_snapshots_and_leaves_its_volumes(db: Database) -> None:
    def work(c: Connection) -> None:
        snapshot = snapshots.get(c, added_snapshot(c))
        disks.lock(c, snapshot.disk, "cmd")
        disks.remove(c, snapshot.disk)
        assert disks.find(c, snapshot.disk) is None
        assert snapshots.find(c, snapshot.id) is None
        assert volumes.get(c, snapshot.volume).disk is None

    await db.write(work)


async def test_what_names_a_volume_follows_its_new_name(db: Database) -> None:
    def work(c: Connection) -> None:
        snapshot = snapshots.get(c, added_snapshot(c, state="ok"))
        snapshots.preview(c, snapshot.id, snapshot.volume)
        volumes.rename(c, snapshot.volume, "new")
        assert disks.get(c, snapshot.disk).volume == "new"
        found = snapshots.get(c, snapshot.id)
        assert (found.volume, found.preview_of, found.state) == ("new", "new", "in_preview")
        assert [one.id for one in volumes.of_disk(c, snapshot.disk)] == ["new"]
        snapshots.preview(c, snapshot.id, None)
        assert snapshots.get(c, snapshot.id).preview_of is None
        assert snapshots.with_domain(c, snapshot.id)[1] == volumes.get(c, "new").domain

    await db.write(work)


async def test_a_volume_cannot_get_the_name_of_another(db: Database) -> None:
    one, two = await db.write(added_disk), await db.write(added_disk)
    with pytest.raises(NameTaken):
        await db.write(lambda c: volumes.rename(c, str(one.volume), str(two.volume)))


async def test_the_space_that_disks_use_is_counted_by_domain(db: Database) -> None:
    def work(c: Connection) -> None:
        space = added_domain(c).id
        for size in (1 << 62, 1 << 30, 5):
            added_disk(c, space, size=size)
        other = added_disk(c, size=7)
        assert disks.used(c) == {space: (1 << 62) + (1 << 30) + 5, other.domain: 7}

    await db.write(work)


# --- attachments, leases, jobs ------------------------------------------------------------------


async def test_an_attachment_goes_its_way(db: Database) -> None:
    def work(c: Connection) -> None:
        a, b = added_host(c).id, added_host(c).id
        attachments.begin(c, "v", a, "cmd")
        attachments.begin(c, "v", a, "cmd")
        with pytest.raises(StillUsed, match="cmd"):
            attachments.begin(c, "v", a, "other")
        attachments.begin(c, "v", b, "other")
        attachments.there(c, "v", a, "/dev/x")
        attachments.there(c, "v", a, "/dev/x")
        assert attachments.get(c, "v", a) == Attachment("v", a, "attached", "cmd", "/dev/x")
        assert {one.host for one in attachments.of_volume(c, "v")} == {a, b}
        assert [one.volume for one in attachments.of_host(c, a)] == ["v"]
        found = attachments.find(c, "v", "other")
        assert found is not None
        assert found.host == b
        assert attachments.find(c, "v", "third") is None
        attachments.leave(c, "v", a)
        with pytest.raises(WrongState):
            attachments.there(c, "v", a, "/dev/x")
        assert not attachments.keep(c, "v", a, "other")
        assert attachments.keep(c, "v", a, "cmd")
        attachments.leave(c, "v", a)
        attachments.remove(c, "v", a, "other")
        attachments.get(c, "v", a)
        attachments.remove(c, "v", a, "cmd")
        attachments.remove(c, "v", a, "cmd")
        assert [one.host for one in attachments.all_attachments(c)] == [b]

    await db.write(work)


async def test_a_host_that_was_shut_out_can_be_attached_again(db: Database) -> None:
    def work(c: Connection) -> None:
        a = added_host(c).id
        attachments.begin(c, "v", a, "first")
        attachments.shut_out(c, "v", a)
        assert attachments.get(c, "v", a).shut_out
        attachments.begin(c, "v", a, "second")
        assert attachments.get(c, "v", a) == Attachment("v", a, "attaching", "second")

    await db.write(work)


async def test_a_connection_is_kept_sealed(db: Database) -> None:
    info = {"driver_volume_type": "iscsi", "data": {"auth_password": "open-sesame-4711"}}

    def work(c: Connection) -> str:
        a = added_host(c).id
        attachments.begin(c, "v", a, "cmd")
        assert attachments.connection(c, "v", a) is None
        attachments.set_connection(c, "v", a, info)
        found = c.exec_driver_sql("SELECT connection FROM attachments").scalar_one()
        assert b"sesame" not in bytes(found)
        return a

    a = await db.write(work)
    assert await db.read(lambda c: attachments.connection(c, "v", a)) == info


async def test_a_lease_is_begun_once(db: Database) -> None:
    def work(c: Connection) -> None:
        row = leases.get(c, added_lease(c))
        leases.begin(c, row)
        leases.move(c, row.id, "there")
        leases.begin(c, row)
        assert leases.get(c, row.id).state == "there"
        with pytest.raises(NameTaken):
            leases.begin(c, Lease(row.id, row.domain, "other"))
        assert leases.search(c, domain=row.domain, command=row.command) == leases.all_leases(c)
        leases.move(c, row.id, "gone")
        assert leases.all_leases(c) == []
        assert len(leases.search(c, state="gone")) == 1

    await db.write(work)


async def test_a_job_ends_once(db: Database) -> None:
    done, failed = {"end": "done", "story": []}, {"end": "failed"}

    def work(c: Connection) -> None:
        id = added_job(c, host="a")
        assert jobs.running(c) == {"a": 1}
        jobs.report(c, id, 40.5, 1 << 40, 1.5)
        assert jobs.get(c, id).bytes == 1 << 40
        jobs.end(c, id, done, at=9.0)
        jobs.end(c, id, done, at=9.0)
        jobs.report(c, id, 50.0, 1, 1.0)
        jobs.withdraw(c, id, at=10.0)
        found = jobs.get(c, id)
        assert (found.state, found.progress, found.verdict) == ("done", 100.0, done)
        assert found.ended == 9.0
        with pytest.raises(WrongState):
            jobs.end(c, id, failed, at=11.0)
        assert jobs.running(c) == {}
        other = added_job(c)
        jobs.withdraw(c, other, at=3.0)
        assert jobs.get(c, other).state == "failed"
        jobs.withdraw(c, "nothing", at=3.0)

    await db.write(work)
