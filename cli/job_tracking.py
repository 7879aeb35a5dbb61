"""What tracks a copy that the agent of a host does; the agent reaches it, we need not."""

from dataclasses import dataclass
from typing import Any, Protocol

import trio

from cli.answers import LeaseState, Task, VolumeState, error, read
from cli.output import explained
from cli.remote import Remote
from cli.tracking import FIRST_GENERATION, STATUS_TIME, lease_story, volume_story
from leases.verbs import LeaseStatus
from protocol.client import Client, HostError
from protocol.errors import BadOutput, Error, NoSuchLease
from protocol.messages import DivEndpoint
from protocol.record import JOB_TYPE, Expectation, JobRecord, JobStatus, next_generation
from protocol.reported import Reported
from storage.volume import LEGAL


class HostTracking(Protocol):
    """What a copy by a host has to do with either kind. Errors: as Remote.call."""

    @property
    def sd_id(self) -> str: ...

    @property
    def names(self) -> dict[str, str]:
        """The ids to ask for it."""
        ...

    async def generation(self, client: Client) -> int:
        """That the copy is to expect; nothing is changed."""
        ...

    async def make(self, client: Client) -> bool:
        """Make what tells of the copy; False: there was one already, or it needs none."""
        ...

    async def success(self, client: Client) -> tuple[bool, str]:
        """Is it held still, and what it says instead of a success; "" when it says that."""
        ...

    async def remove(self) -> None:
        """After a success, or when there is no job after all."""
        ...

    async def story(self) -> tuple[dict[str, Any], str]:
        """What it says after a job that did not succeed, for programs and for people."""
        ...


@dataclass(frozen=True)
class HostLease:
    """The lease of one job; its id is the job's."""

    remote: Remote
    sd_id: str
    job_id: str

    @property
    def names(self) -> dict[str, str]:
        return {"job_id": self.job_id, "sd_id": self.sd_id, "lease_id": self.job_id}

    @property
    def params(self) -> dict[str, Any]:
        return {"lease": {"sd_id": self.sd_id, "lease_id": self.job_id}}

    async def generation(self, client: Client) -> int:
        return FIRST_GENERATION

    async def make(self, client: Client) -> bool:
        """Raises LeaseExists (4002) and others, as the host tells them."""
        new = await self._missing(client)
        record = {
            "type": JOB_TYPE,
            "job_id": self.job_id,
            "generation": FIRST_GENERATION,
            "job_status": JobStatus.PENDING.value,
        }
        params = {**self.params, "metadata": record}
        await _finished(self.remote, client, "Lease.create", params)
        return new

    async def success(self, client: Client) -> tuple[bool, str]:
        answer = await self.remote.call(client, "Lease.status", self.params)
        found = read(answer, LeaseState, self.remote.name)
        if found.owners:
            return True, f"its lease is held by host {', '.join(map(str, found.owners))}"
        generation = next_generation(FIRST_GENERATION)
        expected = Expectation(self.job_id, generation, JobStatus.SUCCEEDED)
        try:
            JobRecord(found.metadata or {}).check(expected)
        except Error as e:
            return False, f"its lease says something else: {e}"
        return False, ""

    async def remove(self) -> None:
        async with self.remote.connected() as client:
            await _finished(self.remote, client, "Lease.delete", self.params)

    async def story(self) -> tuple[dict[str, Any], str]:
        look = f"look with `leasehold job resolve {self.sd_id} {self.job_id}{self.remote.option}`"
        return lease_story(await self._told(), look)

    async def _missing(self, client: Client) -> bool:
        try:
            await self.remote.call(client, "Lease.status", self.params)
        except HostError as e:
            if e.number != NoSuchLease.code:
                raise
            return True
        return False

    async def _told(self) -> LeaseStatus | str:
        """The status of the lease after the job, or why it cannot be told in a few seconds."""
        with trio.move_on_after(STATUS_TIME):
            try:
                answer = await self.remote.once("Lease.status", self.params)
                found = read(answer, LeaseState, self.remote.name)
            except Error as e:
                return explained(e)
            return LeaseStatus(found.owners, found.version or 0, found.metadata)
        return f"no answer in {STATUS_TIME:g} s"


@dataclass(frozen=True)
class HostVolume:
    """The legality and generation of a target volume."""

    remote: Remote
    target: DivEndpoint
    job_id: str

    @property
    def sd_id(self) -> str:
        return str(self.target.sd_id)

    @property
    def names(self) -> dict[str, str]:
        target = self.target
        ids = {"img_id": str(target.img_id), "vol_id": str(target.vol_id)}
        return {"job_id": self.job_id, "sd_id": self.sd_id, **ids}

    @property
    def params(self) -> dict[str, str]:
        _, sd_id, img_id, vol_id = self.names.values()
        return {"storagedomainID": sd_id, "imageID": img_id, "volumeID": vol_id}

    async def generation(self, client: Client) -> int:
        answer = await self.remote.call(client, "Volume.getInfo", self.params)
        return read(answer, VolumeState, self.remote.name).generation

    async def make(self, client: Client) -> bool:
        return False

    async def success(self, client: Client) -> tuple[bool, str]:
        answer = await self.remote.call(client, "Volume.getInfo", self.params)
        legality = read(answer, VolumeState, self.remote.name).legality
        return False, "" if legality == LEGAL else f"its volume is {legality}"

    async def remove(self) -> None:
        """A volume keeps what it says."""

    async def story(self) -> tuple[dict[str, Any], str]:
        look = f"look with `leasehold volume info {' '.join(list(self.names.values())[1:])}`"
        try:
            answer = await self.remote.once("Volume.getInfo", self.params)
            found = read(answer, VolumeState, self.remote.name)
        except Error:
            return {}, f"its volume could not be read; {look}"
        return volume_story(found.legality, found.generation, look)


async def _finished(remote: Remote, client: Client, method: str, params: dict[str, Any]) -> None:
    """Call a verb that returns a task, which has ended then. Raises its error too."""
    task_id = await remote.call(client, method, params)
    if not isinstance(task_id, str):
        raise BadOutput(remote.name, f"{method} returned no id of a task: {task_id!r:.80}")
    answer = await remote.call(client, "Task.getStatus", {"taskID": task_id})
    ended = read(answer, Task, remote.name)
    if ended.code:
        raise Reported(error(ended.error or {"code": ended.code, "message": ended.message}))
