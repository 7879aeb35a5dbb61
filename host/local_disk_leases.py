"""The leases of copies to local disks: in a storage domain of this host alone, unless another is
asked for."""

import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
import trio

from endpoints.domain import StoreKind, create_domain, open_store
from endpoints.locks import Lock, Mode, held
from host import local, own_domain
from host.domains import Domains
from host.local_disk_judge import Lease
from host.local_disk_notes import Notes
from leases import verbs
from leases.steps import reached
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    Error,
    JobStatusMismatch,
    NoSuchLease,
    StorageDomainDoesNotExist,
)
from protocol.messages import JobMetadata
from protocol.record import GENERATIONS, Expectation, JobStatus
from storage import domain
from storage.domain import Domain

log = structlog.get_logger()

CAPACITY = 61  # leases; that of a copy which has succeeded is deleted when its disk is used
FIRST_GENERATION = 0
LOOK_TIME = 20.0  # seconds; storage that does not answer must not keep a VM from being started
_OWN = Lock("localdisk", "leases", Mode.EXCLUSIVE)


@dataclass(frozen=True)
class Found:
    """What the lease of a job says. domain, generation: of the lease, where there is one."""

    lease: Lease
    domain: Domain | None = None
    generation: int = FIRST_GENERATION


@dataclass(frozen=True)
class Leases:
    """mount: the folder of the domain of our own. default: the id of another one to use instead.

    domains: those that this host knows. notes: of the leases in the other one. remember: should it
    know our own from the moment it is made? That is for the agent to write down.
    """

    mount: Path
    domains: Domains
    store: StoreKind
    default: str | None
    hardware_id: str
    notes: Notes
    remember: bool = False

    async def domain(self, sd_id: str | None) -> Domain:
        """The domain for a new lease: the one that is asked for, else ours, made on first use.

        Raises StorageDomainDoesNotExist (358), and as storage.domain.load and create_domain.
        """
        if named := sd_id or self.default:
            return await self.domains.load(named)
        if (found := await self.own()) is not None and not self.remember:
            return found
        async with held([_OWN]):  # of all hooks of this host, one makes it
            found = await self.own()
            if found is None:
                made = create_domain(str(self.mount), sd_id=str(uuid.uuid4()), leases=CAPACITY)
                found = await made
                log.info("storage domain made for local disks", sd_id=found.id, path=found.path)
        if self.remember:
            await self.domains.remember(found)
        return found

    async def own(self) -> Domain | None:
        """Our own domain, if it was made already. Raises as storage.domain.find."""
        try:
            found = await trio.to_thread.run_sync(domain.find, str(self.mount))
        except StorageDomainDoesNotExist:
            return None
        return found[0] if found else None

    async def look(self, job_id: str | None, *sd_ids: str) -> Found:
        """What the lease of a job says, in whichever domain it is: in ours, the default one or one
        of these. A domain that cannot be asked makes it unknown, never missing."""
        if job_id is None:
            return Found(Lease.NONE)
        unknown = False
        for sd_id in dict.fromkeys([None, *filter(None, (self.default, *sd_ids))]):
            try:
                with trio.fail_after(LOOK_TIME):
                    where = await self._place(sd_id)
                    found = None if where is None else await self._look(job_id, where)
            except (Error, OSError, trio.TooSlowError) as e:
                log.warning("lease cannot be read", lease=job_id, sd_id=sd_id, error=str(e))
                unknown = True
                continue
            if found is not None:
                return found
        return Found(Lease.UNKNOWN if unknown else Lease.MISSING)

    async def create(self, where: Domain, job_id: str) -> None:
        """Raises NoSpace (4003) and as leases.creation.create; OSError: there is no room for its
        note."""
        if where.id == self.default:
            await local.run(self.notes.write, job_id, where.id)
            reached("prepare", "noted")
        metadata = JobMetadata(
            job_id=UUID(job_id), generation=FIRST_GENERATION, job_status=JobStatus.PENDING
        )
        store = await self._opened(where, change_index=True)
        await verbs.create(store, job_id, metadata, **self._writer)

    async def fence(self, found: Found, job_id: str) -> bool:
        """Let a job that is PENDING never succeed any more; False: that is not so any longer."""
        if found.domain is None:
            return False
        expected = Expectation(job_id, found.generation, JobStatus.PENDING)
        store = await self._opened(found.domain)
        try:
            await verbs.fence(store, job_id, expected, **self._writer)
        except (AcquireLockFailure, JobStatusMismatch, NoSuchLease) as e:
            log.info("lease not fenced", lease=job_id, reason=str(e))
            return False
        log.info("lease fenced", lease=job_id)
        reached("prepare", "fenced")
        return True

    async def forget(self, job_id: str, *sd_ids: str) -> None:
        """Delete the lease of a job of which all is known: in our own domain, in the one that this
        host's configuration names or named when it was made, and in these; in no other, as whoever
        asked for that may still want to ask there. What goes wrong is logged: it is done again
        later."""
        try:
            noted = await local.run(self.notes.domain, job_id)
            places = [None, *dict.fromkeys(filter(None, (self.default, noted, *sd_ids)))]
            gone = [await self._deleted(job_id, sd_id) for sd_id in places]
            if noted is not None and all(gone):
                await local.run(self.notes.remove, job_id)
        except OSError as e:
            log.warning("note of a lease not read or not removed", lease=job_id, error=str(e))

    async def all_own(self) -> list[str]:
        """The ids of the leases in our own domain."""
        if (own := await self.own()) is None:
            return []
        found = await verbs.leases(await self._opened(own))
        return [one.lease_id for one in found]

    async def noted(self) -> list[str]:
        """The ids of the leases that this host has made where its configuration wanted them, in a
        domain that others may use too; some of them may be gone already. Raises OSError."""
        return await local.run(self.notes.jobs)

    async def _deleted(self, job_id: str, sd_id: str | None) -> bool:
        """False: that is not known. sd_id: as _place has it."""
        try:
            with trio.fail_after(LOOK_TIME):
                if (where := await self._place(sd_id)) is not None:
                    await verbs.delete(await self._opened(where, change_index=True), job_id)
        except (Error, OSError, trio.TooSlowError) as e:
            log.warning("lease not deleted", lease=job_id, sd_id=sd_id, error=str(e))
            return False
        return True

    async def _place(self, sd_id: str | None) -> Domain | None:
        """sd_id: None: ours, which there may not be yet, and whose id others may not know yet."""
        own = await self.own()
        if sd_id is None or (own is not None and own.id == sd_id):
            return own
        return await self.domains.load(sd_id)

    async def _look(self, job_id: str, where: Domain) -> Found | None:
        """None: there is no such lease."""
        try:
            status = await verbs.status(await self._opened(where), job_id)
        except NoSuchLease:
            return None
        if status.owners:
            return Found(Lease.OWNED, where)
        keys = status.metadata or {}
        if not keys:  # its creator died: it is fenced as if it were PENDING
            return Found(Lease.PENDING, where)
        generation = keys.get("generation")
        known = type(generation) is int and generation in range(GENERATIONS)
        if keys.get("job_id") != job_id or not known or keys.get("job_status") not in _SAYS:
            return Found(Lease.UNKNOWN, where)
        return Found(Lease(keys["job_status"]), where, int(generation or 0))

    def store_of(self, where: Domain) -> StoreKind:
        """Of this host alone is ours, whoever keeps the leases of others."""
        return own_domain.store_of(where, self.mount, self.store)

    async def _opened(self, where: Domain, *, change_index: bool = False) -> Store:
        return await open_store(where, self.store_of(where), change_index=change_index)

    @property
    def _writer(self) -> dict[str, Any]:
        return {"now": int(time.time()), "hardware_id": self.hardware_id}


_SAYS = {status.value for status in JobStatus}
