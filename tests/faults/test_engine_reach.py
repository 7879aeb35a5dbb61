"""A host that the engine cannot reach: its job goes on, or was not begun; and it comes back."""

import pytest

from tests.engine_estate import TIDY, Estate, command_row, spec_of, verdict_of
from tests.engine_hosts import AgentHost, until
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, OURS, Copy, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

# JobStatusMismatch; NoSuchLease: it is deleted by then, which comes after the fence.
REFUSED = (912, 936)


@pytest.fixture
def made(estates: Estates) -> Estate:
    return estates.of(SQLITE)


def is_up(made: Estate, host: AgentHost) -> bool:
    return bool(made.engine.get(f"hosts/{host.id}")["status"] == "up")


def finish(made: Estate, scene: Copy, host: AgentHost) -> None:
    """The host is back, and forgets what the storage has shut it out from."""
    until(lambda: is_up(made, host))
    made.nothing_is_left(seconds=TIDY)
    scene.clean()
    made.nothing_is_left()


@pytest.mark.parametrize("how", ["cut", pytest.param("silent", marks=pytest.mark.full)])
def test_the_result_of_a_host_that_cannot_be_reached_is_used(made: Estate, how: str) -> None:
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    host = in_the_middle(made)
    with host.gate.cut() if how == "cut" else host.gate.silent():
        assert ended(made, command) == "succeeded"
        scene.check("succeeded")
        assert verdict_of(made, command)["row"] == "6"
        assert host.attached() != []  # it does not know that it was shut out
    finish(made, scene, host)


@pytest.mark.full
def test_a_host_that_comes_back_in_time_is_asked_as_before(made: Estate) -> None:
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    host = in_the_middle(made)
    with host.gate.cut():
        until(lambda: not is_up(made, host))
    assert ended(made, command) == "succeeded"
    scene.check("succeeded")
    finish(made, scene, host)


def test_a_job_that_was_fenced_is_refused_when_its_host_is_back(made: Estate) -> None:
    """It had not begun: its host was drained a moment ago, and the engine did not know it yet."""
    for host in made.hosts:
        host.call("Host.drain", timeout=None)
    try:
        scene = Copy(made)
        scene.prepare()
        command = scene.begin()
        job = spec_of(made, command)["job"]
        [host] = until(lambda: [one for one in made.hosts if job in one.jobs("pending")])
        with host.gate.cut():
            assert ended(made, command) == "failed"
            assert verdict_of(made, command)["fenced"]
            scene.check("failed")
    finally:
        for one in made.hosts:
            one.call("Host.resume")
    [told] = until(lambda: [one for one in host.infos("failed") if one["id"] == job])
    assert told["error"]["code"] in REFUSED
    finish(made, scene, host)


@pytest.mark.full
def test_an_abort_of_a_host_that_cannot_be_reached_waits_for_its_end(made: Estate) -> None:
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    host = in_the_middle(made)
    with host.gate.cut():
        made.engine.post(f"{OURS}/commands/{command}/abort")
        state = ended(made, command)
        scene.check(state)
        assert state in ("succeeded", "aborted")
    assert command_row(made, command).abort_asked
    finish(made, scene, host)
