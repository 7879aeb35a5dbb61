"""The job process dies: no other host gets its lease while a process of the job can still write."""

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from leases import verbs
from leases.sanlock_store import SanlockStore
from storage import domain
from tests.conformance.stores import Site
from tests.faults import writing
from tests.faults.command import Command, Process, Running, command, new_job_id, until
from tests.faults.joined_domain import joined_domain
from tests.faults.peers import Peer, peer
from tests.faults.roads import DATA, LIMIT, ROADS, Ends, Road, ends
from tests.sanlock_hosts import Hosts

pytestmark = pytest.mark.tools("sanlock", "qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo", "setpriv")
STARTUP = 0.8  # seconds in which a command is sure to be beginning
TAIL = 0.1  # seconds after the tool in which the result is recorded


@dataclass(frozen=True)
class Rival:
    """A process of host B, and the domain that it shares with host A, which the test is on."""

    domain: domain.Domain
    store: SanlockStore
    peer: Peer


@pytest.fixture(scope="module")
def rival(hosts: Hosts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rival]:
    with joined_domain(hosts, tmp_path_factory.mktemp("mount")) as made:
        site = Site("sanlock", str(Path(made.xleases).parent), made.ids)
        store = SanlockStore(made.id, made.xleases, made.ids)
        with peer(hosts.b, site) as other:
            yield Rival(made, store, other)


@pytest.fixture
def leasehold(tmp_path: Path, rival: Rival) -> Iterator[Command]:
    """The command on host A; its leases are in the shared domain."""
    with command(tmp_path) as made:
        made.home.mkdir()
        (made.home / "leases").symlink_to(Path(rival.domain.path).parent)
        yield made


@dataclass(frozen=True)
class Job:
    """A copy by the command, and a lease that is there before it."""

    leasehold: Command
    rival: Rival
    both: Ends
    id: str

    @contextmanager
    def started(self, *options: object, before: str | None = None) -> Iterator[Running]:
        order = ("copy", self.both.source, self.both.target, "--job-id", self.id, "--keep-lease")
        with self.leasehold.started(
            *order, "--store", "sanlock", *options, before=before
        ) as running:
            yield running

    def able(self) -> set[Process]:
        return writing.able(str(self.leasehold.temporary), self.both.target)

    async def owned(self) -> bool:
        return bool((await verbs.status(self.rival.store, self.id)).owners)

    def contend(self) -> None:
        """Host B begins to ask for the lease all the time."""
        place = (str(self.leasehold.temporary), self.both.target, list(self.able()))
        self.rival.peer.tell("until_taken", self.id, *place)
        assert self.rival.peer.hear() == "trying"

    async def fenced(self) -> None:
        """It is FENCED for good, and its lease is removed."""
        self.rival.peer("fence", self.id)
        found = await verbs.status(self.rival.store, self.id)
        assert found.metadata
        assert (found.metadata["job_status"], found.metadata["generation"]) == ("FENCED", 1)


@contextmanager
def job(road: Road, leasehold: Command, rival: Rival, folder: Path) -> Iterator[Job]:
    with ends(road, folder) as both:
        job_id = new_job_id()
        rival.peer("create", job_id)
        yield Job(leasehold, rival, both, job_id)
        rival.peer("delete", job_id)


async def kill_at_random(made: Job, chance: random.Random) -> None:
    both = made.both
    with made.started("--limit", LIMIT) as running:
        await random_moment(chance, running, made)
        covered = await made.owned()
        if covered:  # else host B would have it before the job
            made.contend()
        killed = time.monotonic()
        running.process.kill()
        if not covered:
            made.contend()
        taken = made.rival.peer.hear()
        written = both.disk.stat().st_mtime_ns
        await running.wait()
    await made.leasehold.alone()
    assert taken["writers"] == []
    if both.road == "qemu-img":  # what a server has accepted it may still write
        assert both.disk.stat().st_mtime_ns == written
    assert taken["keys"]["job_status"] in {"PENDING", "SUCCEEDED"}
    if taken["keys"]["job_status"] == "SUCCEEDED":
        assert both.equal
    else:
        await made.fenced()
    if covered:
        seconds = taken["taken"] - killed
        print(f"{both.road}: {seconds:.3f} s, {taken['tries']} attempts")  # pytest -rP shows it


async def random_moment(chance: random.Random, running: Running, made: Job) -> None:
    """Wait for a moment of the copy: somewhere in its beginning, its middle or its end."""
    part = chance.choice(["beginning", "middle", "middle", "end"])
    if part == "beginning":
        begin = time.monotonic() + chance.uniform(0, STARTUP)
        await until(lambda: running.over or time.monotonic() > begin)
    elif part == "middle":
        wanted = chance.uniform(0, DATA)
        await until(lambda: running.over or made.both.copied >= wanted)
    else:
        await until(lambda: running.over or made.both.writing(made.leasehold))
        await until(lambda: running.over or not made.both.writing(made.leasehold))
        begin = time.monotonic() + chance.uniform(0, TAIL)
        await until(lambda: running.over or time.monotonic() > begin)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("road", ROADS)
async def test_no_other_host_gets_the_lease_of_a_killed_job_before_its_writers_are_gone(
    road: Road,
    seed: int,
    leasehold: Command,
    rival: Rival,
    tmp_path: Path,
) -> None:
    with job(road, leasehold, rival, tmp_path) as made:
        await kill_at_random(made, random.Random(seed * 2 + ROADS.index(road)))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6, 46))
@pytest.mark.parametrize("road", ROADS)
async def test_no_other_host_gets_the_lease_of_a_killed_job_early_80_times(
    road: Road,
    seed: int,
    leasehold: Command,
    rival: Rival,
    tmp_path: Path,
) -> None:
    with job(road, leasehold, rival, tmp_path) as made:
        await kill_at_random(made, random.Random(seed * 2 + ROADS.index(road)))


# The tools do not ask to die with their parent.
SURVIVING = """
import processes.guard
assert processes.guard._SETPRIV == "/usr/bin/setpriv"
guard = processes.guard._guard
def surviving(*arguments):
    setpriv, option, signal, *rest = guard(*arguments)
    assert (option, signal) == ("--pdeathsig", "KILL")
    return rest
processes.guard._guard = surviving
"""


@pytest.mark.parametrize("road", ROADS)
async def test_a_tool_that_survives_its_job_keeps_other_hosts_out(
    road: Road, leasehold: Command, rival: Rival, tmp_path: Path
) -> None:
    with job(road, leasehold, rival, tmp_path) as made:
        both = made.both
        with made.started("--limit", LIMIT // 4, before=SURVIVING) as running:
            await until(lambda: both.copied)
            made.contend()
            await running.kill()
        before = both.copied
        assert before < DATA
        await until(lambda: both.copied > before)  # it goes on
        await until(lambda: not made.able())  # to its end
        for process in leasehold.family():  # the server that nbdcopy has read from covers, too
            os.kill(process.pid, signal.SIGKILL)
        taken = rival.peer.hear()
        assert both.copied == DATA
        assert taken["writers"] == []
        assert taken["tries"] > 10
        assert taken["keys"]["job_status"] == "PENDING"
        await leasehold.alone()
        await made.fenced()
