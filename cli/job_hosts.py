"""The hosts of `leasehold job resolve`, as the poller of the engine wants them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import trio

from cli import answers
from cli.answers import Capabilities, Info, LeaseState
from cli.remote import Remote
from engine.answers import HostState
from protocol.client import HostError
from protocol.errors import CannotConnect, ConnectionLost, NoSuchJob
from protocol.jsonrpc import Forbidden
from protocol.messages import LeaseRef
from protocol.record import JOB_TYPE, Expectation

EMBEDDED_HOST = 1  # what the embedded store calls the one host that uses it


@dataclass
class AnsweringHosts:
    """Those that were named. Each call is a connection of its own."""

    remotes: Mapping[str, Remote]
    domains: dict[str, dict[str, answers.Membership]] = field(default_factory=dict)  # by host
    silent: dict[str, CannotConnect | ConnectionLost] = field(default_factory=dict)
    asking: trio.CancelScope = field(default_factory=trio.CancelScope)
    forbidden: HostError | None = None  # why `asking` was cancelled: we may not fence

    async def meet(self) -> None:
        """Find out who is there. Raises CannotConnect: nobody is."""
        async with trio.open_nursery() as nursery:
            for name in self.remotes:
                nursery.start_soon(self._meet, name)
        if not self.domains:
            raise next(iter(self.silent.values()))

    async def _meet(self, name: str) -> None:
        try:
            told = await self._call(name, "Host.getCapabilities", {})
        except (CannotConnect, ConnectionLost):
            return
        self.domains[name] = answers.read(told, Capabilities, name).domains

    def state(self, host: str) -> HostState:
        return HostState.NOT_UP if host in self.silent else HostState.UP

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        sd_id = str(lease.sd_id)
        return [
            host for host in self.domains if host not in self.silent and sd_id in self.domains[host]
        ]

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        sd_id = str(lease.sd_id)
        ids = {host: self.domains[host][sd_id].host_id for host in self.candidates(lease)}
        found = [host for host, own in ids.items() if own == host_id]
        if not found and host_id == EMBEDDED_HOST:
            found = [host for host, own in ids.items() if own is None]
        return found[0] if len(found) == 1 else None

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        told = await self._call(host, "Host.getJobs", {"job_ids": list(job_ids)})
        return answers.infos(told, host)

    async def info(self, host: str, job_id: str) -> Info | None:
        """What a host knows of the job; None: nothing, or it does not answer."""
        try:
            return answers.info(await self._call(host, "Job.info", {"job_id": job_id}), host)
        except (CannotConnect, ConnectionLost):
            return None
        except HostError as e:
            if e.number == NoSuchJob.code:
                return None
            raise

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        told = await self._call(host, "Lease.status", {"lease": _plain(lease)})
        answers.read(told, LeaseState, host)
        status: Mapping[str, Any] = told
        return status

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        metadata = {
            "type": JOB_TYPE,
            "job_id": expected.job_id,
            "generation": expected.generation,
            "job_status": expected.status.value,
        }
        params = {"lease": _plain(lease), "metadata": metadata}
        try:
            await self._call(host, "Lease.fence", params)
        except HostError as e:
            if e.number == Forbidden.code:
                self.forbidden = e
                self.asking.cancel()
            raise

    async def _call(self, host: str, method: str, params: dict[str, Any]) -> Any:
        try:
            answer = await self.remotes[host].once(method, params)
        except (CannotConnect, ConnectionLost) as e:
            self.silent[host] = e
            raise
        self.silent.pop(host, None)
        return answer


def _plain(lease: LeaseRef) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(lease)
    return plain
