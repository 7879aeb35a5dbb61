"""A volume with the lease of it: both halves, which do not know each other."""

import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import trio

from leases.geometry import Geometry
from leases.lease import Lease
from leases.sector import Sectors
from leases.slot import fresh
from leases.store import Store
from storage import new_volume, volume_lease
from storage.domain import Domain
from storage.volume import Volume
from storage.volume_request import Request


async def create_volume(domain: Domain, img_id: str, vol_id: str, request: Request) -> Volume:
    """Make a volume with a free lease; whole or not at all. Raises as storage.new_volume.create."""
    prepare = lease_writer(domain, vol_id.lower())
    make = partial(new_volume.create, domain, img_id, vol_id, request, prepare_lease=prepare)
    # Not abandoned: it removes what it began when it fails.
    return await trio.to_thread.run_sync(make)


async def leased_volume(domain: Domain, volume: Volume) -> Lease:
    """The lease of a volume, made now if another program made none.

    Raises AcquireLockFailure (651): its metadata are in use; OSError.
    """
    prepare = lease_writer(domain, volume.id)
    ensure = partial(volume_lease.ensure, volume, domain.alignment, prepare)
    await trio.to_thread.run_sync(ensure)
    return Lease(domain.id, volume.id, volume.lease, 0)


async def owners(store: Store, volume: Volume) -> list[int]:
    """Host ids of those who hold the lease of a volume, without acquiring or making it.

    Raises WrongStore, OSError.
    """
    if not await trio.Path(volume.lease).exists():
        return []
    return await store.owners(Lease(volume.sd_id, volume.id, volume.lease, 0))


def lease_writer(domain: Domain, vol_id: str) -> Callable[[str], None]:
    """What writes the slot of a free volume lease into the file that it is given."""
    geometry = Geometry(domain.block_size, domain.alignment)
    slot = fresh(geometry, domain.id, vol_id)

    def write(path: str) -> None:
        with Sectors.open(path, write=True) as sectors:
            lvb = (geometry.lvb_offset, slot.lvb)
            sectors.fill(0, geometry.alignment, [(0, slot.head), lvb])
        # The daemon writes there, as the group of `ids`, when the domain is one of sanlock.
        with suppress(FileNotFoundError, PermissionError):  # not root
            os.chown(path, -1, os.stat(domain.ids).st_gid)

    return write
