"""The engine is killed in stages that differ with the ends of a copy or move: images of data
domains, and volumes of a real iSCSI target. Volumes of files: tests/faults/test_engine_killed.py.

The command ends, its disks have their bytes, and nothing is left that the database does not know.
"""

import pytest

from engine.commands.dying import AFTER, BEFORE
from tests.conformance.adapters import TOOLS
from tests.engine_estate import Estate
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, Copy, Move, Scene, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

# From the data domain "data", or to one: "array" is a managed domain.
IMAGES = {
    "image-managed": ("data", "array"),
    "managed-image": ("array", "data"),
    "image-image": ("data", "data2"),
}
STAGES = {
    "copy_disk": ("create", "copy", "quiesce"),
    "move_disk": ("quiesce", "switch", "remove_source"),
}
KINDS: dict[str, type[Copy] | type[Move]] = {"copy_disk": Copy, "move_disk": Move}
SAMPLE = ("move_disk:remove_source:before", "image-image")
ISCSI = ("attach_source", "attach_target", "quiesce", "detach_source")
ISCSI_SAMPLE = "copy_disk:attach_target:after"


def of_images() -> list[object]:
    """Those that are not in the sample are of the long tests."""
    return [
        pytest.param(
            point,
            ends,
            marks=[] if (point, ends) == SAMPLE else [pytest.mark.full],
            id=f"{ends}-{point}",
        )
        for ends in IMAGES
        for kind, stages in STAGES.items()
        for point in points(kind, stages)
        if IMAGES[ends][1] == "array" or ":quiesce:" not in point  # of an image there is no access
    ]


def of_iscsi() -> list[object]:
    return [
        pytest.param(point, marks=[] if point == ISCSI_SAMPLE else [pytest.mark.full], id=point)
        for point in points("copy_disk", ISCSI)
    ]


def points(kind: str, stages: tuple[str, ...]) -> list[str]:
    return [f"{kind}:{stage}:{where}" for stage in stages for where in (BEFORE, AFTER)]


def images(estates: Estates) -> Estate:
    return estates.of(SQLITE, data=2)


@pytest.mark.parametrize(("point", "ends"), of_images())
def test_a_command_with_images_ends_though_the_engine_is_killed_in_it(
    estates: Estates, point: str, ends: str
) -> None:
    source, to = IMAGES[ends]
    killed(KINDS[point.partition(":")[0]](images(estates), source=source, to=to), point)


@pytest.mark.tools(*TOOLS["tgt"])
@pytest.mark.parametrize("point", of_iscsi())
def test_a_copy_between_iscsi_volumes_ends_though_the_engine_is_killed_in_it(
    estates: Estates, point: str
) -> None:
    killed(Copy(estates.of(SQLITE, managed="tgt")), point)


def test_an_engine_that_begins_before_its_hosts_waits_for_them(estates: Estates) -> None:
    """As after a power failure. An image is made by one of them, whichever."""
    made = images(estates)
    scene = Copy(made, to="data")
    scene.prepare()
    made.start(die_at="copy_disk:create:before")
    command = scene.begin()
    made.engine.died()
    with made.a.gate.cut(), made.b.gate.cut():
        made.start()
    succeeded(scene, command)


def killed(scene: Scene, point: str) -> None:
    made = scene.estate
    scene.prepare()
    made.start(die_at=point)
    command = scene.begin()
    made.engine.died()
    made.start()
    succeeded(scene, command)


def succeeded(scene: Scene, command: str) -> None:
    """It ends so, and leaves nothing."""
    state = ended(scene.estate, command)
    assert state == "succeeded"
    scene.check(state)
    scene.estate.nothing_is_left()
    scene.clean()
    scene.estate.nothing_is_left()


@pytest.mark.full
@pytest.mark.parametrize("ends", IMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_an_engine_that_was_killed_while_the_bytes_move_finds_the_job_again(
    estates: Estates, kind: str, ends: str
) -> None:
    """Of an image it asks for the generation of the volume, there is no lease of the job."""
    source, to = IMAGES[ends]
    scene = KINDS[kind](images(estates), source=source, to=to, data=LONG)
    scene.prepare()
    command = scene.begin()
    in_the_middle(scene.estate)
    scene.estate.engine.kill()
    scene.estate.start()
    succeeded(scene, command)
