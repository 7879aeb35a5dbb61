"""All hosts together: who is there, who is another machine, and how calls of them end."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import trio

from engine.answers import HostState
from engine.db import audit, hosts
from engine.db.database import Database
from engine.db.hosts import Host
from engine.db.secrets import Key
from engine.events import Bus
from engine.fleet import Fleet, FleetEvent, HostChanged, JobEvent, fleet
from engine.host_files import HostFiles
from engine.host_states import LinkState
from engine.lease_poller import ExternalLeasePoller
from engine.links import HostLink, Times
from engine.whole import _Heard as HostsHeard
from protocol.client import HostError, NoAnswer
from protocol.errors import (
    BadOutput,
    BadParameter,
    CannotConnect,
    ConnectionLost,
    DatabaseGone,
    NoHostFits,
    NoSuchObject,
    NotDrained,
    UnknownTask,
    VolumeExists,
)
from protocol.messages import LeaseRef
from protocol.record import Expectation
from tests.engine.stand_in import SILENT, Each, StandIn, capabilities, listening, stand_in, until

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
LEASE = LeaseRef(UUID(SD), "job")
TASK = "99999999-0c59-4c1c-9d31-6a1d0d4ad2ef"
QUICK = Times(grace=0.3, pauses=(0.01, 0.02), refresh=30.0, first=5.0)
SANLOCK = ["embedded", "sanlock"]


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Database]:
    async with Database.opened(f"sqlite:///{folder}/engine.db", key=Key.random()) as database:
        yield database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncGenerator[Database]:
    async with opened(tmp_path) as made:
        yield made


def row(host: StandIn, id: str = "", **other: Any) -> Host:
    name = Path(host.path).name
    return Host(id or f"id-{name}", name, host.url, **other)


async def known(database: Database, *rows: Host) -> None:
    for one in rows:
        await database.write(lambda c, one=one: hosts.add(c, one))  # type: ignore[misc]


async def row_of(database: Database, host: str) -> Host:
    return await database.read(lambda c: hosts.get(c, host))


async def row_when_met(database: Database, host: str) -> Host:
    """As soon as it stands there who it is."""
    with trio.fail_after(20):
        while (found := await row_of(database, host)).hardware_id is None:  # noqa: ASYNC110
            await trio.sleep(0.01)
    return found


@dataclass
class World:
    """A fleet of stand-ins a, b and c, of which each is a machine of its own."""

    fleet: Fleet
    a: StandIn
    b: StandIn
    c: StandIn
    events: list[FleetEvent] = field(default_factory=list)


def joined(host_id: int | None, state: str = "joined") -> dict[str, Any]:
    return {SD: {"host_id": host_id, "state": state}}


@pytest.fixture
async def world(tmp_path: Path, database: Database) -> AsyncGenerator[World]:
    async with AsyncExitStack() as stack:
        made = [await stack.enter_async_context(stand_in(tmp_path, name)) for name in "abc"]
        for number, one in enumerate(made, 1):
            one.answers["Host.getCapabilities"] = capabilities(
                f"uuid-{number}",
                stores=SANLOCK,
                domains=joined(number),
                connector_info={"host": Path(one.path).name},
            )
        await known(database, *map(row, made))
        found = await stack.enter_async_context(fleet(database, times=QUICK))
        a, b, c = made
        world = World(found, a, b, c)
        found.watch(world.events.append)
        yield world


# --- who is there -------------------------------------------------------------------------------


async def test_the_hosts_of_the_database_are_met_before_the_body(world: World) -> None:
    assert [view.name for view in world.fleet.up()] == ["a", "b", "c"]
    assert world.fleet.view("id-b").state is LinkState.UP
    assert world.fleet.state("id-b") is HostState.UP


async def test_hosts_that_do_not_answer_keep_the_engine_waiting_for_a_moment_only(
    tmp_path: Path, database: Database
) -> None:
    async with stand_in(tmp_path, Host_getCapabilities=SILENT) as silent:
        await known(database, row(silent))
        with trio.fail_after(10):
            async with fleet(database, times=Times(first=0.05)) as found:
                assert found.view("id-a").state is LinkState.CONNECTING
                assert found.up() == []
                assert found.state("id-a") is HostState.NOT_UP


async def test_what_a_host_tells_of_itself_is_written_down(
    world: World, database: Database
) -> None:
    found = await row_when_met(database, "id-a")
    assert found.seen
    assert (found.hardware_id, found.connector) == ("uuid-1", {"host": "a"})


async def test_a_row_with_a_bad_address_hides_no_other_host(
    tmp_path: Path, database: Database
) -> None:
    async with stand_in(tmp_path) as good:
        await known(database, Host("bad", "bad", "http://x"), row(good))
        async with fleet(database, times=QUICK) as found:
            assert [view.name for view in found.up()] == ["a"]
            assert "http://x is none of" in found.view("bad").reason


async def test_the_files_for_tls_are_those_that_the_engine_has_now(
    tmp_path: Path, database: Database
) -> None:
    await known(database, Host("bad", "bad", "tls://127.0.0.1:1"))
    async with fleet(database, times=QUICK) as found:
        assert "TLS needs the files" in found.view("bad").reason
    files = HostFiles(ca=f"{tmp_path}/no-ca", certificate="/no/cert", key="/no/key")
    async with fleet(database, times=QUICK, files=files) as found:
        assert f"{tmp_path}/no-ca" in found.view("bad").reason


async def test_an_error_of_the_body_comes_out_as_it_is(database: Database) -> None:
    with pytest.raises(BadParameter):
        async with fleet(database, times=QUICK):
            raise BadParameter("x", "y")


# --- who is another machine ---------------------------------------------------------------------


async def test_another_machine_under_the_same_address_is_refused(
    tmp_path: Path, database: Database
) -> None:
    async with stand_in(tmp_path) as host:
        await known(database, row(host, hardware_id="the-old-one"))
        async with fleet(database, times=QUICK) as found:
            await until(lambda: found.view("id-a").state is LinkState.DOWN)
            reason = found.view("id-a").reason
            assert "another machine" in reason
            assert "the-old-one" in reason
            assert host.answers["Host.getCapabilities"]["uuid"] in reason
            with pytest.raises(CannotConnect, match="another machine"):
                await found.call("id-a", "Lease.delete", {})
            assert host.of("Lease.delete") == []
            assert (await row_of(database, "id-a")).hardware_id == "the-old-one"
            host.answers["Host.getCapabilities"] = capabilities("THE-OLD-ONE")
            await until(lambda: found.view("id-a").up)


async def test_a_host_that_is_exchanged_while_the_engine_runs_is_refused(world: World) -> None:
    world.a.answers["Host.getCapabilities"] = capabilities("uuid-9")
    with pytest.raises(CannotConnect, match="another machine"):
        await world.fleet.refresh("id-a")
    await world.a.drop()
    await until(lambda: world.fleet.view("id-a").state is LinkState.DOWN)
    assert "another machine" in world.fleet.view("id-a").reason
    assert [view.name for view in world.fleet.up()] == ["b", "c"]


async def test_one_machine_is_one_host(tmp_path: Path, database: Database) -> None:
    async with stand_in(tmp_path, "a") as first, stand_in(tmp_path, "b") as second:
        await known(database, row(first))
        async with fleet(database, times=QUICK) as found:
            await known(database, row(second))
            await found.add("id-b")
            await until(lambda: found.view("id-b").state is LinkState.DOWN)
            assert "host a already" in found.view("id-b").reason
            assert "identity.hardware_id" in found.view("id-b").reason  # of a cloned machine
            assert found.view("id-a").up


async def test_who_answers_is_remembered_over_a_restart(tmp_path: Path, database: Database) -> None:
    async with stand_in(tmp_path) as host:
        await known(database, row(host))
        async with fleet(database, times=QUICK):
            await row_when_met(database, "id-a")
        host.answers["Host.getCapabilities"] = capabilities("another")
        async with fleet(database, times=QUICK) as found:
            await until(lambda: found.view("id-a").state is LinkState.DOWN)


async def test_a_database_that_is_gone_keeps_no_host_away(
    tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed: list[int] = []

    async def gone(*args: Any, **options: Any) -> None:
        failed.append(1)
        raise DatabaseGone("for the test")

    async with stand_in(tmp_path) as host:
        await known(database, row(host))
        with monkeypatch.context() as patch:
            patch.setattr(Database, "write", gone)
            async with fleet(database, times=QUICK) as found:
                assert found.view("id-a").up
                await until(lambda: bool(failed))
                patch.undo()
                await found.refresh("id-a")  # and is told now
                await row_when_met(database, "id-a")


# --- who cannot be told apart by storage --------------------------------------------------------

IQN = "iqn.1994-05.com.redhat:64c4"


def one_of(number: int, initiator: str, name: str = "") -> dict[str, Any]:
    connector = {"host": name or f"host-{number}", "initiator": initiator}
    return capabilities(f"uuid-{number}", connector_info=connector)


async def audited(database: Database, host: str) -> list[audit.Entry]:
    """What the audit log tells of a host, the oldest first."""
    found = await database.read(lambda c: audit.search(c, kind="host", object=host))
    return found[::-1]


async def test_a_host_with_the_initiator_of_another_is_not_connected_until_it_has_its_own(
    world: World, database: Database
) -> None:
    """And everybody is told why, and what to do."""
    world.a.answers["Host.getCapabilities"] = one_of(1, IQN)
    await world.fleet.refresh("id-a")
    assert (await world.fleet.connector("id-a")).initiator == IQN
    world.b.answers["Host.getCapabilities"] = one_of(2, IQN.upper())
    await world.fleet.refresh("id-b")
    assert world.fleet.view("id-a").problem == ""
    view = world.fleet.view("id-b")
    assert view.up  # it does what needs no storage array
    assert "host a too" in view.problem
    with pytest.raises(NoHostFits, match=r"initiatorname\.iscsi"):
        await world.fleet.connector("id-b")
    with trio.fail_after(20):
        while not (rows := await audited(database, "id-b")):  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert rows[0].text.startswith("host b (id-b) gets no managed volumes: its iSCSI name")
    assert "/etc/iscsi/initiatorname.iscsi" in rows[0].text
    assert rows[0].severity == "warning"
    await until(
        lambda: any(isinstance(one, HostChanged) and one.row == rows[0].id for one in world.events)
    )
    await world.fleet.refresh("id-b")  # and again: nothing new

    world.b.answers["Host.getCapabilities"] = one_of(2, "iqn.its.own")
    await world.fleet.refresh("id-b")
    assert (await world.fleet.connector("id-b")).initiator == "iqn.its.own"
    assert world.fleet.view("id-b").problem == ""
    with trio.fail_after(20):
        while len(rows := await audited(database, "id-b")) < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)
    assert rows[1].text == "host b (id-b) gets managed volumes again"
    assert await audited(database, "id-a") == []


async def test_a_host_that_changes_its_name_to_that_of_another_has_it_not_after_a_restart_either(
    tmp_path: Path, database: Database
) -> None:
    """Though it was added first: who was known by a name first, keeps it."""
    async with stand_in(tmp_path, "a") as first, stand_in(tmp_path, "b") as second:
        first.answers["Host.getCapabilities"] = one_of(1, "iqn.1")
        second.answers["Host.getCapabilities"] = one_of(2, "iqn.2")
        await known(database, row(first), row(second))
        async with fleet(database, times=QUICK):
            await row_when_met(database, "id-a")
            await row_when_met(database, "id-b")
        first.answers["Host.getCapabilities"] = one_of(1, "iqn.1", name="host-2")
        for _ in range(2):
            async with fleet(database, times=QUICK) as found:
                await until(lambda found=found: len(found.up()) == 2)  # type: ignore[misc]
                assert "that of host b" in found.view("id-a").twin
                assert found.view("id-b").twin == ""
        assert (await row_of(database, "id-a")).connector == {
            "host": "host-1",
            "initiator": "iqn.1",
        }
        async with fleet(database, times=QUICK) as found:
            await found.remove("id-b")
            await database.write(lambda c: hosts.remove(c, "id-b"))
            await found.refresh("id-a")  # nobody else has it now
            assert (await found.connector("id-a")).host == "host-2"


async def test_of_hosts_that_were_written_down_as_twins_none_is_connected(
    tmp_path: Path, database: Database
) -> None:
    """By an engine that did not look: nobody knows whose the volumes are."""
    async with stand_in(tmp_path, "a") as first, stand_in(tmp_path, "b") as second:
        for number, host in enumerate((first, second), 1):
            host.answers["Host.getCapabilities"] = one_of(number, IQN)
        connector = {"host": "x", "initiator": IQN}
        await known(database, row(first, connector=connector), row(second, connector=connector))
        async with fleet(database, times=QUICK) as found:
            await until(lambda: len(found.up()) == 2)
            assert "host b" in found.view("id-a").twin
            assert "host a" in found.view("id-b").twin
            second.answers["Host.getCapabilities"] = one_of(2, "iqn.its.own")
            await found.refresh("id-b")
            await found.refresh("id-a")
            assert [view.problem for view in found.views()] == ["", ""]


async def test_two_hosts_swap_their_names(world: World) -> None:
    first, second = one_of(1, IQN), one_of(2, "iqn.second")
    swapped = (
        capabilities("uuid-1", connector_info=second["connector_info"]),
        capabilities("uuid-2", connector_info=first["connector_info"]),
    )
    for before, after in ((first, second), swapped):
        world.a.answers["Host.getCapabilities"] = before
        await world.fleet.refresh("id-a")
        if before is swapped[0]:
            assert "host b" in world.fleet.view("id-a").twin  # which still has them
        world.b.answers["Host.getCapabilities"] = after
        await world.fleet.refresh("id-b")
        await world.fleet.refresh("id-a")
        assert [view.problem for view in world.fleet.views()] == [""] * 3


async def test_two_hosts_that_swapped_their_names_while_the_engine_was_away_are_let_in(
    tmp_path: Path, database: Database
) -> None:
    one, other = one_of(1, IQN)["connector_info"], one_of(2, "iqn.second")["connector_info"]
    async with stand_in(tmp_path, "a") as first, stand_in(tmp_path, "b") as second:
        await known(database, row(first, connector=other), row(second, connector=one))
        for number, host, told in ((1, first, one), (2, second, other)):
            host.answers["Host.getCapabilities"] = capabilities(
                f"uuid-{number}", connector_info=told
            )
        async with fleet(database, times=QUICK) as found:
            await until(lambda: len(found.up()) == 2)
            for id in ("id-a", "id-b", "id-a"):  # whichever was met first
                await found.refresh(id)
            assert [view.problem for view in found.views()] == ["", ""]


async def test_a_host_that_cannot_tell_its_connector_keeps_its_names(world: World) -> None:
    world.a.answers["Host.getCapabilities"] = one_of(1, IQN)
    await world.fleet.refresh("id-a")
    world.a.answers["Host.getCapabilities"] = capabilities("uuid-1", connector_info={})
    await world.fleet.refresh("id-a")
    world.b.answers["Host.getCapabilities"] = one_of(2, IQN)
    await world.fleet.refresh("id-b")
    assert "host a" in world.fleet.view("id-b").twin


async def test_who_listens_is_told_of_a_twin_and_where_it_stands_in_the_audit_log(
    world: World,
) -> None:
    bus = Bus()
    heard_of = HostsHeard(bus, cast(ExternalLeasePoller, None))
    view = replace(world.fleet.view("id-a"), twin="it has the name of b")
    with bus.subscribed() as heard:
        heard_of(HostChanged(view, 7))
        event = await heard.receive()
    assert (event.kind, event.object, event.id) == ("host.changed", "id-a", 7)
    assert event.data["reason"] == "it gets no managed volumes: it has the name of b"


# --- they come and go ---------------------------------------------------------------------------


async def test_a_host_is_added_at_run_time(tmp_path: Path, database: Database) -> None:
    async with fleet(database, times=QUICK) as found, stand_in(tmp_path) as host:
        assert found.views() == []
        with pytest.raises(NoSuchObject):
            await found.add("id-a")
        await known(database, row(host))
        await found.add("id-a")
        assert await found.call("id-a", "Host.ping2") is True


async def test_a_host_gets_another_address(
    world: World, tmp_path: Path, database: Database
) -> None:
    moved = StandIn(str(tmp_path / "elsewhere"))
    moved.answers["Host.getCapabilities"] = capabilities("uuid-1")
    async with listening(moved):
        await database.write(lambda c: hosts.change(c, "id-a", url=moved.url))
        await world.fleet.add("id-a")
        await world.fleet.call("id-a", "Host.ping2")
        assert (len(moved.of("Host.ping2")), len(world.a.of("Host.ping2"))) == (1, 0)
        await world.fleet.remove("id-a")


async def test_a_host_is_never_lost_whenever_its_change_is_cancelled(world: World) -> None:
    for checkpoints in range(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.fleet.add, "id-a")
            for _ in range(checkpoints):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert world.fleet.view("id-a").name == "a"
    assert await world.fleet.call("id-a", "Host.ping2") is True


async def test_a_host_that_is_removed_while_it_is_asked_ends_its_calls(world: World) -> None:
    world.a.answers["Lease.delete"] = SILENT
    errors: list[type[Exception]] = []

    async def call() -> None:
        try:
            await world.fleet.call("id-a", "Lease.delete", {})
        except Exception as e:
            errors.append(type(e))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await until(lambda: bool(world.a.of("Lease.delete")))
        await world.fleet.remove("id-a")
    assert errors == [ConnectionLost]
    assert world.fleet.state("id-a") is HostState.REMOVED
    assert "id-a" not in world.fleet.candidates(LEASE)
    with pytest.raises(NoSuchObject):
        await world.fleet.call("id-a", "Host.ping2")
    await world.fleet.remove("id-a")  # once more is no error
    assert await world.fleet.call("id-b", "Host.ping2") is True


async def test_a_host_in_maintenance_drains_and_is_asked_as_before(world: World) -> None:
    world.a.answers["Host.drain"] = NotDrained(1, 0.0)
    await world.fleet.maintain("id-a", on=True)
    for _ in range(3):
        await world.fleet.refresh("id-a")
    assert world.a.of("Host.drain") == [{"timeout": 0}]  # once: that jobs run still is no refusal
    view = world.fleet.view("id-a")
    assert (view.state, view.up, view.maintenance) == (LinkState.MAINTENANCE, True, True)
    assert [one.name for one in world.fleet.up()] == ["b", "c"]
    assert world.fleet.state("id-a") is HostState.UP
    assert list(world.fleet.candidates(LEASE)) == ["id-b", "id-c", "id-a"]
    await world.fleet.maintain("id-a", on=False)
    assert world.a.of("Host.resume") == [{}]
    assert world.fleet.view("id-a").state is LinkState.UP


async def test_a_host_that_was_away_is_drained_when_it_is_back(
    tmp_path: Path, database: Database
) -> None:
    host = StandIn(str(tmp_path / "a"))
    await known(database, row(host, maintenance=True))
    async with fleet(database, times=QUICK) as found:
        await found.maintain("id-a", on=True)
        async with listening(host):
            await until(lambda: bool(host.of("Host.drain")))
            await found.maintain("id-a", on=False)
            assert host.of("Host.resume") == [{}]
            await found.remove("id-a")


async def test_a_drain_that_was_refused_is_told_again(tmp_path: Path, database: Database) -> None:
    async with stand_in(tmp_path) as host:
        host.answers["Host.drain"] = Each([BadParameter("x", "y"), True])
        await known(database, row(host, maintenance=True))
        async with fleet(database, times=QUICK) as found:
            await until(lambda: len(host.of("Host.drain")) == 1)
            await found.refresh("id-a")
            await until(lambda: len(host.of("Host.drain")) == 2)


# --- calls --------------------------------------------------------------------------------------


def task_status(**told: Any) -> dict[str, Any]:
    return {"taskID": TASK, "taskState": "finished", **told}


async def test_the_result_of_a_task_is_that_of_its_verb(world: World) -> None:
    world.a.answers["Volume.create"] = TASK
    world.a.answers["Task.getStatus"] = task_status(code=0, message="done", result={"uuid": "v"})
    made = await world.fleet.task("id-a", "Volume.create", {"volumeID": "v"})
    assert made == {"uuid": "v"}
    assert world.a.of("Task.getStatus") == [{"taskID": TASK}]


async def test_the_error_of_a_task_is_raised(world: World) -> None:
    error = {"code": VolumeExists.code, "kind": "VolumeExists", "data": {"vol_id": "v"}}
    world.a.answers["Volume.create"] = TASK
    world.a.answers["Task.getStatus"] = task_status(
        code=VolumeExists.code, message="it exists", error=error
    )
    with pytest.raises(HostError, match="it exists") as caught:
        await world.fleet.task("id-a", "Volume.create", {})
    assert (caught.value.number, caught.value.kind) == (VolumeExists.code, "VolumeExists")
    assert caught.value.data == {"vol_id": "v"}


@pytest.mark.parametrize("answer", [UnknownTask(TASK), None, {}, {"code": "0"}, [], SILENT])
async def test_a_task_of_which_nobody_can_say_how_it_ended_is_not_known(
    world: World, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.links.HostLink.call", _impatient())
    world.a.answers.update({"Volume.create": TASK, "Task.getStatus": answer})
    with pytest.raises(NoAnswer, match=r"Volume\.create has ended"):
        await world.fleet.task("id-a", "Volume.create", {})


def _impatient() -> Any:
    original = HostLink.call

    async def call(self: HostLink, method: str, *args: Any, **options: Any) -> Any:
        return await original(self, method, *args, **{**options, "timeout": 0.2})

    return call


async def test_a_verb_that_is_refused_makes_no_task(world: World) -> None:
    world.a.answers["Volume.create"] = BadParameter("size", "no")
    with pytest.raises(HostError) as caught:
        await world.fleet.task("id-a", "Volume.create", {})
    assert caught.value.number == BadParameter.code
    assert world.a.of("Task.getStatus") == []


async def test_slow_calls_of_one_host_hold_no_other_up(world: World) -> None:
    world.a.answers["Lease.delete"] = SILENT
    async with trio.open_nursery() as nursery:
        for _ in range(100):  # more than may be under way at one host
            nursery.start_soon(world.fleet.call, "id-a", "Lease.delete")
        await until(lambda: len(world.a.of("Lease.delete")) == 32)
        with trio.fail_after(10):
            assert await world.fleet.call("id-b", "Host.ping2") is True
        nursery.cancel_scope.cancel()


async def test_a_connector_is_what_the_host_tells(world: World) -> None:
    assert (await world.fleet.connector("id-a")).host == "a"
    told = capabilities("uuid-1", connector_info={})
    world.a.answers["Host.getCapabilities"] = told
    await world.fleet.refresh("id-a")
    with pytest.raises(BadOutput, match="connector"):
        await world.fleet.connector("id-a")
    told["connector_info"] = {"host": "a2"}
    assert (await world.fleet.connector("id-a")).host == "a2"  # asked again: it had told none


# --- for the poller -----------------------------------------------------------------------------


async def test_candidates_are_up_and_see_the_domain_the_joined_ones_first(world: World) -> None:
    world.a.answers["Host.getCapabilities"] = capabilities(
        "uuid-1", stores=SANLOCK, domains=joined(1, "joining or leaving")
    )
    world.b.answers["Host.getCapabilities"] = capabilities("uuid-2", stores=SANLOCK)
    for host in ("id-a", "id-b"):
        await world.fleet.refresh(host)
    assert list(world.fleet.candidates(LEASE)) == ["id-c", "id-a"]


async def test_the_owner_is_who_has_joined_with_the_host_id(world: World) -> None:
    assert await world.fleet.owner(LEASE, 2) == "id-b"
    assert await world.fleet.owner(LEASE, 7) is None
    world.a.answers["Host.getCapabilities"] = capabilities("uuid-1", domains=joined(2))
    await world.fleet.refresh("id-a")
    assert await world.fleet.owner(LEASE, 2) is None  # two say so: nobody knows


async def test_host_1_of_an_embedded_store_is_the_one_host_that_knows_the_domain(
    world: World,
) -> None:
    for state, owner in (("alone", "id-a"), ("not joined", None)):
        for host, domains in ((world.a, joined(None, state)), (world.b, {}), (world.c, {})):
            number = host.answers["Host.getCapabilities"]["uuid"]
            host.answers["Host.getCapabilities"] = capabilities(number, domains=domains)
        for id in ("id-a", "id-b", "id-c"):
            await world.fleet.refresh(id)
        assert await world.fleet.owner(LEASE, 1) == owner


async def test_the_poller_asks_by_the_names_of_the_verbs(world: World) -> None:
    world.a.answers["Host.getJobs"] = {"j": {"id": "j", "status": "done"}}
    world.a.answers["Lease.status"] = {"owners": [], "version": 1, "metadata": {}}
    assert await world.fleet.jobs("id-a", ["j"]) == {"j": {"id": "j", "status": "done"}}
    assert (await world.fleet.lease_status("id-a", LEASE))["owners"] == []
    await world.fleet.fence("id-a", LEASE, Expectation("j", 3))
    lease = {"sd_id": SD, "lease_id": "job"}
    assert world.a.of("Host.getJobs") == [{"job_ids": ["j"]}]
    assert world.a.of("Lease.status") == [{"lease": lease}]
    metadata = {"type": "JOB", "job_id": "j", "generation": 3, "job_status": "PENDING"}
    assert world.a.of("Lease.fence") == [{"lease": lease, "metadata": metadata}]


async def test_the_poller_does_not_wait_for_a_connection(
    tmp_path: Path, database: Database
) -> None:
    async with stand_in(tmp_path, Host_getCapabilities=SILENT) as host:
        await known(database, row(host))
        async with fleet(database, times=Times(first=0.05)) as found:
            for ask in (found.jobs("id-a", ["j"]), found.lease_status("id-a", LEASE)):
                with trio.fail_after(5), pytest.raises(CannotConnect):
                    await ask


async def test_events_of_jobs_and_changes_of_hosts_are_told(world: World) -> None:
    await world.a.tell("|jobs|status|j", {"id": "j", "status": "done"})
    await world.a.tell("|something|else", {})
    event = JobEvent("id-a", "j", {"id": "j", "status": "done"})
    await until(lambda: event in world.events)
    await world.a.drop()
    await until(lambda: len(world.events) >= 3)
    states = [one.view.state for one in world.events if isinstance(one, HostChanged)]
    assert states == [LinkState.CONNECTING, LinkState.UP]
