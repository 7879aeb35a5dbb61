"""Agents that may be killed, from the side of the test: tests/faults/agent_process.py.

Every process of an agent, however it was orphaned, has the TMPDIR of its test in its environment.
"""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from host.spawner import NAME as WARM_PARENT
from host.worker import NAME as WORKER
from tests.cli.run import ROOT
from tests.faults.command import Command, Process, children, until
from tests.faults.copies import HARDWARE_ID
from tests.faults.peers import Failed
from tests.servers import users


class AgentDied(Exception):
    """It was killed before it answered."""


@dataclass
class AgentProcess:
    """An agent, which is started again with the same jobs after it was killed."""

    folder: Path
    concurrency: int = 20
    total: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    popen: "subprocess.Popen[bytes] | None" = None

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs"

    @property
    def pid(self) -> int:
        assert self.popen is not None
        return self.popen.pid

    @property
    def family(self) -> dict[Process, list[str]]:
        """Its living processes and those of its former lives, and their arguments."""
        return Command(self.folder).family()

    def named(self, name: str) -> list[int]:
        """The processes of the family with this name, as ps shows it."""
        return sorted(one.pid for one in self.family if comm(one.pid) == name)

    @property
    def workers(self) -> list[int]:
        return self.named(WORKER)

    @property
    def warm_parents(self) -> list[int]:
        return self.named(WARM_PARENT)

    @property
    def tools(self) -> list[int]:
        """What the workers have started, and what has just been forked."""
        known = {self.popen.pid if self.popen else 0, *self.workers, *self.warm_parents}
        return sorted(one.pid for one in self.family if one.pid not in known)

    async def start(self) -> None:
        total = [str(self.total)] if self.total else []
        arguments = [str(self.jobs), str(self.concurrency), *total]
        with (self.folder / "agent.err").open("ab") as errors:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.agent_process", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                cwd=ROOT,
                env={**Command(self.folder).environment(), **self.environment},
            )
        assert await self._heard() == "ready"

    async def kill(self) -> None:
        """SIGKILL; only the agent itself."""
        assert self.popen is not None
        self.popen.kill()
        self._closed()

    async def stop(self) -> None:
        """End it in good order: its workers go on."""
        assert self.popen is not None
        assert self.popen.stdin is not None
        self.popen.stdin.close()
        popen = self.popen
        await until(lambda: popen.poll() is not None)
        assert popen.returncode == 0, (self.folder / "agent.err").read_text()
        self._closed()

    def _closed(self) -> None:
        assert self.popen is not None
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        self.popen = None

    async def __call__(self, command: str, *arguments: Any) -> Any:
        """Do a command to its end; its answer. Raises Failed, AgentDied."""
        assert self.popen is not None
        assert self.popen.stdin is not None
        line = json.dumps([command, *arguments]).encode() + b"\n"
        try:
            self.popen.stdin.write(line)
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise AgentDied from None
        return await self._heard()

    async def _heard(self) -> Any:
        assert self.popen is not None
        assert self.popen.stdout is not None
        line = await trio.to_thread.run_sync(self.popen.stdout.readline)
        if not line:
            raise AgentDied
        heard = json.loads(line)
        if "error" in heard:
            raise Failed(heard["error"], heard["text"])
        return heard["answer"]

    async def status(self, job_id: str) -> str:
        return str((await self("infos"))[job_id]["status"])

    async def reached(self, job_id: str, *statuses: str) -> dict[str, Any]:
        """Wait until the job has one of these states; its info."""
        while True:
            info: dict[str, Any] = (await self("infos"))[job_id]
            if info["status"] in statuses:
                return info
            assert info["status"] not in {"done", "failed", "aborted"}, info
            await trio.sleep(0.01)


@contextmanager
def agent_process(folder: Path, **options: Any) -> Iterator[AgentProcess]:
    """An agent that is not started yet; nothing of it is left after the body."""
    made = AgentProcess(folder, **options)
    Command(folder).temporary.mkdir()
    try:
        yield made
    finally:
        if made.popen is not None:
            made.popen.kill()
            made._closed()
        deadline = time.monotonic() + 10
        while (left := made.family) and time.monotonic() < deadline:
            for process in left:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            time.sleep(0.01)


def comm(pid: int) -> str:
    """The name of a process; empty: it is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    return ""


def holder(lock: Path) -> int:
    """The worker whose job has this lock. What it has just forked looks like it, until it has
    become a tool."""
    found = {pid for pid in users(lock) if comm(pid) == WORKER}
    [pid] = found - {child for pid in found for child in children(pid)}
    return pid


def spec(
    sd_id: str, domain: str, source: Path, target: Path, job_id: str, **options: Any
) -> dict[str, Any]:
    """What to submit for a copy of raw files."""
    lease = {"sd_id": sd_id, "lease_id": job_id}
    return {
        "job_id": job_id,
        "description": f"copy {source.name}",
        "source": {"endpoint_type": "external", "url": str(source), "format": "raw"},
        "destination": {
            **{"endpoint_type": "external", "url": str(target), "format": "raw"},
            **{"lease": lease, "generation": 0},
        },
        "domains": {sd_id: domain},
        "hardware_id": HARDWARE_ID,
        "created": time.time(),
        **options,
    }


def new_id() -> str:
    return str(uuid.uuid4())
