"""The part of the benchmark that goes through the engine, a process of its own."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

from engine.db.database import Database
from engine.db.secrets import key_of
from engine.fleet import Fleet, fleet
from engine.judgement import Watch
from engine.lease_poller import ExternalLeasePoller
from protocol.messages import LeaseRef
from tests.agent_service import agent_folder
from tests.cli.run import ROOT
from tests.conformance.stores import Site
from tests.engine_estate import Estate, estate, spec_of
from tests.engine_rows import finished_commands, host_rows
from tests.faults.engine_scenes import Copy, in_the_middle
from tests.faults.peers import peer
from tests.servers import MIB

HOSTS, JOBS, ROUNDS = 20, 1000, 10
ROUND = 0.2  # seconds of one core for a round
FINISHED = 10_000  # commands
PAGE = 50.0  # ms
PAGES = ("jobs", "jobs?max=100", "disks", "events?max=100")
OVERHEAD = 1.5  # seconds, of a copy of 1 GiB
COPIES = 5
DEATH = 1.15  # of what sanlock itself needs


def engine_figures(quick: bool) -> list[bool]:
    """Whether each goal was reached."""
    held = [trio.run(_round)]
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        with estate(folder) as made:
            held.append(_pages(made))
            if not quick:
                held.append(_overhead(made))
    if not quick:
        with tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as name:
            rate = (f"jobs.rate={20 * MIB}", "jobs.concurrency=2")
            with estate(Path(name), agents=rate) as made:
                held.append(_death(made))
    return held


def _said(name: str, value: float, unit: str, at_most: float, note: str = "") -> bool:
    held = value <= at_most
    said = "ok" if held else "MISSED"
    print(f"{name:39} {value:9.2f} {unit:4} at most {at_most:g}  {said}{note}", flush=True)
    return held


# --- polling --------------------------------------------------------------------------------------


class Counted:
    """Hosts that count the calls of Host.getJobs."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fleet, name)

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        self.calls += 1
        return await self._fleet.jobs(host, job_ids)


async def _round() -> bool:
    """1000 jobs that run, on 20 hosts, which are stand-ins behind real sockets."""
    with (
        agent_folder() as folder,
        _stand_ins(folder),
        tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as name,
    ):
        url = f"sqlite:///{name}/engine.sqlite"
        async with Database.opened(url, key=key_of(Path(name, "key"))) as database:
            ids = await database.write(lambda c: host_rows(c, folder, HOSTS))
            async with fleet(database) as hosts:
                with trio.fail_after(30):
                    while len(hosts.up()) < HOSTS:  # noqa: ASYNC110 - it is told to watchers only
                        await trio.sleep(0.05)
                seconds, calls = await _polled(Counted(hosts), ids)
    name = f"a round, {JOBS:,} jobs on {HOSTS} hosts"
    told = f"  ({calls:g} calls, at most {HOSTS}; the hosts are stand-ins)"
    return _said(name, 1000 * seconds, "ms", 1000 * ROUND, told) and calls <= HOSTS


async def _polled(hosts: Counted, ids: list[str]) -> tuple[float, float]:
    """Seconds of CPU and calls, of one round in the middle of many."""
    pause = 0.5
    async with trio.open_nursery() as nursery:
        poller = ExternalLeasePoller(hosts, nursery, pauses=(pause,))
        for number in range(JOBS):
            job = str(uuid.uuid4())
            watch = Watch(job, ids[number % HOSTS], LeaseRef(uuid.uuid4(), job), 0)
            nursery.start_soon(poller.judge, watch)
        await trio.sleep(4 * pause)
        before, began = hosts.calls, time.process_time()
        with trio.fail_after(60):
            while hosts.calls < before + ROUNDS * HOSTS:  # noqa: ASYNC110 - they are not told
                await trio.sleep(0.01)
        spent, calls = time.process_time() - began, hosts.calls - before
        nursery.cancel_scope.cancel()
    rounds = calls / HOSTS
    return spent / rounds, calls / round(rounds)


@contextmanager
def _stand_ins(folder: Path) -> Iterator[None]:
    argv = [sys.executable, "-m", "tests.benchmark_hosts", str(folder), str(HOSTS)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            yield
        finally:
            process.kill()


# --- pages ----------------------------------------------------------------------------------------


def _pages(made: Estate) -> bool:
    """Pages of REST among many commands that have ended."""
    made.engine.stop()
    finished_commands(made.database, FINISHED)
    made.start()
    worst, slowest = 0.0, ""
    for page in PAGES:
        times = []
        for _ in range(30):
            began = time.perf_counter()
            made.engine.get(page)
            times.append(1000 * (time.perf_counter() - began))
        if (median := statistics.median(times)) > worst:
            worst, slowest = median, page
    name = f"a page of REST among {FINISHED:,} jobs"
    return _said(name, worst, "ms", PAGE, f"  ({slowest}, the slowest of {len(PAGES)})")


# --- a copy ---------------------------------------------------------------------------------------


def _overhead(made: Estate) -> bool:
    """Of 1 GiB: from the call of REST to its end, over the same copy by the agent alone."""
    scene = Copy(made, data=0)
    scene.prepare()
    with made.path(scene.disk).open("r+b") as file:
        for _ in range(1024):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    differences = []
    for number in range(COPIES):
        scene.name = f"copy-{number}"
        began = time.perf_counter()
        command = scene.begin()
        made.engine.succeeded(command)
        took = time.perf_counter() - began
        job = job_of(made, command)
        infos = [one for host in made.hosts for one in host.infos() if one["id"] == job]
        differences.append(took - (infos[0]["ended"] - infos[0]["created"]))
        made.remove(*scene.copies())
    scene.clean()
    name = "a copy of 1 GiB, REST over the agent"
    return _said(name, statistics.median(differences), "s", OVERHEAD)


def job_of(made: Estate, command: str) -> str:
    return str(spec_of(made, command)["job"])


# --- a death --------------------------------------------------------------------------------------


def _death(made: Estate) -> bool:
    """From the death of a host to the end of its command, over what sanlock itself needs."""
    scene = Copy(made, data=200 * MIB)
    scene.prepare()
    command = scene.begin()
    victim = in_the_middle(made)
    other = next(host for host in made.hosts if host is not victim)
    dom_md = made.data / "dom_md"
    site = Site("sanlock", str(dom_md), str(dom_md / "ids"))
    with peer(other.daemon, site) as watcher:
        victim.die()
        watcher.tell("until_free", job_of(made, command))
        began = time.perf_counter()
        made.engine.ended(command, 300)
        took = time.perf_counter() - began
        floor = watcher.hear()
    victim.revive()
    print(f"{'  sanlock calls its lease free after':39} {floor:9.2f} s")
    name = "a dead host, to the end of its command"
    return _said(name, took / floor, "", DEATH, f"  ({took:.1f} s)")
