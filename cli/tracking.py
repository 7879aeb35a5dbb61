"""What tracks a copy: made or taken up before it, removed or left to tell what happened.

For an external target that is a lease of its own; a volume has its lease and its generation.
"""

import time
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID

import trio

from cli.lease_text import hosts, meaning, status_object
from cli.output import explained
from endpoints.div import CopyDataDivEndpoint
from endpoints.volume import owners
from leases import verbs
from leases.store import Store
from leases.verbs import LeaseStatus
from protocol.errors import AcquireLockFailure, Error, NoSuchLease
from protocol.messages import JobMetadata
from protocol.record import GENERATIONS, Expectation, JobRecord, JobStatus
from storage import volume
from storage.volume import Volume

FIRST_GENERATION = 0
STATUS_TIME = 5.0  # seconds for the lease to say what is recorded


class Tracking(Protocol):
    """What `leasehold copy` has to do with either kind."""

    @property
    def store(self) -> Store: ...

    @property
    def sd_id(self) -> str: ...

    @property
    def names(self) -> dict[str, str]:
        """The ids to ask for it."""
        ...

    async def take_up(self) -> int:
        """Make it, or find what a process that died left; returns the generation to expect."""
        ...

    async def remove(self) -> None:
        """After a success."""
        ...

    async def story(self) -> tuple[dict[str, Any], str]:
        """What it says after a job that did not succeed, for programs and for people."""
        ...


@dataclass(frozen=True)
class VolumeTracking:
    """The legality and generation of a target volume."""

    store: Store
    target: CopyDataDivEndpoint
    job_id: str

    @property
    def sd_id(self) -> str:
        return self.target.domain.id

    @property
    def names(self) -> dict[str, str]:
        target = self.target
        ids = {"sd_id": self.sd_id, "img_id": target.img_id, "vol_id": target.vol_id}
        return {"job_id": self.job_id, **ids}

    async def take_up(self) -> int:
        """Raises as storage.volume.read; AcquireLockFailure (651): it is being written."""
        found = await self._read()
        if await owners(self.store, found):
            raise AcquireLockFailure(f"volume {found.id}", "another copy to it is running")
        return found.metadata.generation

    async def remove(self) -> None:
        """A volume keeps what it says."""

    async def story(self) -> tuple[dict[str, Any], str]:
        look = f"look with `leasehold volume info {' '.join(list(self.names.values())[1:])}`"
        try:
            found = (await self._read()).metadata
        except (Error, OSError):
            return {}, f"its volume could not be read; {look}"
        return volume_story(found.legality, found.generation, look)

    async def _read(self) -> Volume:
        target = self.target
        return await trio.to_thread.run_sync(
            volume.read, target.domain, target.img_id, target.vol_id, abandon_on_cancel=True
        )


@dataclass(frozen=True)
class LeaseTracking:
    """The lease of one job; its id is the job's."""

    store: Store
    sd_id: str
    job_id: str
    hardware_id: str

    @property
    def names(self) -> dict[str, str]:
        return {"job_id": self.job_id, "sd_id": self.sd_id, "lease_id": self.job_id}

    async def take_up(self) -> int:
        """Make the lease, or find the one that a process which died left; returns its generation.

        Raises as `found`; NoSpace ...
        """
        generation = await self.found()
        if generation is None:
            await self._create()
            return FIRST_GENERATION
        return generation

    async def found(self) -> int | None:
        """The generation of the lease that a process which died left; None: there is none.

        Raises AcquireLockFailure (651): the job is running. JobStatusMismatch (912): it has ended
        or was fenced. UnsupportedOperation (2009): the lease is not of this job; and those of a
        damaged lease volume.
        """
        try:
            status = await verbs.status(self.store, self.job_id)
        except NoSuchLease:
            return None
        if status.owners:
            reason = f"job {self.job_id} is running, the lease is held by host {hosts(status)}"
            raise AcquireLockFailure(f"lease {self.job_id}", reason)
        return taken_up(self.job_id, JobRecord(status.metadata or {}))

    async def remove(self) -> None:
        await verbs.delete(self.store, self.job_id)

    async def status(self) -> LeaseStatus | str:
        """The status of the lease after the job, or why it cannot be told in a few seconds."""
        with trio.move_on_after(STATUS_TIME):
            try:
                return await verbs.status(self.store, self.job_id)
            except (Error, OSError) as e:
                return explained(e)
        return f"no answer in {STATUS_TIME:g} s"

    async def story(self) -> tuple[dict[str, Any], str]:
        look = f"look with `leasehold lease status {self.sd_id} {self.job_id}`"
        return lease_story(await self.status(), look)

    async def _create(self) -> None:
        metadata = JobMetadata(
            job_id=UUID(self.job_id), generation=FIRST_GENERATION, job_status=JobStatus.PENDING
        )
        await verbs.create(
            self.store,
            self.job_id,
            metadata,
            now=int(time.time()),
            hardware_id=self.hardware_id,
        )


def lease_story(lease: LeaseStatus | str, look: str) -> tuple[dict[str, Any], str]:
    """What a lease says. lease: or why it cannot be told. look: how to look at it."""
    if isinstance(lease, str):
        return {}, f"its lease could not be read: {lease}; {look}"
    said = f"is kept and says: {meaning(lease.metadata)}"
    if lease.owners:
        said = f"is held by host {hosts(lease)}"
    return {"lease": status_object(lease)}, f"its lease {said}; {look}"


def volume_story(legality: str, generation: int, look: str) -> tuple[dict[str, Any], str]:
    """What a volume says. look: how to look at it."""
    facts = {"legality": legality, "generation": generation}
    return {"volume": facts}, f"its volume is {legality}, generation {generation}; {look}"


def taken_up(job_id: str, record: JobRecord) -> int:
    """The generation with which `job_id` goes on from `record`, found in its free lease. Pure."""
    found = record.keys.get("generation")
    generation = FIRST_GENERATION
    if isinstance(found, int) and found in range(GENERATIONS):
        generation = found
    record.check(Expectation(job_id, generation))  # refuses a bool, too
    return generation
