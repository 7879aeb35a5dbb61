"""A host fails while an image is removed: in every stage, and in the middle of the work itself.

The disk is gone, or whole, or can only be removed again; and nothing else is left.
"""

import pytest

from engine.commands.table import TYPES
from tests.engine_estate import TIDY, Estate
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import Remove, ended
from tests.faults.host_failures import FAILURES, outcome

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

DONE, LOST = "succeeded", "failed"
STAGES = [stage.name for stage in TYPES["remove_disk"].stages]
# No stage has a host of its own: any that sees the domain is asked, so the other one does it.
WANTED = DONE
OK, ILLEGAL = "ok", "illegal"
# Where the agent dies, and what the disk is then; None: the removal was not begun.
POINTS = {
    "asked": (None, OK),
    "unpublished": ("image-delete:unpublished", ILLEGAL),  # its volume does not exist any more
    "moved": ("image-delete:moved", ILLEGAL),
}


@pytest.fixture
def made(estates: Estates) -> Estate:
    return estates.of(SQLITE)


def of_stages(*sample: tuple[str, str]) -> list[object]:
    return [
        pytest.param(
            where,
            how,
            marks=[] if (where, how) in sample else [pytest.mark.full],
            id=f"{where}-{how}".replace(" ", "-"),
        )
        for where in STAGES
        for how in FAILURES
    ]


@pytest.mark.parametrize(("where", "how"), of_stages())
def test_an_image_is_removed_though_the_host_that_would_do_it_fails(
    made: Estate, where: str, how: str
) -> None:
    scene = Remove(made, source="data")
    state = outcome(made, scene, where, how)
    assert state == WANTED
    scene.check(state)
    made.nothing_is_left(seconds=TIDY)


@pytest.mark.parametrize(
    "point",
    ["unpublished", *(pytest.param(one, marks=pytest.mark.full) for one in ("asked", "moved"))],
)
def test_a_removal_whose_host_dies_in_it_can_be_made_again(made: Estate, point: str) -> None:
    """The answer is lost, and another host tells what is left."""
    die_at, wanted = POINTS[point]
    host = made.a
    scene = Remove(made, source="data")
    scene.prepare()
    if die_at:
        host.kill_agent()
        host.start(LEASEHOLD_DIE_AT=die_at)
        made.start()
    with host.gate.holding("Image.delete") as hold:
        command = scene.begin()
        hold.wait()
        if die_at is None:
            host.kill_agent()
    state = ended(made, command)
    assert state == LOST
    if host.agent is not None:
        host.kill_agent()
    assert made.told(scene.disk)["status"] == wanted
    scene.check(state)
    host.start()
    again = Remove(made, disks=scene.disks)
    state = ended(made, again.begin())
    assert state == DONE
    again.check(state)
    made.nothing_is_left(seconds=TIDY)
