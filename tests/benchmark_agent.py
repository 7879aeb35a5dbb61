"""The part of the benchmark that goes through the agent of a host, a process of its own."""

import os
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import msgspec
import trio

from host.folder import Ending, Folder, Spec
from jobs.status import Status
from protocol.client import Client, connected
from storage.domain import Domain
from tests.agent_service import Service, agent_folder, service
from tests.faults.agents import holder
from tests.faults.command import Command, children, command, until
from tests.faults.joined_domain import joined_domain
from tests.figure import HARDWARE, Figure, Work, bare, measured
from tests.sanlock_hosts import two_hosts
from tests.servers import users

MIB = 1 << 20
ROUNDS = 100
HELD = 20_000  # jobs that have ended
CALLS = 2000
GOAL = 75.0  # ms, for the whole flow of 1 MiB
MEMORY = 30.0  # MiB
LOOK = 1.0  # ms
RATE = 1000.0  # calls per second


def agent_figures(quick: bool) -> list[bool]:
    """Whether each ratio held. This process becomes one of another sanlock host for it."""
    with (
        tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as name,
        agent_folder() as short,
        command(Path(name)) as made,
    ):
        folder = Path(name)
        (folder / "hosts").mkdir()
        with (
            two_hosts(folder / "hosts") as hosts,
            joined_domain(hosts, folder / "mount", leases=250) as domain,
            service(made, short, f"storage.mounts={folder / 'mount'}") as agent,
        ):
            held = trio.run(_copies, agent, domain, made, quick)
        few = _hold(made, HELD)
        with service(made, short, "jobs.autodelete=-1") as agent:
            held += trio.run(_calls, agent, few)
    return held


# --- copies --------------------------------------------------------------------------------------


class Flow:
    """Copies by an agent, as an engine has them done."""

    def __init__(self, host: Client, sd_id: str) -> None:
        self._host = host
        self._sd_id = sd_id

    async def leased(self) -> str:
        """Lease created; the id of the job."""
        job_id = str(uuid.uuid4())
        metadata = {"type": "JOB", "job_id": job_id, "generation": 0, "job_status": "PENDING"}
        await self._host.call("Lease.create", {**self._lease(job_id), "metadata": metadata})
        return job_id

    async def begin(self, job_id: str, source: Path, target: Path, **more: Any) -> None:
        written = {**_end(target), **self._lease(job_id), "generation": 0}
        copy = {"job_id": job_id, "source": _end(source), "destination": written, **more}
        await self._host.call("SDM.copy_data", copy)

    async def ended(self, job_id: str) -> str:
        """The status of a job that has ended."""
        async for method, info in self._host.events:
            if method == f"|jobs|status|{job_id}" and Status(info["status"]).ended:
                return str(info["status"])
        raise AssertionError("the agent has gone")

    async def done(self, job_id: str, source: Path, target: Path) -> None:
        await self.begin(job_id, source, target)
        assert await self.ended(job_id) == "done"

    async def whole(self, source: Path, target: Path) -> None:
        job_id = await self.leased()
        await self.done(job_id, source, target)
        await self.forgotten(job_id)

    async def forgotten(self, job_id: str) -> None:
        await self._host.call("Lease.delete", self._lease(job_id))

    async def given_up(self, job_id: str) -> None:
        await self._host.call("Job.abort", {"job_id": job_id})
        await self.ended(job_id)

    def _lease(self, job_id: str) -> dict[str, Any]:
        return {"lease": {"sd_id": self._sd_id, "lease_id": job_id}}


def _end(path: Path) -> dict[str, Any]:
    return {"endpoint_type": "external", "url": str(path), "format": "raw"}


async def _copies(agent: Service, domain: Domain, made: Command, quick: bool) -> list[bool]:
    async with connected(agent.address, events=True) as host:
        flow = Flow(host, domain.id)
        held = [await measured(_small(flow, made)), await _memory(flow, made)]
        if not quick:
            held.append(await measured(_large(flow, made)))
    return held


def _small(flow: Flow, made: Command) -> Figure:
    """The whole flow: lease created, submitted, done, lease deleted."""
    source, target = _images(made.folder, MIB)

    async def work(number: int) -> None:
        await flow.whole(source, target)

    title = "whole flow by an agent, sanlock, 1 MiB"
    return Figure(title, "bare qemu-img and fsync", work, _bare(source, target), 12.0, ROUNDS, GOAL)


def _large(flow: Flow, made: Command) -> Figure:
    """The copy alone: submitted, done. Its lease is made before, and deleted before the next."""
    source, target = _images(made.folder, 1024 * MIB)
    job_id = ""

    async def lease(number: int) -> None:
        nonlocal job_id
        if job_id:
            await flow.forgotten(job_id)
        job_id = await flow.leased()

    async def work(number: int) -> None:
        await flow.done(job_id, source, target)

    floor = _bare(source, target)
    title = "copy by an agent, sanlock, 1 GiB"
    return Figure(title, "bare qemu-img and fsync", work, floor, 1.03, 15, before=lease)


def _bare(source: Path, target: Path) -> Work:
    async def floor(number: int) -> None:
        await trio.to_thread.run_sync(bare, source, target)

    return floor


def _images(folder: Path, size: int) -> tuple[Path, Path]:
    source, target = folder / f"{size}.source", folder / f"{size}.target"
    with source.open("wb") as file:
        for _ in range(0, size, MIB):
            file.write(os.urandom(MIB))
    target.touch()
    os.truncate(target, size)
    return source, target


async def _memory(flow: Flow, made: Command) -> bool:
    """What a worker has for itself in the middle of its copy."""
    source, target = _images(made.folder, 64 * MIB)
    job_id = await flow.leased()
    await flow.begin(job_id, source, target, limit=16 * MIB)
    await until(lambda: users(target))
    lock = made.home / "jobs" / job_id / "lock"
    worker = holder(lock)
    assert children(worker)
    mine = unshared(worker) / MIB
    await flow.given_up(job_id)
    return _said("memory of a worker, unshared", mine, "MiB", at_most=MEMORY)


def unshared(pid: int) -> int:
    """Bytes that a process shares with no other. Source: proc_pid_smaps(5)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Private_"))


# --- calls ---------------------------------------------------------------------------------------


def _hold(made: Command, jobs: int) -> list[str]:
    """Have a journal hold so many jobs that have ended; their ids."""
    ids = [str(uuid.uuid4()) for _ in range(jobs)]
    ending = msgspec.json.encode(Ending(status=Status.DONE, result={}, ended=time.time()))
    for order, job_id in enumerate(ids):
        folder = Folder(made.home / "jobs" / job_id)
        folder.path.mkdir(parents=True)
        spec = Spec(
            job_id=uuid.UUID(job_id),
            description="a job",
            source={},
            destination={},
            hardware_id=HARDWARE,
            created=time.time(),
            order=order,
        )
        (folder.path / "spec").write_bytes(msgspec.json.encode(spec))
        (folder.path / "ending").write_bytes(ending)
    return ids


async def _calls(agent: Service, ids: list[str]) -> list[bool]:
    async with connected(agent.address) as host:
        assert len(await host.call("Host.getJobs", {"job_ids": ids[:500]})) == 500

        async def work(number: int) -> None:
            for one in ids[number :: len(ids) // 100]:
                await host.call("Host.getJobs", {"job_ids": [one]})

        async def floor(number: int) -> None:
            for _ in range(100):
                await host.call("Host.ping2")

        name = f"100 looks among {len(ids):,} jobs"
        looks = await measured(Figure(name, "100 pings", work, floor, 1.5, 50, 100 * LOOK))
        times = []
        for _ in range(5):
            began = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for _ in range(16):
                    nursery.start_soon(_some, host, ids, CALLS // 16)
            times.append(CALLS / (time.perf_counter() - began))
    median = statistics.median(times)
    return [looks, _said("calls on one connection", median, "/s", at_least=RATE)]


async def _some(host: Client, ids: list[str], calls: int) -> None:
    for number in range(calls):
        await host.call("Host.getJobs", {"job_ids": [ids[number]]})


def _said(name: str, found: float, unit: str, *, at_most: float = 0, at_least: float = 0) -> bool:
    held = found >= at_least if at_least else found <= at_most
    goal = f"at least {at_least:g}" if at_least else f"at most {at_most:g}"
    print(f"{name:39} {found:9.2f} {unit}   goal {goal}  {'ok' if held else 'MISSED'}", flush=True)
    return held
