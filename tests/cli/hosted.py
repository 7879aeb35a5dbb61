"""The real command beside a real agent."""

import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from protocol.address import UnixAddress
from protocol.client import HostError, connected
from protocol.errors import NoSuchLease
from tests.agent_service import Service, agent_folder, service
from tests.cli.run import Cli, until
from tests.faults.command import Command, command

MIB = 1 << 20


class Agent:
    """An agent that can be started again after its end, with the same jobs and addresses."""

    def __init__(self, commands: Command, short: Path, settings: tuple[str, ...]) -> None:
        self._commands = commands
        self._short = short
        self._settings = settings
        self._life = ExitStack()
        self.service: Service | None = None

    @property
    def socket(self) -> str:
        return str(self._short / "agent")

    @property
    def url(self) -> str:
        return f"unix:{self.socket}"

    @property
    def monitor(self) -> str:
        """An address by which one may only look."""
        assert self.service is not None
        [ready] = [one for one in self.service.records if one.get("event") == "ready"]
        [door] = [one for one in ready["doors"] if one.startswith("127.")]
        return f"tcp://{door}"

    def start(self) -> None:
        self.service = self._life.enter_context(
            service(self._commands, self._short, *self._settings)
        )

    def stop(self) -> None:
        """In good order; its workers go on."""
        assert self.service is not None
        assert self.service.stop() == 0
        self._life.close()

    def kill(self) -> None:
        """The agent alone; also if it does not live."""
        self._life.close()


@dataclass(frozen=True)
class HostCli(Cli):
    """agent: what the commands talk to. sd: the one domain that it knows, and the home, too."""

    agent: Agent
    disks: Path
    sd: str

    @property
    def environment(self) -> dict[str, str]:
        return {**super().environment, "LEASEHOLD_HOST": self.agent.url}

    def disk(self, mib: int = 1) -> Path:
        """A new raw image that the agent may read."""
        path = self.disks / f"source-{uuid.uuid4()}"
        path.write_bytes(os.urandom(MIB) * mib)
        return path

    def target(self) -> Path:
        """Where there is nothing yet."""
        return self.disks / f"target-{uuid.uuid4()}"

    def call(self, method: str, /, **params: Any) -> Any:
        """The result of a verb of the agent, without the command."""

        async def called() -> Any:
            async with connected(UnixAddress(self.agent.socket)) as client:
                return await client.call(method, params)

        return trio.run(called)

    def submitted(self, source: Path, target: Path, **options: Any) -> str:
        """A copy of raw images that the agent was given; the id of its job."""
        job_id = self.forgotten()
        end = {"endpoint_type": "external", "format": "raw"}
        lease = {"sd_id": self.sd, "lease_id": job_id}
        destination = {**end, "url": str(target), "create": True, "lease": lease, "generation": 0}
        self.call(
            "SDM.copy_data",
            job_id=job_id,
            source={**end, "url": str(source)},
            destination=destination,
            **options,
        )
        return job_id

    def forgotten(self) -> str:
        """The id of a job of which only its lease knows, and that says PENDING."""
        job_id = str(uuid.uuid4())
        record = {"type": "JOB", "job_id": job_id, "generation": 0, "job_status": "PENDING"}
        lease = {"sd_id": self.sd, "lease_id": job_id}
        self.call("Lease.create", lease=lease, metadata=record)
        return job_id

    def slow(self) -> str:
        """A job that takes 40 s if nobody stops it."""
        job_id = self.submitted(self.disk(40), self.target(), limit=MIB)
        self.reached(job_id, "running")
        return job_id

    def finished(self) -> str:
        """A job that is done; its lease is still there."""
        job_id = self.submitted(self.disk(), self.target())
        self.reached(job_id, "done")
        return job_id

    def failed(self) -> str:
        """A job that has failed: its source is missing."""
        job_id = self.submitted(self.target(), self.target())
        self.reached(job_id, "failed")
        return job_id

    def info(self, job_id: str) -> dict[str, Any]:
        info: dict[str, Any] = self.call("Job.info", job_id=job_id)
        return info

    def abort(self, job_id: str) -> None:
        self.call("Job.abort", job_id=job_id)
        self.reached(job_id, "aborted")

    def reached(self, job_id: str, status: str) -> None:
        """Wait until the job has this status."""
        until(lambda: self.info(job_id)["status"] == status)

    def has_lease(self, job_id: str) -> bool:
        try:
            self._lease(job_id)
        except HostError as e:
            if e.number != NoSuchLease.code:
                raise
            return False
        return True

    def leases(self) -> list[str]:
        """The ids of the leases there are."""
        listed = self("lease", "list", self.sd, "--json").json["leases"]
        return [one["lease_id"] for one in listed]

    def record(self, job_id: str) -> dict[str, Any]:
        """In the free lease of a job."""
        record: dict[str, Any] = self._lease(job_id)["metadata"]
        return record

    def _lease(self, job_id: str) -> Any:
        return self.call("Lease.status", lease={"sd_id": self.sd, "lease_id": job_id})


@contextmanager
def hosted(folder: Path, *more: str) -> Iterator[HostCli]:
    """An agent with one domain, and the command beside it. more: settings of the agent."""
    disks, mount = folder / "disks", folder / "mnt"
    for place in (disks, mount):
        place.mkdir()
    with command(folder) as commands, agent_folder() as short:
        made = Cli(commands.home)("domain", "create", mount, "--leases", 100, "--json")
        assert made.code == 0, made
        settings = (
            f"folders.state={folder / 'state'}",
            f"endpoints.directories={disks}",
            f"storage.mounts={mount}",
            "listen.plain=127.0.0.1:0",
            "jobs.concurrency=8",
            "log.format=json",
            *more,
        )
        agent = Agent(commands, short, settings)
        agent.start()
        try:
            yield HostCli(commands.home, agent, disks, made.json["id"])
        finally:
            agent.kill()
