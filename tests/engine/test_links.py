"""The connection to one host: up, lost, made anew, refused; and what becomes of calls then."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from engine import links
from engine.capabilities import Capabilities
from engine.host_states import LinkState
from engine.links import HostLink, Known, Times
from protocol.address import TlsAddress, UnixAddress
from protocol.client import HostError, NoAnswer
from protocol.errors import CannotConnect, ConnectionLost, NoSuchJob
from tests.engine.stand_in import SILENT, StandIn, capabilities, listening, stand_in, until

QUICK = Times(grace=0.3, pauses=(0.01, 0.02), refresh=30.0, connect=5.0, call=5.0)


@asynccontextmanager
async def linked(
    host: StandIn | UnixAddress | TlsAddress,
    *,
    times: Times = QUICK,
    seen: bool = False,
    meet: Callable[[Capabilities], str] = lambda told: "",
    changes: list[LinkState] | None = None,
    events: list[Any] | None = None,
) -> AsyncGenerator[HostLink]:
    address = host.address if isinstance(host, StandIn) else host
    made = HostLink(
        Known("id", "alpha", lambda: address, seen=seen),
        meet=meet,
        changed=lambda: changes.append(made.state) if changes is not None else None,
        heard=lambda method, info: events.append((method, info)) if events is not None else None,
        times=times,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        yield made
        nursery.cancel_scope.cancel()


async def up(link: HostLink) -> None:
    await until(lambda: link.state is LinkState.UP)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncGenerator[StandIn]:
    async with stand_in(tmp_path) as made:
        yield made


# --- the state ----------------------------------------------------------------------------------


async def test_a_host_that_tells_who_it_is_is_up(host: StandIn) -> None:
    async with linked(host) as link:
        assert (link.state, link.connected) == (LinkState.CONNECTING, False)
        await up(link)
        assert link.connected
        assert link.reason == ""
        assert link.capabilities is not None
        assert link.capabilities.limits.concurrency == 4


async def test_a_connection_that_is_lost_is_made_anew(host: StandIn) -> None:
    changes: list[LinkState] = []
    async with linked(host, changes=changes) as link:
        await up(link)
        await host.drop()
        await until(lambda: host.connections == 2)
        await up(link)
        assert changes == [LinkState.UP, LinkState.CONNECTING, LinkState.UP]


async def test_a_host_that_was_up_is_waited_for_and_is_then_not_responsive(
    tmp_path: Path,
) -> None:
    host = StandIn(str(tmp_path / "b"))
    async with trio.open_nursery() as nursery:
        async with listening(host):
            link = HostLink(
                Known("id", "alpha", lambda: host.address), meet=lambda told: "", times=QUICK
            )
            nursery.start_soon(link.run)
            await up(link)
        Path(host.path).unlink()
        await until(lambda: link.state is LinkState.CONNECTING)
        await until(lambda: link.state is LinkState.NON_RESPONSIVE)
        assert "No such file" in link.reason
        async with listening(host):
            await up(link)
            nursery.cancel_scope.cancel()


async def test_a_host_that_never_answered_is_down_and_one_that_did_before_is_not_responsive(
    tmp_path: Path,
) -> None:
    nobody = UnixAddress(str(tmp_path / "nobody"))
    async with linked(nobody) as link, linked(nobody, seen=True) as other:
        await until(lambda: link.state is LinkState.DOWN)
        await until(lambda: other.state is LinkState.NON_RESPONSIVE)


async def test_the_pauses_grow_to_the_last_one_and_what_stays_is_told_once(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    tried: list[float] = []

    @asynccontextmanager
    async def refused(*args: Any, **options: Any) -> AsyncGenerator[None]:
        tried.append(trio.current_time())
        if tried:
            raise CannotConnect("x", "no")
        yield

    monkeypatch.setattr(links, "connected", refused)
    changes: list[LinkState] = []
    times = Times(grace=10.0, pauses=(1.0, 2.0, 4.0))
    async with linked(UnixAddress("/x"), times=times, changes=changes):
        await trio.sleep(16)
        assert changes == [LinkState.CONNECTING, LinkState.DOWN]  # with the reason; told once each
    assert [after - before for before, after in pairwise(tried)] == [1.0, 2.0, 4.0, 4.0, 4.0]


async def test_the_pauses_begin_anew_after_a_connection(host: StandIn) -> None:
    host.refuses = True
    async with linked(host, times=Times(pauses=(0.01, 0.02, 1000.0))) as link:
        await until(lambda: host.connections == 2)
        host.refuses = False
        await up(link)
        for connections in (3, 4):
            assert host.connections == connections
            await host.drop()
            await until(lambda: host.connections > connections)  # noqa: B023
            await up(link)


# --- strange hosts ------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", [None, [], {"uuid": 7}, "x" * 1000], ids=str)
async def test_a_host_that_answers_nonsense_is_not_up(tmp_path: Path, answer: Any) -> None:
    async with stand_in(tmp_path, Host_getCapabilities=answer) as host, linked(host) as link:
        await until(lambda: host.connections > 2)
        assert link.state in (LinkState.CONNECTING, LinkState.DOWN)
        assert "unexpected" in link.reason
        host.answers["Host.getCapabilities"] = capabilities()
        await up(link)


async def test_another_machine_is_refused_and_taken_when_it_is_the_right_one_again(
    host: StandIn,
) -> None:
    def meet(told: Capabilities) -> str:
        return "" if told.uuid == "right" else f"machine {told.uuid} is another one"

    host.answers["Host.getCapabilities"] = capabilities("wrong")
    async with linked(host, meet=meet) as link:
        await until(lambda: link.state is LinkState.DOWN)
        assert link.reason == "machine wrong is another one"
        assert not link.connected
        assert link.capabilities is None
        with pytest.raises(CannotConnect, match="another one"):
            await link.call("Host.ping2")
        assert host.of("Host.ping2") == []
        host.answers["Host.getCapabilities"] = capabilities("right")
        await up(link)


async def test_a_host_that_answers_heart_beats_and_no_calls_is_not_up_for_ever(
    host: StandIn,
) -> None:
    times = Times(grace=0.2, pauses=(0.01,), refresh=0.05, call=0.1)
    async with linked(host, times=times) as link:
        await up(link)
        host.answers["Host.getCapabilities"] = SILENT
        await until(lambda: link.state is LinkState.NON_RESPONSIVE)


async def test_a_host_that_cannot_tell_its_capabilities_for_a_while_stays_up(
    host: StandIn,
) -> None:
    async with linked(host, times=Times(refresh=0.01)) as link:
        await up(link)
        asked = len(host.asked)
        host.answers["Host.getCapabilities"] = NoSuchJob("x")
        await until(lambda: len(host.asked) > asked + 2)
        assert link.state is LinkState.UP
        host.answers["Host.getCapabilities"] = capabilities(drained=True)
        await until(lambda: link.capabilities is not None and link.capabilities.drained)


# --- calls --------------------------------------------------------------------------------------


async def test_a_call_waits_for_a_connection_that_is_being_made(host: StandIn) -> None:
    host.answers["Host.ping2"] = "pong"
    async with linked(host) as link:
        assert await link.call("Host.ping2") == "pong"
        await host.drop()
        assert await link.call("Host.ping2") == "pong"


async def test_a_call_without_patience_is_refused_at_once(host: StandIn) -> None:
    async with linked(host) as link:
        with pytest.raises(CannotConnect):
            await link.call("Host.ping2", wait=0.0)
    assert host.of("Host.ping2") == []


async def test_a_call_of_a_host_that_is_down_does_not_wait(tmp_path: Path) -> None:
    async with linked(UnixAddress(str(tmp_path / "nobody"))) as link:
        await until(lambda: link.state is LinkState.DOWN)
        with trio.fail_after(5):  # far less than `wait`
            with pytest.raises(CannotConnect):
                await link.call("Host.ping2", wait=1000.0, timeout=1000.0)


async def test_after_a_lost_connection_it_is_not_known_whether_a_call_was_done(
    host: StandIn,
) -> None:
    host.answers["Lease.delete"] = SILENT
    async with linked(host) as link, trio.open_nursery() as nursery:
        await up(link)

        async def call() -> None:
            with pytest.raises(ConnectionLost):
                await link.call("Lease.delete")

        for _ in range(3):
            nursery.start_soon(call)
        await until(lambda: len(host.of("Lease.delete")) == 3)
        await host.drop()


async def test_a_call_that_is_not_answered_in_time_may_have_been_done(host: StandIn) -> None:
    host.answers["Lease.delete"] = SILENT
    async with linked(host) as link:
        await up(link)
        with pytest.raises(NoAnswer):
            await link.call("Lease.delete", timeout=0.05)
        assert link.connected


async def test_an_error_of_the_host_is_its_answer(host: StandIn) -> None:
    host.answers["Job.info"] = NoSuchJob("j")
    async with linked(host) as link:
        with pytest.raises(HostError) as caught:
            await link.call("Job.info", {"job_id": "j"})
        assert (caught.value.number, caught.value.kind) == (NoSuchJob.code, "NoSuchJob")


async def test_a_slow_call_holds_no_other_up(host: StandIn) -> None:
    host.answers.update({"Lease.create": SILENT, "Host.ping2": "pong"})
    async with linked(host) as link, trio.open_nursery() as nursery:
        await up(link)
        nursery.start_soon(link.call, "Lease.create")
        await until(lambda: bool(host.of("Lease.create")))
        assert await link.call("Host.ping2") == "pong"
        nursery.cancel_scope.cancel()


async def test_a_call_that_is_cancelled_leaves_the_connection_as_it_was(host: StandIn) -> None:
    host.answers.update({"Lease.create": SILENT, "Host.ping2": "pong"})
    async with linked(host) as link:
        await up(link)
        with trio.move_on_after(0.05):
            await link.call("Lease.create")
        assert await link.call("Host.ping2") == "pong"
        assert host.connections == 1


async def test_a_link_that_is_ended_ends_its_calls(host: StandIn) -> None:
    host.answers["Lease.create"] = SILENT
    errors: list[type[BaseException]] = []

    async def call(link: HostLink) -> None:
        try:
            await link.call("Lease.create")
        except (ConnectionLost, CannotConnect) as e:
            errors.append(type(e))

    async with trio.open_nursery() as nursery:
        async with linked(host) as link:
            await up(link)
            nursery.start_soon(call, link)
            await until(lambda: bool(host.of("Lease.create")))
        with trio.fail_after(5):
            with pytest.raises(CannotConnect):
                await link.call("Lease.create", wait=1000.0, timeout=1000.0)
    assert errors == [ConnectionLost]


async def test_events_are_told(host: StandIn) -> None:
    events: list[Any] = []
    async with linked(host, events=events) as link:
        await up(link)
        await host.tell("|jobs|status|j", {"id": "j", "status": "done"})
        await until(lambda: bool(events))
    assert events == [("|jobs|status|j", {"id": "j", "status": "done"})]


async def test_wrong_certificates_are_a_reason_and_no_crash(tmp_path: Path) -> None:
    none = str(tmp_path / "none.pem")
    async with linked(TlsAddress("127.0.0.1", 1, none, none, none)) as link:
        await link.tried.wait()
        assert link.state is LinkState.CONNECTING
        assert link.reason
