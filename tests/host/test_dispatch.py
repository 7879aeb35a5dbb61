"""A call becomes a verb: roles, names, and what nobody expected."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from host.dispatch import Dispatcher
from host.this_host import ThisHost
from host.verbs.table import VERBS
from host.verbs.verb import Nothing, Verb
from host.wire.call import Call, Peer, Role
from protocol.errors import BadParameter, NoSuchLease
from protocol.jsonrpc import Forbidden, MethodNotFound
from protocol.reported import Reported
from tests.host.verbs.a_host import a_host


async def fine(host: ThisHost, params: Nothing, flow_id: str) -> str:
    """Say the flow id, and log."""
    structlog.get_logger().info("in the verb")
    return flow_id


async def broken(host: ThisHost, params: Nothing, flow_id: str) -> None:
    """Fail as nobody expected."""
    raise ZeroDivisionError("a fault")


async def grouped(host: ThisHost, params: Nothing, flow_id: str) -> None:
    """Fail in a nursery."""
    raise ExceptionGroup("several", [ExceptionGroup("inner", [NoSuchLease("one")])])


async def nothing(host: ThisHost, params: Nothing, flow_id: str) -> None:
    """Do nothing."""


def verb(handler: Any, *, reads: bool = False) -> Verb:
    return Verb(handler.__name__, Nothing, handler, "", reads=reads)


TABLE = {one.name: one for one in (verb(fine, reads=True), *map(verb, (broken, grouped, nothing)))}
NO_HOST: Any = None


async def call(method: str, params: Any = None, role: Role = "engine") -> Any:
    dispatch = Dispatcher(NO_HOST, TABLE)
    return await dispatch(Call(method, {} if params is None else params, "f1", Peer(role, "me")))


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged, with what is bound to the call."""
    lines: list[dict[str, Any]] = []

    def keep(logger: Any, method: str, event: Any) -> Any:
        lines.append({**event, "level": method})
        raise structlog.DropEvent

    structlog.configure(processors=[structlog.contextvars.merge_contextvars, keep])
    yield lines
    structlog.reset_defaults()


async def test_the_flow_id_goes_to_the_verb_and_into_each_line(
    logged: list[dict[str, Any]],
) -> None:
    assert await call("fine") == "f1"
    [line] = logged
    assert (line["event"], line["flow_id"]) == ("in the verb", "f1")
    assert (line["method"], line["peer"]) == ("fine", "me")
    assert structlog.contextvars.get_contextvars() == {}


async def test_a_verb_that_returns_nothing_returns_true() -> None:
    assert await call("nothing") is True


async def test_an_unknown_method_is_told_to_everybody() -> None:
    for role in ("engine", "monitor"):
        with pytest.raises(MethodNotFound):
            await call("fine.er", role=role)


async def test_a_monitor_only_reads() -> None:
    assert await call("fine", role="monitor") == "f1"
    with pytest.raises(Forbidden):
        await call("nothing", role="monitor")


async def test_what_nobody_expected_is_code_100_with_its_text_and_logged(
    logged: list[dict[str, Any]],
) -> None:
    with pytest.raises(Reported) as caught:
        await call("broken")
    told = caught.value.to_rpc()
    assert (told["code"], told["kind"]) == (100, "ZeroDivisionError")
    assert told["message"] == "a fault"
    [line] = logged
    assert (line["level"], line["exc_info"], line["flow_id"]) == ("error", True, "f1")


async def test_the_telling_error_of_a_group_is_told() -> None:
    with pytest.raises(NoSuchLease):
        await call("grouped")


async def test_a_call_that_is_given_up_is_cancelled() -> None:
    async def never(host: ThisHost, params: Nothing, flow_id: str) -> None:
        await trio.sleep_forever()

    dispatch = Dispatcher(NO_HOST, {"never": verb(never)})
    with trio.move_on_after(0) as scope:
        await dispatch(Call("never", {}, "", Peer("engine", "me")))
    assert scope.cancelled_caught


@pytest.mark.parametrize("params", [[], 1, "x", None, True, [{}]])
async def test_parameters_that_are_no_object_are_refused(params: Any) -> None:
    dispatch = Dispatcher(NO_HOST, TABLE)
    with pytest.raises(BadParameter) as caught:
        await dispatch(Call("nothing", params, "", Peer("engine", "me")))
    assert caught.value.name == "params"


async def test_a_monitor_may_call_every_verb_that_reads_and_no_other(tmp_path: Path) -> None:
    async with a_host(tmp_path) as host:
        host.role = "monitor"
        for name, one in VERBS.items():
            if not one.reads:
                with pytest.raises(Forbidden):
                    await host.call(name)
        assert await host.call("Host.getJobs") == {}
