"""The database of the engine goes away and comes back; two engines want one database."""

import time

import pytest

from tests.engine_service import Fault, until_ready
from tests.faults.engine_estates import POSTGRESQL, SQLITE, Estates
from tests.faults.engine_scenes import LONG, Copy, Move, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

REFUSED = 6  # the exit status
DATABASES = (pytest.param(SQLITE, marks=pytest.mark.full), POSTGRESQL)
MINUTE = 60.0


@pytest.mark.parametrize("seconds", [3.0, pytest.param(MINUTE, marks=pytest.mark.full)])
@pytest.mark.parametrize("kind", [Copy, pytest.param(Move, marks=pytest.mark.full)])
def test_commands_wait_for_a_database_that_is_gone(
    estates: Estates, kind: type[Copy], seconds: float
) -> None:
    made, server = estates.of(POSTGRESQL), estates.server
    scene = kind(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    in_the_middle(made)
    server.stop()
    try:
        with pytest.raises(Fault) as refused:
            made.engine.get("disks")
        assert refused.value.status == 503
        time.sleep(seconds)
    finally:
        server.start()
    state = ended(made, command)
    assert state == "succeeded"
    scene.check(state)
    made.nothing_is_left()
    scene.clean()


@pytest.mark.parametrize(
    ("database", "restarted"),
    [
        pytest.param(SQLITE, False, marks=pytest.mark.full),
        pytest.param(POSTGRESQL, False, marks=pytest.mark.full),
        # The server has forgotten the lock of the first one, which is faster all the same.
        (POSTGRESQL, True),
    ],
)
def test_a_second_engine_on_one_database_refuses(
    estates: Estates, database: str, restarted: bool
) -> None:
    made = estates.of(database)
    if restarted:
        estates.server.stop()
        estates.server.start()
    with made.another(ready=False) as second:
        assert second.running.process.wait(60) == REFUSED, second.log
        assert "another engine" in second.log
    assert made.engine.get("disks") is not None


@pytest.mark.parametrize("database", DATABASES)
def test_a_second_engine_may_stand_by_and_goes_on_with_the_commands(
    estates: Estates, database: str
) -> None:
    made = estates.of(database)
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    in_the_middle(made)
    with made.another("database.standby=true", ready=False) as second:
        time.sleep(1)
        assert not second.running.over
        made.engine.kill()
        until_ready(second)
        second.login()
        assert second.succeeded(command)["state"] == "succeeded"
    made.start()
    scene.check("succeeded")
    made.nothing_is_left()
    scene.clean()
