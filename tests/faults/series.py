"""A series of random kills while copies run, and what must be true at its end."""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from host.journal import Journal
from storage.domain import Domain
from tests.cli.run import ROOT
from tests.faults.agents import AgentDied, AgentProcess, new_id, spec
from tests.faults.peers import Failed
from tests.sanlock_hosts import Host
from tests.servers import pattern

SIZE = 3 << 20
LIMIT = 1 << 20  # bytes per second: a copy takes about as long as twenty kills
MOST = 450  # jobs, of which each has its lease
PAUSE = 0.3  # seconds between two kills, at most
ENDED = {"done", "failed", "aborted"}
Status = tuple[list[int], dict[str, Any] | None]  # owners, metadata


@dataclass(frozen=True)
class Leases:
    """Leases from the outside. status: owners, and the metadata of a free one."""

    create: Callable[[str], Awaitable[None]]
    status: Callable[[str], Awaitable[Status]]


@dataclass
class Series:
    """`copies` at once, of which as many are begun as ended, until `kills` were done."""

    agent: AgentProcess
    domain: Domain
    leases: Leases
    seed: int
    copies: int
    kills: int
    daemon: Host | None = None
    submitted: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    aborted: set[str] = field(default_factory=set)
    killed: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    async def run(self) -> dict[str, dict[str, Any]]:
        """Do it all; the jobs by id at the end."""
        await self.agent.start()
        for _ in range(self.copies):
            await self._submit()
        await self._running()
        while self.killed.total() < self.kills:
            await trio.sleep(self.random.uniform(0, PAUSE))
            await self._kill()
            await self._top_up()
        found = await self._all_ended()
        await self._check(found)
        self.ended.update(info["status"] for info in found.values())
        assert self.ended["done"], self.ended
        assert self.ended["failed"], self.ended
        await self.agent.stop()
        return found

    # --- what is done to it ---------------------------------------------------------------------

    async def _submit(self) -> None:
        job_id = new_id()
        source = self.agent.folder / f"{job_id}.source"
        target = self.agent.folder / f"{job_id}.target"
        source.write_bytes(pattern(SIZE, seed=self.random.randrange(1 << 30)))
        target.write_bytes(b"\xee" * SIZE)
        await self.leases.create(job_id)
        wanted = spec(self.domain.id, self.domain.path, source, target, job_id, limit=LIMIT)
        await self._asked("submit", wanted)
        self.submitted[job_id] = source, target

    async def _top_up(self) -> None:
        infos = await self._asked("infos")
        active = [one for one in self.submitted if infos[one]["status"] not in ENDED]
        if active and self.random.random() < 0.2:
            chosen = self.random.choice(active)
            with suppress(Failed):  # it has ended
                await self._asked("abort", chosen)
                self.aborted.add(chosen)
        # On a slow machine many end between two kills: the leases must last to the end.
        for _ in range(min(self.copies - len(active), MOST - len(self.submitted))):
            await self._submit()

    async def _asked(self, command: str, *arguments: Any) -> Any:
        """Of the agent, which is started again when it is gone."""
        while True:
            if self.agent.popen is None:
                await self.agent.start()
            try:
                return await self.agent(command, *arguments)
            except AgentDied:  # killed by the kernel, say: not by us, who know of it
                raise AssertionError((self.agent.folder / "agent.err").read_text()) from None

    async def _running(self) -> None:
        """Wait until every job has begun; on a slow machine the first ones have ended by then."""
        with trio.fail_after(200):
            while "pending" in await self._statuses():  # noqa: ASYNC110
                await trio.sleep(0.02)

    async def _statuses(self) -> set[str]:
        infos = await self._asked("infos")
        return {one["status"] for one in infos.values()}

    async def _kill(self) -> None:
        kinds = ["worker", "worker", "tool", "tool", "agent", "warm parent", "both"]
        kind = self.random.choice([*kinds, "daemon"] if self.daemon else kinds)
        if kind == "daemon":
            await self._kill_daemon()
        elif kind == "agent":
            if self.random.random() < 0.3:  # in the middle of a submit
                await self._submit_and_kill()
            else:
                await self.agent.kill()
        elif kind == "both":
            hit = [_killed(pid) for pid in (*self.agent.warm_parents, *self.agent.workers[:1])]
            if not any(hit):
                return
        else:
            found = {
                "worker": self.agent.workers,
                "tool": self.agent.tools,
                "warm parent": self.agent.warm_parents,
            }[kind]
            if not found or not _killed(self.random.choice(found)):
                return
        self.killed[kind] += 1

    async def _submit_and_kill(self) -> None:
        """The answer is never heard: the job may be there or not."""
        if self.agent.popen is None:
            await self.agent.start()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def submit() -> None:
                job_id = new_id()
                await self.leases.create(job_id)
                source, target = (self.agent.folder / f"{job_id}.{end}" for end in ("s", "t"))
                source.write_bytes(pattern(SIZE, seed=1))
                target.write_bytes(b"\xee" * SIZE)
                wanted = spec(self.domain.id, self.domain.path, source, target, job_id, limit=LIMIT)
                with suppress(AgentDied):
                    await self.agent("submit", wanted)

            await trio.sleep(self.random.uniform(0, 0.06))
            assert self.agent.popen is not None
            self.agent.popen.kill()
        await self.agent.kill()

    async def _kill_daemon(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        await trio.to_thread.run_sync(self.daemon.start)
        argv = ["--join", self.domain.path, str(self.daemon.host_id)]
        joining = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.agent_process", *argv],
            cwd=ROOT,
            env={**os.environ, **self.daemon.environment},
        )
        assert await trio.to_thread.run_sync(joining.wait) == 0

    # --- what must be true ----------------------------------------------------------------------

    async def _all_ended(self) -> dict[str, dict[str, Any]]:
        with trio.fail_after(200):
            while True:
                found: dict[str, dict[str, Any]] = await self._asked("infos")
                if all(info["status"] in ENDED for info in found.values()):
                    return found
                await trio.sleep(0.05)

    async def _check(self, found: dict[str, dict[str, Any]]) -> None:
        assert self.submitted.keys() <= found.keys(), "a job that was taken in is unknown"
        for job_id, info in found.items():
            said = await self._settled(job_id)
            name = f"seed {self.seed}: {info}, {said}"
            end = "source", "target"
            source, target = self.submitted.get(
                job_id, tuple(self.agent.folder / f"{job_id}.{one[0]}" for one in end)
            )
            if info["status"] == "done" or said[0] == "SUCCEEDED":
                # A release that fails after the success was recorded is an error: docs/failures.md.
                assert info["status"] == "done" or info["error"]["code"] == 660, name
                assert said == ("SUCCEEDED", 1), name
                assert source.read_bytes() == target.read_bytes(), name
            else:
                assert said in {("FAILED", 0), ("PENDING", 0)}, name
            if info["status"] == "aborted":
                assert job_id in self.aborted or job_id not in self.submitted, name
        ended = {entry.folder.job_id: entry.ending for entry in Journal(self.agent.jobs).read()}
        for job_id, info in found.items():
            ending = ended[job_id]
            assert ending is not None, info
            assert ending.status == info["status"], (ending, info)
        alone = {self.agent.pid, *self.agent.warm_parents}
        left = {one for one in self.agent.family if one.pid not in alone}
        assert not left, left

    async def _settled(self, job_id: str) -> tuple[str, int]:
        """job_status and generation of its lease, which must be free."""
        with trio.fail_after(30):
            while True:
                owners, metadata = await self.leases.status(job_id)
                if not owners:
                    assert metadata is not None
                    assert metadata["job_id"] == job_id
                    return metadata["job_status"], metadata["generation"]
                await trio.sleep(0.1)


def _killed(pid: int) -> bool:
    """SIGKILL; False: it has ended by itself."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False
