"""A copy to a new local disk is begun: its logical volume, its lease, its job."""

import time
import uuid

import structlog
import trio

from endpoints.copy import allocation_of
from host.folder import Spec
from host.local_disk_here import Here
from host.local_disk_request import Prepared, PrepareRequest
from host.local_disk_source import Source
from leases.steps import reached
from protocol.errors import Error, ImageMissing
from storage.domain import Domain
from storage.local_disk import LocalDisk

log = structlog.get_logger()

JOIN_TIME = 60.0  # seconds; joining again takes 21 with the usual io_timeout


async def begun(here: Here, request: PrepareRequest, source: Source) -> Prepared:
    """Make everything and begin; nothing is left when something goes wrong on the way.

    For who holds the lock of the disk, which is not there. The volume first: it names the job, so
    whoever finds it after a crash knows what to ask for; a lease without one would be found by
    nobody. Raises as local_disks.prepare; JobExists never, ids are new.
    """
    if source.disk is None:
        raise source.error or ImageMissing(source.name)
    thin = request.backend == "lvmthin"
    data = (await allocation_of(source.disk)).total if thin else None
    await here.disks.check_space(request.backend, source.disk.size, data)
    domain = await here.leases.domain(request.sd_id)
    job_id = str(uuid.uuid4())
    disk = await here.disks.create(
        request.vol_id,
        source.disk.size,
        request.backend,
        image_id=request.img_id,
        job_id=job_id,
        now=int(time.time()),
        vm_id=request.vm_id,
        generation=source.generation,
    )
    reached("prepare", "created")
    try:
        await here.leases.create(domain, job_id)
        reached("prepare", "lease")
        await here.jobs.begin(_spec(here, request, source, domain, job_id))
    except BaseException:
        # Bounded by LVM, which is asked for one volume that nobody knows yet.
        with trio.CancelScope(shield=True):
            await _undone(here, disk, job_id)
        raise
    reached("prepare", "begun")
    path = here.disks.path(request.vol_id)
    log.info("local disk is being filled", local_disk=request.vol_id, job=job_id, path=path)
    return Prepared(request.vol_id, "filling", path, job_id)


async def _undone(here: Here, disk: LocalDisk, job_id: str) -> None:
    try:
        if await here.jobs.alive(job_id):
            return  # it was begun all the same: it ends by itself
        await here.disks.remove(disk)
    except (Error, OSError) as e:  # the next start finds it, and does it again
        log.warning("local disk not removed", local_disk=disk.volume_id, error=str(e))
    await here.leases.forget(job_id)


def _spec(here: Here, request: PrepareRequest, source: Source, domain: Domain, job_id: str) -> Spec:
    path = here.disks.path(request.vol_id)
    return Spec(
        job_id=uuid.UUID(job_id),
        description=f"copy {source.name} to {path}",
        source=source.message,
        destination={
            "endpoint_type": "local",
            "backend": request.backend,
            "vol_id": request.vol_id,
            "lease": {"sd_id": domain.id, "lease_id": job_id},
            "generation": 0,
        },
        domains={**source.domains, domain.id: domain.path},
        store=here.leases.store_of(domain),
        hardware_id=here.hardware_id,
        allow=here.config.endpoints.backing,
        real=source.real,
        limit=request.limit,
        stall_time=here.config.jobs.stall_time,
        join_time=JOIN_TIME if domain.id in here.domains.host_ids else 0.0,
        local=here.group,
        verify=request.verify,
        priority=request.priority,
        created=time.time(),
        flow_id=request.flow_id,
    )
