"""Hosts for an engine: an agent each, over a sanlock daemon of its own, on one machine."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import trio

from protocol.client import connected
from tests.agent_service import Service, agent_folder, service
from tests.cli.run import ROOT
from tests.faults.agents import comm
from tests.faults.command import Command, command
from tests.gate import Gate, gate
from tests.managed import left_in
from tests.sanlock_hosts import Host, running

WORKER, PARENT = "leasehold-job", "leasehold-spawn"
LOOK = 0.02  # seconds
PATIENCE = 60.0
T = TypeVar("T")


def until(
    condition: Callable[[], T],
    failure: Callable[[], object] = lambda: "",
    seconds: float = PATIENCE,
) -> T:
    """Wait until the condition holds, which the test has caused; what it answered then."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"it never came true: {failure()}"
        time.sleep(LOOK)
    return answer


@dataclass
class AgentHost:
    """daemon: its sanlock. command: the folder, home and processes of its agent.

    gate: where the engine comes in. settings: of the agent.
    """

    name: str
    daemon: Host
    command: Command
    sockets: Path
    settings: tuple[str, ...]
    gate: Gate
    agent: Service | None = None
    id: str = ""
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def hardware_id(self) -> str:
        return str(uuid.uuid5(uuid.NAMESPACE_DNS, self.name))

    @property
    def run(self) -> Path:
        """The folder with a link for each attached device."""
        return self.command.folder / "run"

    def start(self, **environment: str) -> None:
        """The agent; the daemon of the host runs."""
        state = self.command.folder / "state"
        own = [f"managed.run={self.run}", f"folders.state={state}", f"identity.name={self.name}"]
        own += [f"identity.hardware_id={self.hardware_id}", "storage.require_watchdog=false"]
        # All are on this machine, which may have an iSCSI name.
        own += [f"identity.initiator=iqn.2026-11.test.leasehold:{self.name}"]
        # LVM would look at all devices of this machine; some hang, in tests beside this one.
        own += ["localdisk.devices=/dev/null"]
        self.agent = self._stack.enter_context(
            service(
                self.command,
                self.sockets,
                *(*own, *self.settings),
                environment={**self.daemon.environment, **environment},
            )
        )

    def kill_agent(self) -> None:
        """Its workers go on."""
        assert self.agent
        self.agent.kill()
        self._stack.close()
        self.agent = None

    def kill_workers(self) -> int:
        """How many there were; their tools die with them."""
        pids = [process.pid for process in self.command.family()]
        return sum(_kill(pid) for pid in pids if comm(pid) == WORKER)

    def kill_tools(self) -> int:
        """Those that copy or compare."""
        names = (("qemu-img", "convert"), ("qemu-img", "compare"), ("nbdcopy",))
        found = [process for name in names for process in self.command.tools(*name)]
        return sum(_kill(process.pid) for process in found)

    def die(self) -> None:
        """The whole host: its daemon, its agent, its workers and their tools, in one moment."""
        family = list(self.command.family())
        self.daemon.signal(signal.SIGKILL)
        for process in family:
            _kill(process.pid)
        self.daemon.kill()
        self._stack.close()
        self.agent = None
        until(lambda: not self.command.family(), self.command.family)

    def revive(self) -> None:
        """After a reboot: it knows no connection any more, and no copy runs."""
        self.daemon.start()
        self.start()

    def close(self) -> None:
        self._stack.close()

    # --- what is seen of it -----------------------------------------------------------------------

    def call(self, method: str, **params: Any) -> Any:
        """A verb of the agent, past the gate."""
        assert self.agent
        return trio.run(_called, self.agent, method, params)

    def jobs(self, *statuses: str) -> list[str]:
        """The ids of its jobs in one of these states; none: of all."""
        told = self.call("Host.getJobs", job_ids=[])
        return [id for id, info in told.items() if not statuses or info["status"] in statuses]

    def infos(self, *statuses: str) -> list[dict[str, Any]]:
        told = self.call("Job.list", statuses=list(statuses))
        return list(told["jobs"])

    def attached(self) -> list[str]:
        return [one["vol_id"] for one in self.call("ManagedVolume.volumes_info")]

    def working(self) -> list[list[str]]:
        """The command lines of what runs for jobs: workers, tools, servers."""
        found = []
        for process, argv in self.command.family().items():
            name = comm(process.pid)
            if name and not _is_agent(name, argv):
                found.append([name, *argv])
        return found

    def left(self) -> list[str]:
        """Names in its run folder."""
        return left_in(self.run)

    def leasehold(self, *words: object, check: bool = True) -> Any:
        """The answer of the command on this host."""
        done = subprocess.run(
            [Path(sys.executable).with_name("leasehold"), *map(str, words), "--json"],
            env={**self.command.environment(self.daemon.environment), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout) if done.stdout else None


def _is_agent(name: str, argv: list[str]) -> bool:
    """The agent, or the warm parent of its workers."""
    return name == PARENT or (name != WORKER and any(one.endswith("leasehold") for one in argv[:2]))


async def _called(agent: Service, method: str, params: dict[str, Any]) -> Any:
    async with connected(agent.address) as client:
        return await client.call(method, params, timeout=PATIENCE)


def _kill(pid: int) -> int:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return 1
    return 0


@contextmanager
def agent_host(name: str, folder: Path, host_id: int, *settings: str) -> Iterator[AgentHost]:
    """A host whose agent runs; nothing of it is left afterwards. folder: of the test."""
    own = folder / name
    own.mkdir()
    with (
        agent_folder() as sockets,
        running(name, sockets, host_id) as daemon,
        command(own) as made,
        gate(sockets / "agent") as passed,
    ):
        host = AgentHost(name, daemon, made, sockets, settings, passed)
        try:
            host.start()
            yield host
        finally:
            host.close()
