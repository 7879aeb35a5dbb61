"""The lease of a job cannot be read: its volume was cut off, or something else was written over it.

Nobody can tell what became of the job, so nothing is deleted; when the volume is mended, `resolve`
finds the truth.
"""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leases.geometry import MIB, Geometry
from leases.volume import LeaseVolume
from tests.engine_estate import Estate, command_row, spec_of, verdict_of
from tests.engine_hosts import until
from tests.faults.engine_estates import SQLITE, Estates
from tests.faults.engine_scenes import LONG, OURS, Copy, ended, in_the_middle

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

GEOMETRY = Geometry()
SECTOR, SLOT = GEOMETRY.sector, GEOMETRY.alignment
SOME = 100 * SECTOR  # bytes of a slot: its leader is there, its value block is not
GARBAGE = random.Random(8).randbytes(SLOT)


@dataclass(frozen=True)
class Volume:
    """The lease volume of an estate. lease: where the slot of a job is."""

    path: Path
    lease: int

    @classmethod
    def of(cls, made: Estate, job: str) -> "Volume":
        path = made.data / "dom_md" / "xleases"
        volume = LeaseVolume(str(path), made.domains["data"], GEOMETRY)
        with volume.open() as sectors:
            return cls(path, volume.lookup(sectors, job).offset)

    @property
    def record(self) -> int:
        return self.lease + GEOMETRY.lvb_offset

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)

    def write(self, offset: int, data: bytes) -> None:
        """Where the daemons of sanlock see it, which read past the page cache."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)
            os.fsync(file.fileno())

    @contextmanager
    def kept(self) -> Iterator[None]:
        """At the end it is as it was."""
        content = self.path.read_bytes()
        try:
            yield
        finally:
            self.write(0, content)


Damage = Callable[[Volume], None]
DAMAGE: dict[str, Damage] = {
    "cut-before-the-lease": lambda one: one.cut(one.lease),
    "cut-in-the-lease": lambda one: one.cut(one.lease + SOME),
    "cut-in-the-index": lambda one: one.cut(MIB + SECTOR),
    "zeros-over-the-lease": lambda one: one.write(one.lease, bytes(SLOT)),
    "garbage-over-the-lease": lambda one: one.write(one.lease, GARBAGE),
    "garbage-for-a-record": lambda one: one.write(one.record, GARBAGE[:SECTOR]),
    "garbage-for-the-index": lambda one: one.write(MIB, GARBAGE),
}
SAMPLE = "cut-in-the-lease"
ON_THE_WAY = ("cut-in-the-lease", "zeros-over-the-lease")


@pytest.fixture
def made(estates: Estates) -> Estate:
    return estates.of(SQLITE)


def ways() -> list[object]:
    return [pytest.param(one, marks=[] if one == SAMPLE else [pytest.mark.full]) for one in DAMAGE]


def copying(made: Estate) -> tuple[Copy, str, Volume]:
    scene = Copy(made, data=LONG)
    scene.prepare()
    command = scene.begin()
    in_the_middle(made)
    return scene, command, Volume.of(made, str(spec_of(made, command)["job"]))


def everything_is_kept(made: Estate, scene: Copy, command: str) -> None:
    """The verdict says why, and nothing was done because of it."""
    verdict = verdict_of(made, command)
    assert verdict["cause"] == "CORRUPT", verdict
    assert verdict["reason"]
    assert "lease" in verdict["action"]
    spec = spec_of(made, command)
    kept = {(one.kind, one.object) for one in made.rows.quarantine if one.command == command}
    assert {("volume", spec["volume"]), ("lease", spec["job"])} <= kept
    [volume] = [one for one in made.rows.volumes if one.id == spec["volume"]]
    assert made.volume_path(volume.domain, volume.id).exists()
    assert any(one.volume == volume.id and not one.shut_out for one in made.rows.attachments)
    assert scene.is_ok(scene.disk)


def asked_again(made: Estate, command: str) -> None:
    made.engine.post(f"{OURS}/commands/{command}/resolve")
    until(lambda: command_row(made, command).state != "unresolved")


def finished(made: Estate, scene: Copy, command: str, wanted: str) -> None:
    state = ended(made, command)
    assert state == wanted
    until(made.is_whole)
    scene.check(state)
    made.nothing_is_left()
    scene.clean()
    made.nothing_is_left()


@pytest.mark.parametrize("how", ways())
def test_a_copy_whose_lease_cannot_be_read_is_unresolved_until_it_can(
    made: Estate, how: str
) -> None:
    """It had succeeded."""
    scene, command, volume = copying(made)
    made.engine.kill()
    job = str(spec_of(made, command)["job"])
    until(lambda: any(job in host.jobs("done") for host in made.hosts))
    with volume.kept():
        DAMAGE[how](volume)
        made.start()
        assert ended(made, command) == "unresolved"
        everything_is_kept(made, scene, command)
    asked_again(made, command)
    finished(made, scene, command, "succeeded")


@pytest.mark.full
@pytest.mark.parametrize("how", ON_THE_WAY)
def test_a_copy_that_loses_its_lease_volume_on_the_way_has_failed(made: Estate, how: str) -> None:
    """It cannot record that it succeeded, whatever it has copied. Its sanlock could not give the
    lease back, which looks held when it is mended, until that host joins anew."""
    scene, command, volume = copying(made)
    with volume.kept():
        DAMAGE[how](volume)
        assert ended(made, command) == "unresolved"
        everything_is_kept(made, scene, command)
    asked_again(made, command)
    host = made.host(str(command_row(made, command).host))
    host.daemon.kill()
    host.daemon.start()
    finished(made, scene, command, "failed")
