"""A host fails in every stage of a move, or in the middle of its copy: its agent, the worker, its
sanlock, or all of it.

The disk has its bytes in one volume, the old one or the new one, and nothing else is left.
"""

import pytest

from engine.commands.table import TYPES
from tests.engine_estate import DATA, TIDY, Estate, command_row
from tests.engine_hosts import AgentHost, until
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, OURS, Move, ended
from tests.faults.host_failures import FAILURES, MIDDLE, begun, outcome

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

DONE, LOST, OPEN = "succeeded", "failed", "unresolved"
# How the move ends when its host fails there, and why. The failures are those of FAILURES.
TABLE = {
    #                  agent  for long  sanlock  host
    "place": (DONE, DONE, DONE, DONE),  # no host was chosen: the other one does it
    # A command never changes its host, and this one is not there to be asked ...
    "create": (DONE, LOST, LOST, LOST),
    "attach_source": (DONE, LOST, LOST, LOST),
    "attach_target": (DONE, LOST, LOST, LOST),
    "lease": (DONE, LOST, LOST, LOST),  # ... or cannot take a lease
    "copy": (DONE, LOST, LOST, LOST),
    # The worker goes on without its agent, and not without its lease, which sanlock keeps. As long
    # as that is away the lease looks held, and its host, which lives, cannot tell.
    MIDDLE: (DONE, DONE, OPEN, LOST),
    # The copy is whole. The storage shuts a silent host out, so it is not needed any more.
    "quiesce": (DONE, DONE, DONE, DONE),
    "switch": (DONE, DONE, DONE, DONE),
    "unlease": (DONE, DONE, DONE, DONE),
    "detach_source": (DONE, DONE, DONE, DONE),
    "remove_source": (DONE, DONE, DONE, DONE),
}
SAMPLE = {("switch", "agent for long")}
COMPARING = "verifying"


@pytest.fixture
def made(estates: Estates) -> Estate:
    return estates.of(SQLITE)


def cases() -> list[object]:
    """Those that are not in the sample are of the long tests."""
    return [
        pytest.param(
            where,
            how,
            state,
            marks=[] if (where, how) in SAMPLE else [pytest.mark.full],
            id=f"{where}-{how}".replace(" ", "-"),
        )
        for where, states in TABLE.items()
        for how, state in zip(FAILURES, states, strict=True)
    ]


def test_the_table_has_every_stage() -> None:
    stages = [stage.name for stage in TYPES["move_disk"].stages]
    assert [where for where in TABLE if where != MIDDLE] == stages


@pytest.mark.parametrize(("where", "how", "wanted"), cases())
def test_a_disk_is_in_one_place_though_the_host_of_its_move_fails(
    made: Estate, where: str, how: str, wanted: str
) -> None:
    scene = Move(made, data=LONG if where == MIDDLE else DATA)
    state = outcome(made, scene, where, how)
    assert state == wanted
    if state == OPEN:
        state = resolved(made, scene.command)
        assert state == LOST
    checked(made, scene, state)


def resolved(made: Estate, command: str) -> str:
    """The state in which it has ended after a person asked again."""
    made.engine.post(f"{OURS}/commands/{command}/resolve")
    until(lambda: command_row(made, command).state != OPEN)
    return ended(made, command)


def checked(made: Estate, scene: Move, state: str) -> None:
    """All hosts are well again: nothing is left, and the disk is as it has to be."""
    assert (state == LOST) == bool(command_row(made, scene.command).error)
    scene.check(state)
    made.nothing_is_left(seconds=TIDY)
    scene.clean()


@pytest.mark.full
@pytest.mark.parametrize("what", ["worker", "tool"])
@pytest.mark.parametrize("where", [MIDDLE, COMPARING])
def test_a_move_whose_process_is_killed_has_failed(made: Estate, what: str, where: str) -> None:
    """Also when all bytes are there already: they are not compared yet."""
    scene = Move(made, data=LONG)
    host = begun(made, scene, MIDDLE)
    if where == COMPARING:
        until(lambda: is_comparing(host))
    assert host.kill_workers() if what == "worker" else host.kill_tools()
    state = ended(made, scene.command)
    assert state == LOST
    checked(made, scene, state)


def is_comparing(host: AgentHost) -> bool:
    return any(one.get("stage") == COMPARING for one in host.infos("running"))
