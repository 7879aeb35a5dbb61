"""The storage does not shut a host out: what rests on it is kept, told of, and cleared later."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.engine_estate import Estate
from tests.engine_hosts import until
from tests.engine_service import Fault
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, OURS, Copy, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy", "chattr")


@contextmanager
def stuck(folder: Path) -> Iterator[None]:
    """Nothing in a folder can be changed, not by root either: the adapter fails."""
    done = subprocess.run(["chattr", "+i", str(folder)], check=False, capture_output=True)
    if done.returncode:
        pytest.skip(f"chattr +i does not work here: {done.stderr.decode()}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", str(folder)], check=True)


def connections(made: Estate, command: str) -> Path:
    """Of the target: where the adapter writes down who is let in."""
    row = next(one for one in made.rows.attachments if is_target(made, one.volume, command))
    return Path(made.places[made.domains["array2"]], "volumes", row.volume, "connections")


def is_target(made: Estate, volume: str, command: str) -> bool:
    domain = made.domains["array2"]
    return any(one.id == volume and one.domain == domain for one in made.rows.volumes)


@pytest.mark.parametrize("job", ["killed", pytest.param("done", marks=pytest.mark.full)])
def test_a_volume_whose_host_is_not_shut_out_is_kept_until_it_is(
    estates: Estates, job: str
) -> None:
    made = estates.of(SQLITE)
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    host = in_the_middle(made)
    folder = connections(made, command)
    with stuck(folder):
        if job == "killed":
            assert host.kill_workers()
        state = ended(made, command)
        assert state == ("quarantined" if job == "killed" else "succeeded")
        [kept] = [
            one
            for one in made.rows.quarantine
            if one.command == command and one.kind == "attachment"
        ]
        assert (kept.object, kept.command) == (folder.parent.name, command)
        assert kept.reason
        assert "clear" in kept.action
        assert folder.parent.exists()
        until(lambda: not made.left(), made.left)
        for copy in scene.copies():
            with pytest.raises(Fault) as refused:
                made.engine.delete(f"disks/{copy}")
            assert refused.value.status == 409
    made.engine.post(f"{OURS}/commands/{command}/clear")
    until(lambda: not [one for one in made.rows.quarantine if one.cleared is None])
    state = ended(made, command)
    assert state == ("failed" if job == "killed" else "succeeded")
    scene.check(state)
    made.nothing_is_left()
    scene.clean()
    made.nothing_is_left()
