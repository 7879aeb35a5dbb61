"""Judges jobs whose destination is a volume of a storage domain: its generation tells the end."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol
from uuid import UUID

import trio

from engine.answers import LeaseView
from engine.judgement import Verdict, Watch
from engine.lease_poller import ExternalLeasePoller
from engine.volume_advice import advice
from engine.volume_judgement import fence_generation, lease_code, volume_view
from protocol.client import HostError
from protocol.errors import Error
from protocol.messages import LeaseRef
from protocol.reported import Reported

FIRST_PAUSE = 0.05  # seconds until it is asked whether a fence is done; twice as long each time
LONGEST_PAUSE = 1.0


@dataclass(frozen=True)
class VolumeWatch:
    """A job to judge. host: that was asked to run it; None: nobody knows any more.

    generation: 0 to 999, of the volume before the job, which the job was told too. The volume was
    made ILLEGAL (Volume.create with legal=false), else another change of it may look like success.
    """

    job_id: str
    host: str | None
    sd_id: UUID
    img_id: UUID
    vol_id: UUID
    generation: int

    @property
    def watch(self) -> Watch:
        """The same with the lease of the volume, whose name is the id of the volume."""
        lease = LeaseRef(self.sd_id, str(self.vol_id))
        return Watch(self.job_id, self.host, lease, self.generation)


class VolumeHosts(Protocol):
    """What is needed of engine.fleet.Fleet."""

    def candidates(self, lease: LeaseRef) -> Sequence[str]: ...

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None: ...

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]: ...

    async def call(
        self, host: str, verb: str, params: Mapping[str, Any] | None = None, *, wait: float = 0.0
    ) -> Any: ...


class VolumePoller:
    """As ExternalLeasePoller, and in its rounds: a host is asked once for all of its jobs."""

    def __init__(self, poller: ExternalLeasePoller, hosts: VolumeHosts) -> None:
        self._poller = poller
        self._hosts = hosts

    async def judge(self, watch: VolumeWatch) -> Verdict:
        """As ExternalLeasePoller.judge."""
        record = VolumeRecord(self._hosts, watch)
        return told(await self._poller.judge(watch.watch, record=record), watch)


def told(verdict: Verdict, watch: VolumeWatch) -> Verdict:
    """The verdict with words about a volume in the place of those about a lease."""
    if verdict.cause is None:
        return verdict
    own = advice(verdict.cause)
    ids = {"sd": str(watch.sd_id), "image": str(watch.img_id), "volume": str(watch.vol_id)}
    return replace(verdict, reason=own.reason, action=own.action.format(**ids))


@dataclass(frozen=True)
class VolumeRecord:
    """The metadata of the volume, as engine.record.Record."""

    hosts: VolumeHosts
    watch: VolumeWatch

    def candidates(self) -> Sequence[str]:
        return self.hosts.candidates(self.watch.watch.lease)

    async def owner(self, host_id: int) -> str | None:
        return await self.hosts.owner(self.watch.watch.lease, host_id)

    async def look(self, host: str) -> LeaseView:
        """Raises as Fleet.call; HostError with the codes of a lease."""
        params = {
            "storagedomainID": str(self.watch.sd_id),
            "imageID": str(self.watch.img_id),
            "volumeID": str(self.watch.vol_id),
        }
        return volume_view(
            await self._call(host, "Volume.getInfo", params), self.watch.watch.expected
        )

    async def fence(self, host: str) -> None:
        """Move the generation on, so that the job is refused; returns when it is done.

        It is a job of the host, which forgets it when its agent is started again: then whether it
        was done is not known, and the volume tells.
        """
        job_id = str(uuid.uuid4())
        volume = {
            "sd_id": str(self.watch.sd_id),
            "img_id": str(self.watch.img_id),
            "vol_id": str(self.watch.vol_id),
            "generation": self.watch.generation,
        }
        wanted = {"generation": fence_generation(self.watch.generation)}
        params = {"job_id": job_id, "vol_info": volume, "vol_attr": wanted}
        await self._call(host, "SDM.update_volume", params)
        pause = FIRST_PAUSE
        while not _is_done(await self.hosts.jobs(host, [job_id]), job_id):
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _call(self, host: str, verb: str, params: Mapping[str, Any]) -> Any:
        try:
            return await self.hosts.call(host, verb, params, wait=0.0)
        except HostError as e:
            raise _of_lease(e.rpc) from e


def _is_done(told: object, job_id: str) -> bool:
    """Raises with the code of a lease: it failed; 100: nobody knows."""
    info = told.get(job_id) if isinstance(told, Mapping) else None
    status = info.get("status") if isinstance(info, Mapping) else None
    if status in ("pending", "running", "aborting"):
        return False
    if status == "done":
        return True
    error = info.get("error") if isinstance(info, Mapping) else None
    if status == "failed" and isinstance(error, Mapping):
        raise _of_lease(error)
    raise Reported({"code": Error.code, "message": f"the fence is {status!r:.40}, not done"})


def _of_lease(rpc: Mapping[str, Any]) -> Reported:
    code = rpc.get("code")
    number = lease_code(code) if type(code) is int else Error.code
    return Reported({**rpc, "code": number, "message": str(rpc.get("message", ""))})
