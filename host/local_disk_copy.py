"""A copy to a new local disk is begun: its logical volume, its lease, its job."""

import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import msgspec
import structlog
import trio

from endpoints.copy import allocation_of
from endpoints.disk import Disk
from endpoints.local import beginning
from endpoints.locks import Mode, held
from host.folder import Spec
from host.local_disk_here import Here
from host.local_disk_request import Prepared, PrepareRequest
from host.local_disk_room import room
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
    thin_bytes = await _thin_bytes(here, source.disk) if request.backend == "lvmthin" else None
    await here.disks.check_space(request.backend, source.disk.size, thin_bytes)
    domain = await here.leases.domain(request.sd_id)
    job_id = str(uuid.uuid4())
    create = partial(
        here.disks.create,
        request.vol_id,
        source.disk.size,
        request.backend,
        image_id=request.img_id,
        job_id=job_id,
        now=int(time.time()),
        vm_id=request.vm_id,
        generation=source.generation,
    )
    async with _made(here, create, request.vol_id, source.disk.size, thin_bytes) as disk:
        reached("prepare", "created")
        try:
            await here.leases.create(domain, job_id)
            reached("prepare", "lease")
            spec = _spec(here, request, source, domain, job_id)
            await here.jobs.begin(msgspec.structs.replace(spec, thin_bytes=thin_bytes))
        except BaseException:
            # Bounded by LVM, which is asked for one volume that nobody knows yet.
            with trio.CancelScope(shield=True):
                await _undone(here, disk, job_id)
            raise
    reached("prepare", "begun")
    path = here.disks.path(request.vol_id)
    log.info("local disk is being filled", local_disk=request.vol_id, job=job_id, path=path)
    return Prepared(request.vol_id, "filling", path, job_id)


async def _thin_bytes(here: Here, source: Disk) -> int:
    """How much of the thin pool a copy takes: a chunk for each that the source has data in."""
    pool = await here.disks.thin_pool()
    return (await allocation_of(source, chunk=pool.chunk_size)).in_chunks


@asynccontextmanager
async def _made(
    here: Here,
    create: Callable[[], Awaitable[LocalDisk]],
    vol_id: str,
    size: int,
    thin_bytes: int | None,
) -> AsyncGenerator[LocalDisk]:
    """The new disk. The body begins its job, which tells others what a thin one may still take.

    A linear one takes all that it needs now, and LVM tells who comes too late.
    """
    if thin_bytes is None:
        yield await create()
        return
    async with AsyncExitStack() as known:
        async with room(here) as promised:
            await here.disks.check_space("lvmthin", size, thin_bytes, promised=promised)
            begins = held([beginning(here.disks, vol_id, Mode.EXCLUSIVE)])
            await known.enter_async_context(begins)
            disk = await create()
        yield disk


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
