"""The engine is killed before or after each stage of each command, and started again.

The command ends, and nothing is left that the database does not know. The points are those of the
stage tables.
"""

import pytest

from engine.commands.dying import AFTER, BEFORE, UNDO_AFTER, UNDO_BEFORE, points
from engine.commands.table import TYPES
from tests.faults.engine_estates import POSTGRESQL, SQLITE, Estates
from tests.faults.engine_scenes import LONG, SCENES, Copy, Move, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

FORWARDS = [
    point
    for kind in TYPES.values()
    for point in points(kind)
    if point.rpartition(":")[2] in (BEFORE, AFTER)
]
UNDOS = [
    point
    for name in ("copy_disk", "move_disk")
    for point in points(TYPES[name])
    if point.rpartition(":")[2] in (UNDO_BEFORE, UNDO_AFTER)
]
# Of every kind of stage one, in the default run; which side of it differs.
SAMPLE = {
    (SQLITE, "copy_disk:copy:after"),
    (SQLITE, "move_disk:switch:before"),
    (SQLITE, "remove_disk:delete:after"),
    (POSTGRESQL, "copy_disk:quiesce:before"),
}
DATABASES = (SQLITE, POSTGRESQL)


def sampled(all_points: list[str]) -> list[object]:
    """Those that are not in the sample are of the long tests."""
    return [
        pytest.param(
            database,
            point,
            marks=[] if (database, point) in SAMPLE else [pytest.mark.full],
            id=f"{database}-{point}",
        )
        for database in DATABASES
        for point in all_points
    ]


@pytest.mark.parametrize(("database", "point"), sampled(FORWARDS))
def test_a_command_ends_though_the_engine_is_killed_in_it(
    estates: Estates, database: str, point: str
) -> None:
    made = estates.of(database)
    scene = SCENES[point.partition(":")[0]](made)
    scene.prepare()
    made.start(die_at=point)
    command = scene.begin()
    made.engine.died()
    made.start()
    state = ended(made, command)
    assert state == "succeeded"
    scene.check(state)
    made.nothing_is_left()
    scene.clean()
    made.nothing_is_left()


@pytest.mark.parametrize(("database", "point"), sampled(UNDOS))
def test_a_command_is_undone_though_the_engine_is_killed_in_it(
    estates: Estates, database: str, point: str
) -> None:
    """Its worker was killed in the middle."""
    made = estates.of(database)
    kind = {"copy_disk": Copy, "move_disk": Move}[point.partition(":")[0]]
    scene = kind(made, data=LONG)
    scene.prepare()
    made.start(die_at=point)
    command = scene.begin()
    assert in_the_middle(made).kill_workers()
    made.engine.died()
    made.start()
    state = ended(made, command)
    assert state == "failed"
    scene.check(state)
    made.nothing_is_left()
    scene.clean()
    made.nothing_is_left()
