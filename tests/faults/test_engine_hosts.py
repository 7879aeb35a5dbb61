"""A host fails in every stage of a copy: its agent, the worker, its sanlock, or all of it.

The command ends, and nothing is left that the database does not know; then the copy is made again
and has the bytes of its source. To fail a host in a stage the engine is killed there first.
"""

import time

import pytest

from engine.commands.table import TYPES
from tests.engine_estate import TIDY, Estate, command_row
from tests.engine_hosts import until
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, Copy, ended
from tests.faults.host_failures import DEATH, LONGEST, MIDDLE, begun

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

STAGES = [stage.name for stage in TYPES["copy_disk"].stages]


@pytest.fixture
def made(estates: Estates) -> Estate:
    return estates.of(SQLITE)


def repeated(made: Estate, scene: Copy) -> None:
    """All hosts are well again: the copy is made, and all is removed."""
    made.nothing_is_left(seconds=TIDY)
    again = Copy(made, disks=[scene.disk], data=scene.data)
    again.name = f"{scene.name}-again"
    assert ended(made, again.begin()) == "succeeded"
    again.check("succeeded")
    made.nothing_is_left()
    scene.clean()
    again.disks = again.disks[1:]
    again.clean()
    made.nothing_is_left()


def of_stages(*sample: str) -> list[object]:
    """The stages, and the middle of the copy; those not in the sample are of the long tests."""
    return [
        pytest.param(one, marks=[] if one in sample else [pytest.mark.full], id=one)
        for one in (*STAGES, MIDDLE)
    ]


@pytest.mark.parametrize("where", of_stages(MIDDLE))
def test_a_copy_is_made_though_the_agent_of_its_host_is_killed(made: Estate, where: str) -> None:
    scene = Copy(made, data=LONG)
    host = begun(made, scene, where)
    host.kill_agent()
    if made.engine.running.over:
        made.start()
    host.start()  # as systemd does
    state = ended(made, scene.command)
    assert state == "succeeded"
    scene.check(state)
    until(made.is_whole, seconds=2 * DEATH)
    repeated(made, scene)


@pytest.mark.parametrize("where", of_stages())
def test_a_copy_ends_though_the_agent_of_its_host_stays_away(made: Estate, where: str) -> None:
    """Its worker goes on, if it has begun: its result is used."""
    scene = Copy(made, data=LONG)
    host = begun(made, scene, where)
    host.kill_agent()
    if made.engine.running.over:
        made.start()
    state = ended(made, scene.command, LONGEST)
    assert (state == "succeeded") == (where in ("place", MIDDLE, *after("copy")))
    host.start()
    until(made.is_whole, seconds=2 * DEATH)
    scene.check(state)
    repeated(made, scene)


def after(stage: str) -> list[str]:
    return STAGES[STAGES.index(stage) + 1 :]


@pytest.mark.parametrize("what", ["worker", pytest.param("tool", marks=pytest.mark.full)])
def test_a_copy_whose_process_is_killed_has_failed(made: Estate, what: str) -> None:
    scene = Copy(made, data=LONG)
    host = begun(made, scene, MIDDLE)
    assert host.kill_workers() if what == "worker" else host.kill_tools()
    assert ended(made, scene.command) == "failed"
    scene.check("failed")
    assert command_row(made, scene.command).error
    repeated(made, scene)


@pytest.mark.full
@pytest.mark.parametrize("where", of_stages())
def test_a_copy_ends_though_the_sanlock_of_its_host_is_killed(made: Estate, where: str) -> None:
    scene = Copy(made, data=LONG)
    host = begun(made, scene, where)
    host.daemon.kill()
    if made.engine.running.over:
        made.start()
    if where == MIDDLE:
        until(lambda: not host.working())  # its lease is lost, and it knows
    time.sleep(1)
    host.daemon.start()
    state = ended(made, scene.command, LONGEST)
    scene.check(state)
    if where == MIDDLE:
        assert state == "failed"
    until(made.is_whole, seconds=2 * DEATH)
    repeated(made, scene)


@pytest.mark.full
@pytest.mark.parametrize("where", of_stages())
def test_a_copy_ends_though_its_whole_host_dies(made: Estate, where: str) -> None:
    """Its lease becomes free when the other host counts it as dead; not before."""
    scene = Copy(made, data=LONG)
    host = begun(made, scene, where)
    host.die()
    died = time.monotonic()
    if made.engine.running.over:
        made.start()
    state = ended(made, scene.command, LONGEST)
    took = time.monotonic() - died
    if where == MIDDLE:
        assert took > DEATH - 3  # the last renewal was a moment before
        assert state == "failed"
    assert (state == "succeeded") == (where in ("place", *after("copy")))
    until(lambda: not made.left(), made.left)
    scene.check(state)
    host.revive()
    until(made.is_whole, seconds=2 * DEATH)
    repeated(made, scene)
