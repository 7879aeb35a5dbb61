"""A storage domain with the leases in it: both halves, which do not know each other."""

import time
import uuid
from functools import partial
from pathlib import Path
from typing import Literal

import trio

from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.store import Store
from leases.volume import LeaseVolume, format_volume
from protocol.errors import UnsupportedOperation
from storage import domain as domains
from storage.domain import Domain

StoreKind = Literal["auto", "embedded"]


async def create_domain(
    mount: str, *, sd_id: str | None = None, block_size: int = 512, leases: int | None = None
) -> Domain:
    """Make a file storage domain with an empty lease volume; whole or not at all.

    sd_id: its UUID, a new one when None. leases: how many its lease volume holds.
    Raises StorageDomainAlreadyExists (365), StorageDomainCreationError, BadParameter.
    """
    sd_id = sd_id or str(uuid.uuid4())
    alignment = domains.ALIGNMENT.get(block_size, 0)

    def prepare(dom_md: str) -> None:
        volume = LeaseVolume(str(Path(dom_md, "xleases")), sd_id, Geometry(block_size, alignment))
        format_volume(volume, now=int(time.time()))

    make = partial(domains.create, mount, sd_id=sd_id, block_size=block_size, leases=leases)
    # Not abandoned: it removes what it began when it fails.
    return await trio.to_thread.run_sync(partial(make, prepare=prepare))


async def open_store(
    domain: Domain, kind: StoreKind = "auto", *, change_index: bool = False
) -> Store:
    """The store of a domain's leases.

    change_index: leases are to be created or deleted. On a domain of a vdsm pool that is for its
    storage pool manager alone, which does not know our lock around the index: it is refused
    with UnsupportedOperation (2009).
    Raises InvalidDomain and WrongStore when the store is used and does not fit.
    """
    if change_index and domain.pool:
        reason = f"domain {domain.id} belongs to pool {domain.pool}: only its SPM changes leases"
        raise UnsupportedOperation(reason)
    geometry = Geometry(domain.block_size, domain.alignment)
    return EmbeddedStore(domain.id, domain.xleases, domain.ids, geometry)
