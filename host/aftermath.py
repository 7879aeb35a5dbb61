"""What became of a job whose worker died: its lease, or its volume, says so."""

import time
from dataclasses import dataclass
from functools import partial

import trio

from endpoints.domain import open_store
from endpoints.volume import owners
from host import looking
from host.copying import local_disks, messages, named_domains, opened
from host.folder import Ending, Spec
from jobs.status import Status
from leases import verbs
from protocol.errors import BadParameter, Error, NoSuchLease, SanlockLVBError, WorkerDied, to_rpc
from protocol.messages import DivEndpoint, ExternalEndpoint, LocalEndpoint
from protocol.record import Expectation, JobRecord, JobStatus, next_generation
from storage import volume
from storage.domain import Domain

ANSWER_TIME = 60.0  # seconds for storage, or its daemon, to come back, and for a last tool to go
FIRST_LOOK = 0.05  # seconds; doubled up to LAST_LOOK
LAST_LOOK = 2.0
_CERTAIN = (BadParameter, NoSuchLease, SanlockLVBError)  # anything else may pass: no daemon, say


@dataclass(frozen=True)
class Said:
    """What storage says. final: it will not say anything else by itself."""

    done: bool
    text: str
    final: bool = True


async def told(spec: Spec) -> Ending:
    """The ending that storage tells. A job is done only where storage says so.

    Where storage does not answer it is asked again for a while. Cancelled, it leaves a look that
    hangs behind.
    """
    said = Said(False, "its storage does not answer", final=False)
    wait = FIRST_LOOK
    with trio.move_on_after(ANSWER_TIME):
        while True:
            said = await _look(spec)
            if said.final:
                break
            await trio.sleep(wait)
            wait = min(wait * 2, LAST_LOOK)
    if said.done:
        return Ending(status=Status.DONE, result={}, ended=time.time())
    error = to_rpc(WorkerDied(str(spec.job_id), said.text))
    return Ending(status=Status.FAILED, error=error, ended=time.time())


async def _look(spec: Spec) -> Said:
    try:
        _, destination = messages(spec)
        [sd_id] = named_domains(destination, destination)
        domain = (await opened(spec))[sd_id]
        if isinstance(destination, DivEndpoint):
            return await _volume(spec, destination, domain)
        if isinstance(destination, LocalEndpoint):
            return await _local(spec, destination, domain)
        return await _lease(spec, destination, domain)
    except (Error, OSError, KeyError) as e:
        return Said(False, f"what became of it is unknown: {e}", isinstance(e, _CERTAIN))


async def _volume(spec: Spec, target: DivEndpoint, domain: Domain) -> Said:
    read = partial(volume.read, domain, str(target.img_id), str(target.vol_id))
    found = await looking.look(domain.path, read)
    if held := await owners(await open_store(domain, spec.store), found):
        return _still_held(held)
    # Read anew: free, so what the dead one and its tools had begun to write is written.
    facts = (await looking.look(domain.path, read)).metadata
    done = (
        target.generation is not None
        and facts.legality == "LEGAL"
        and facts.generation == next_generation(target.generation)
    )
    return Said(done, f"its volume is {facts.legality}, generation {facts.generation}")


async def _local(spec: Spec, target: LocalEndpoint, domain: Domain) -> Said:
    """A local disk that is ready was copied to its last byte, whatever could be recorded."""
    try:
        said = await _lease(spec, target, domain)
    except NoSuchLease as e:  # whoever uses the disk deletes it
        said = Said(False, str(e))
    if said.done or not said.final:
        return said
    found = await local_disks(spec.local).find(str(target.vol_id))
    ready = found is not None and not found.filling and found.job_id == str(spec.job_id)
    return Said(True, "") if ready else said


async def _lease(spec: Spec, target: ExternalEndpoint | LocalEndpoint, domain: Domain) -> Said:
    if target.lease is None or target.generation is None:
        return Said(False, "it has no lease")
    store = await open_store(domain, spec.store)
    status = await verbs.status(store, target.lease.lease_id)
    if status.owners:
        return _still_held(status.owners)
    record = JobRecord(status.metadata or {})
    generation = next_generation(target.generation)
    try:
        record.check(Expectation(str(spec.job_id), generation, JobStatus.SUCCEEDED))
    except Error:
        return Said(False, f"its lease says {record.keys.get('job_status', 'nothing')}")
    return Said(True, "")


def _still_held(owners: list[int]) -> Said:
    """A tool may live for a moment longer than its worker."""
    return Said(False, f"its lease is still held by host {owners[0]}", final=False)
