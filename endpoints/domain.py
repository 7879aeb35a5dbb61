"""A storage domain with the leases in it: both halves, which do not know each other."""

import os
import time
import uuid
from dataclasses import dataclass
from functools import partial
from glob import escape
from pathlib import Path
from typing import Literal

import trio

from leases import handover, ids
from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.ids import DEFAULT_IO_TIMEOUT, Lockspace
from leases.membership import guarded, membership
from leases.sanlock_store import SanlockStore
from leases.store import Store
from leases.volume import LeaseVolume, format_volume
from leases.worker import run
from protocol.errors import NotJoined, SanlockUnavailable, UnsupportedOperation
from storage import domain as domains
from storage.domain import Domain

StoreKind = Literal["auto", "embedded", "sanlock"]


async def create_domain(
    mount: str,
    *,
    sd_id: str | None = None,
    block_size: int = 512,
    leases: int | None = None,
    store: Literal["embedded", "sanlock"] = "embedded",
    io_timeout: int = DEFAULT_IO_TIMEOUT,
) -> Domain:
    """Make a file storage domain with an empty lease volume; whole or not at all.

    sd_id: its UUID, a new one when None. leases: how many its lease volume holds. store: sanlock
    needs no daemon yet. io_timeout: seconds, 1 to 120, of its lockspace; embedded has none.
    Raises StorageDomainAlreadyExists (365), StorageDomainCreationError, BadParameter.
    """
    sd_id = sd_id or str(uuid.uuid4())
    alignment = domains.ALIGNMENT.get(block_size, 0)
    ids.check_io_timeout(io_timeout)

    def prepare(dom_md: str) -> None:
        geometry = Geometry(block_size, alignment)
        volume = LeaseVolume(str(Path(dom_md, "xleases")), sd_id, geometry)
        format_volume(volume, now=int(time.time()))
        if store == "sanlock":
            lockspace = str(Path(dom_md, "ids"))
            ids.format_ids(lockspace, sd_id.lower(), io_timeout, geometry)
            handover.give_to_daemon([lockspace, volume.path, str(Path(dom_md, "leases"))])

    make = partial(domains.create, mount, sd_id=sd_id, block_size=block_size, leases=leases)
    # Not abandoned: it removes what it began when it fails.
    return await trio.to_thread.run_sync(partial(make, prepare=prepare))


async def open_store(
    domain: Domain, kind: StoreKind = "auto", *, change_index: bool = False
) -> Store:
    """The store of a domain's leases.

    kind: auto is sanlock when a daemon answers that has joined the domain, and also when none
    answers and hosts share the domain; else embedded.
    change_index: leases are to be created or deleted. On a domain of a vdsm pool that is for its
    storage pool manager alone, which does not know our lock around the index: it is refused
    with UnsupportedOperation (2009).
    Raises SanlockUnavailable (4012) and NotJoined (4011) for sanlock; InvalidDomain, WrongStore
    and, for auto, SanlockUnavailable when the store is used and does not fit.
    """
    if change_index and domain.pool:
        reason = f"domain {domain.id} belongs to pool {domain.pool}: only its SPM changes leases"
        raise UnsupportedOperation(reason)
    geometry = Geometry(domain.block_size, domain.alignment)
    if await _kept_by_sanlock(domain, kind):
        return SanlockStore(domain.id, domain.xleases, domain.ids, geometry)
    return EmbeddedStore(domain.id, domain.xleases, domain.ids, geometry)


async def _kept_by_sanlock(domain: Domain, kind: StoreKind) -> bool:
    space = lockspace_of(domain)
    if kind == "embedded":
        return False
    if kind == "auto" and not await run(ids.formatted, space, abandon=True):
        return False  # nobody can have joined it, and most hosts have no daemon to ask
    try:
        found = await membership(space)
    except SanlockUnavailable:
        if kind == "sanlock":
            raise
        return True  # formatted, so the embedded store would refuse it, with a wrong way out
    joined = found is not None and found.joined
    if kind == "sanlock" and not joined:
        raise NotJoined(domain.id)
    return joined


@dataclass(frozen=True)
class Sharing:
    """store: whose the domain is by its `ids`. joined: by this host; None: no daemon answers."""

    store: Literal["embedded", "sanlock"]
    joined: bool | None


async def sharing(domain: Domain) -> Sharing:
    """Raises InvalidDomain, AcquireHostIdFailure (661): `ids` is damaged or cannot be read."""
    space = lockspace_of(domain)
    formatted = await guarded(space, ids.lockspace, space.ids, space.geometry)
    if formatted is None:
        return Sharing("embedded", joined=False)
    try:
        found = await membership(space)
    except SanlockUnavailable:
        return Sharing("sanlock", joined=None)
    return Sharing("sanlock", joined=found is not None and found.joined)


def lockspace_of(domain: Domain) -> Lockspace:
    """The domain as its hosts share it."""
    return Lockspace(
        domain.id,
        domain.ids,
        domain.xleases,
        Geometry(domain.block_size, domain.alignment),
        others=os.path.join(escape(domain.images), "*", "*.lease"),
        shared=(domain.leases,),
    )
