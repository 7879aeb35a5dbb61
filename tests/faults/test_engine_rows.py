"""Every row of the decision table once for real: agents, sanlock, leases, and an engine that looks.

What an engine should find is made while it is not there: it was killed, and is started again. What
must change between two of its questions is changed while a gate holds the second.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.conformance.stores import Site
from tests.engine_estate import Estate, estate, facts_of, spec_of, verdict_of
from tests.engine_hosts import AgentHost, until
from tests.faults.engine_scenes import OURS, Copy, ended
from tests.faults.peers import Peer, peer
from tests.servers import MIB

pytestmark = pytest.mark.tools("sanlock", "qemu-nbd", "nbdcopy")

SLOW = 6 * MIB  # of these agents a copy of it takes six seconds
AGENTS = (f"jobs.rate={20 * MIB}", "jobs.concurrency=20")
CALL_TIME = 2.0
FENCED = {"job_status": "FENCED", "generation": 1}
SETTINGS = (f"hosts.call_time={CALL_TIME}",)


@dataclass
class Job:
    """A copy whose job has ended, as its host and its lease say, while no engine was there."""

    estate: Estate
    peer: Peer
    scene: Copy
    command: str
    id: str
    host: AgentHost

    def say(self, **keys: Any) -> None:
        """Change the record in its lease."""
        self.peer("take", self.id)
        self.peer("put", self.id, {**self.peer("load", self.id), **keys})
        self.peer("give", self.id)

    def is_done(self) -> bool:
        return self.id in self.host.jobs("done")

    def forget(self) -> None:
        """The host does not know the job any more."""
        self.host.call("Job.delete", job_id=self.id)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Another process holds the lease."""
        self.peer("take", self.id)
        try:
            yield
        finally:
            self.peer("give", self.id)

    @property
    def rows(self) -> set[str]:
        """Those that the judgement came by."""
        verdict = verdict_of(self.estate, self.command)
        return {verdict["row"], *(one["row"] for one in verdict["story"])}


Change = Callable[[Job], None]


def unchanged(job: Job) -> None:
    pass


def changed(**keys: Any) -> Change:
    def change(job: Job) -> None:
        job.say(**keys)

    return change


def forgotten(job: Job) -> None:
    job.forget()


def forgotten_and(**keys: Any) -> Change:
    def change(job: Job) -> None:
        job.forget()
        job.say(**keys)

    return change


# By row: what is done to a job that is done, and how its command must end then.
FOUND: dict[str, tuple[Change, str]] = {
    "2": (unchanged, "succeeded"),
    "2a": (changed(**FENCED), "failed"),
    "2c": (changed(job_status="PENDING", generation=0), "failed"),
    "2d": (changed(job_id="00000000-0000-4000-8000-000000000000"), "unresolved"),
    "6": (forgotten, "succeeded"),
    "7": (forgotten_and(job_status="FAILED", generation=0), "failed"),
    "8": (forgotten_and(job_status="PENDING", generation=0), "failed"),
}


def begun(made: Estate, other: Peer, count: int, data: int = SLOW) -> list[Job]:
    """Copies that run on their hosts; the engine was killed."""
    scenes = [Copy(made, data=data) for _ in range(count)]
    for scene in scenes:
        scene.prepare()
    begun = [(scene, scene.begin()) for scene in scenes]
    jobs = [(scene, command, str(spec_of(made, command)["job"])) for scene, command in begun]

    def there() -> dict[str, AgentHost]:
        running = {id: host for host in made.hosts for id in host.jobs("running")}
        return running if {id for *_, id in jobs} <= set(running) else {}

    hosts = until(there, lambda: made.engine.log[-4000:])
    # Else it would give the jobs to their hosts once more, which have forgotten them by then.
    until(lambda: all(facts_of(made, command).get("given") for _, command, _ in jobs))
    made.engine.kill()
    return [Job(made, other, scene, command, id, hosts[id]) for scene, command, id in jobs]


def done(jobs: list[Job]) -> None:
    for job in jobs:
        until(job.is_done)


def check(job: Job, row: str, state: str) -> None:
    assert ended(job.estate, job.command) == state
    assert row in job.rows, job.rows
    if state == "unresolved":
        job.estate.engine.post(f"{OURS}/commands/{job.command}/clear")
        assert ended(job.estate, job.command) == "failed"
        state = "failed"
    job.scene.check(state)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with estate(tmp_path_factory.mktemp("rows"), agents=AGENTS, settings=SETTINGS) as made:
        yield made


@pytest.fixture(scope="module")
def other(made: Estate) -> Iterator[Peer]:
    """A process of host b that does with leases what it is told."""
    dom_md = made.data / "dom_md"
    with peer(made.b.daemon, Site("sanlock", str(dom_md), str(dom_md / "ids"))) as process:
        yield process


def test_what_host_and_lease_say_is_judged_as_the_table_has_it(made: Estate, other: Peer) -> None:
    """Rows 2, 2a, 2c, 2d, 6, 7 and 8."""
    jobs = dict(zip(FOUND, begun(made, other, len(FOUND)), strict=True))
    done(list(jobs.values()))
    for row, job in jobs.items():
        FOUND[row][0](job)
    made.start()
    for row, job in jobs.items():
        check(job, row, FOUND[row][1])
    made.nothing_is_left()
    for job in jobs.values():
        job.scene.clean()


@pytest.mark.full
def test_a_job_that_runs_is_followed_and_one_that_was_aborted_has_failed(
    made: Estate, other: Peer
) -> None:
    """Rows 1 and 3."""
    runs, aborted = begun(made, other, 2, 3 * SLOW)
    aborted.host.call("Job.abort", job_id=aborted.id)
    until(lambda: aborted.id in aborted.host.jobs("aborted"))
    made.start()
    check(aborted, "3", "failed")
    check(runs, "1", "succeeded")
    made.nothing_is_left()
    for job in (runs, aborted):
        job.scene.clean()


@pytest.mark.full
def test_a_lease_that_is_held_is_waited_for(made: Estate, other: Peer) -> None:
    """Rows 2b, 5 and 5a: of a job that is done, and of two that are not known."""
    said, unknown, overdue = jobs = begun(made, other, 3)
    done(jobs)
    for job in (unknown, overdue):
        job.forget()
    with overdue.held():
        with said.held(), unknown.held():
            made.start()
            for job in (said, unknown):
                until(partial(held_was_seen, made, job))
        check(said, "2b", "succeeded")
        check(unknown, "5", "succeeded")
        until(lambda: asked(made, "Lease.fence", overdue))
    check(overdue, "5a", "succeeded")
    made.nothing_is_left()
    for job in jobs:
        job.scene.clean()


def held_was_seen(made: Estate, job: Job) -> bool:
    return asked(made, "Lease.status", job) > 1


def asked(made: Estate, method: str, job: Job) -> int:
    """How often the engine has asked any host this about a job."""
    return sum(host.gate.asked(method, job.id) for host in made.hosts)


@pytest.mark.full
def test_a_host_that_gives_no_answer_is_asked_again(made: Estate, other: Peer) -> None:
    """Row 4."""
    [job] = begun(made, other, 1)
    with job.host.gate.holding("Host.getJobs") as hold:
        made.start()
        hold.wait()
        time.sleep(2 * CALL_TIME)
    check(job, "4", "succeeded")
    job.scene.clean()
    made.nothing_is_left()


@pytest.mark.full
def test_a_lease_that_cannot_be_read_is_asked_for_again(made: Estate, other: Peer) -> None:
    """Row 9."""
    [job] = begun(made, other, 1)
    done([job])
    job.forget()
    xleases = made.data / "dom_md" / "xleases"
    away = xleases.with_suffix(".away")
    xleases.rename(away)
    try:
        made.start()
        until(lambda: asked(made, "Lease.status", job) > 1)
    finally:
        away.rename(xleases)
    check(job, "9", "succeeded")
    job.scene.clean()
    made.nothing_is_left()


@contextmanager
def fencing(made: Estate, job: Job) -> Iterator[None]:
    """Until the end of the body the engine's fence of this job waits."""
    with ExitStack() as stack:
        holds = [stack.enter_context(host.gate.holding("Lease.fence")) for host in made.hosts]
        made.start()
        until(lambda: any(one.came.is_set() for one in holds))
        yield


@pytest.mark.parametrize(
    "row",
    [pytest.param("10", marks=pytest.mark.full), "11", pytest.param("12", marks=pytest.mark.full)],
)
def test_a_fence_that_comes_too_late_is_refused(made: Estate, other: Peer, row: str) -> None:
    """The lease was free and PENDING when the engine looked."""
    [job] = begun(made, other, 1)
    done([job])
    job.forget()
    job.say(job_status="PENDING", generation=0)
    state = "unresolved" if row == "12" else "failed"
    with ExitStack() as held:
        with fencing(made, job):
            if row == "10":
                held.enter_context(job.held())
            elif row == "11":
                other("fence", job.id)
            else:
                job.say(generation=7)
        if row == "10":
            before = asked(made, "Lease.status", job)
            until(lambda: asked(made, "Lease.status", job) > before)
    check(job, row, state)
    job.scene.clean()
    made.nothing_is_left()
