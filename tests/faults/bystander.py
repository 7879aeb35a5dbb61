"""What must not notice an attack: copies that run, a client that was there before, the agent.

All is seen from outside: by calls, and in /proc.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire_client import Certificate, Client, Refused, client, unix_socket
from tests.host.authority import Site, sites
from tests.served import Served, served, until
from tests.servers import pattern

__all__ = ["sites"]

MIB = 1 << 20
SIZE = 8 * MIB
PACE = 2 * MIB  # bytes per second of a copy: longer than any attack needs, but for a few
BAD_PARAMETER = 1000
SD = "44444444-5555-4666-8777-888888888888"
# What one attack may add to the memory of the agent, unless it fills what clients may fill.
ORDINARY = 64 * MIB
# `memory` of docs/wire.md: half frames, requests and unread answers of all clients together; and
# half as much for what Python keeps beside them.
FULL = 256 * MIB * 3 // 2


@dataclass
class Bystander:
    """copies: the jobs that run, one of which is in its first half."""

    agent: Served
    watcher: Client
    copies: list[str] = field(default_factory=list)

    @property
    def source(self) -> Path:
        return self.agent.disks / "bystander"

    def target(self, job_id: str) -> Path:
        return self.agent.disks / f"{job_id}.target"

    def settle(self) -> None:
        """Make a domain and a source."""
        self.source.write_bytes(pattern(SIZE, seed=7))
        wanted = {"storagedomainID": SD, "path": str(self.agent.mount), "leases": 60}
        self.watcher.call("StorageDomain.create", **wanted)

    def lease(self) -> str:
        """A new one, PENDING, with the id of a new job."""
        job_id = str(uuid.uuid4())
        metadata = {"type": "JOB", "job_id": job_id, "job_status": "PENDING", "generation": 0}
        self.watcher.done("Lease.create", lease=self.name(job_id), metadata=metadata)
        return job_id

    def name(self, job_id: str) -> dict[str, str]:
        return {"sd_id": SD, "lease_id": job_id}

    def wanted(self, job_id: str, **changed: Any) -> dict[str, Any]:
        """The parameters of a copy; changed: `source__url` and others, by place."""
        self.target(job_id).write_bytes(b"\xee" * SIZE)
        end = {"endpoint_type": "external", "format": "raw"}
        lease = {"lease": self.name(job_id), "generation": 0}
        made: dict[str, Any] = {
            "job_id": job_id,
            "source": {**end, "url": str(self.source)},
            "destination": {**end, **lease, "url": str(self.target(job_id))},
        }
        for place, value in changed.items():
            role, _, key = place.partition("__")
            if key:
                made[role][key] = value
            else:
                made[role] = value
        return made

    def state(self, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.watcher.call("Host.getJobs", job_ids=[job_id])[job_id]
        return found

    def copying(self) -> None:
        """Have a copy that is in its first half."""
        if any(self._is_young(job_id) for job_id in self.copies):
            return
        job_id = self.lease()
        self.watcher.call("SDM.copy_data", **self.wanted(job_id), limit=PACE)
        self.copies.append(job_id)
        until(lambda: self.state(job_id).get("bytes", 0), lambda: self.state(job_id))

    def _is_young(self, job_id: str) -> bool:
        state = self.state(job_id)
        return bool(state["status"] == "running" and state.get("bytes", 0) < SIZE // 2)

    def check(self, *, end: bool = False) -> None:
        """Every copy runs, or has ended well; end: it has ended."""
        for job_id in list(self.copies):
            state = self.watcher.ended(job_id) if end else self.state(job_id)
            assert state["status"] in ("running", "done"), state
            if state["status"] == "done":
                self._arrived(job_id)
                self.copies.remove(job_id)

    def _arrived(self, job_id: str) -> None:
        assert self.target(job_id).read_bytes() == self.source.read_bytes()
        status = self.watcher.call("Lease.status", lease=self.name(job_id))
        assert status["owners"] == []
        assert (status["metadata"]["job_status"], status["metadata"]["generation"]) == (
            "SUCCEEDED",
            1,
        )
        self.watcher.done("Lease.delete", lease=self.name(job_id))
        self.target(job_id).unlink()

    @contextmanager
    def unhurt(self, more: int = ORDINARY) -> Iterator[None]:
        """Nobody notices the attack in the body. more: bytes that the agent may need for it."""
        agent = self.agent
        self.copying()
        descriptors, memory = agent.descriptors, agent.memory
        agent.forget_peak()
        yield
        assert agent.lives, agent.log[-2000:]
        until(lambda: agent.descriptors <= descriptors, lambda: (descriptors, agent.descriptors))
        with client(unix_socket(agent.socket)) as somebody:
            assert somebody.call("Host.ping2") is True
        assert self.watcher.call("Host.ping2") is True
        self.check()
        grown = agent.peak - memory
        assert grown <= more, f"{grown >> 20} MiB more, of {more >> 20} that are allowed"


@contextmanager
def bystander(agent: Served) -> Iterator[Bystander]:
    """At the end of the body every copy has ended, and the agent was never surprised."""
    with client(unix_socket(agent.socket)) as watcher:
        made = Bystander(agent, watcher)
        made.settle()
        yield made
        made.check(end=True)
    agent.stop()


# --- for test modules that attack one agent ---


@pytest.fixture(scope="module")
def agent(sites: tuple[Site, Site], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    files = Certificate(*sites[0].files("host"))
    with served(
        tmp_path_factory.mktemp("agent"),
        listen__tls="127.0.0.1:0",
        certificates__ca=files.ca,
        certificates__certificate=files.certificate,
        certificates__key=files.key,
        endpoints__schemes="path,nbd+unix",
        jobs__concurrency=12,
    ) as made:
        yield made


@pytest.fixture(scope="module")
def others(agent: Served) -> Iterator[Bystander]:
    with bystander(agent) as made:
        yield made


@pytest.fixture
def attacker(agent: Served, others: Bystander) -> Iterator[Client]:
    """Whatever it was about to do, afterwards jobs are started again."""
    with client(unix_socket(agent.socket), events=False) as made:
        yield made
    others.watcher.call("Host.resume")


def refusal(attacker: Client, verb: str, **params: Any) -> int:
    """The code of the error; 0 for a result."""
    try:
        attacker.call(verb, **params)
    except Refused as e:
        return e.code
    return 0
