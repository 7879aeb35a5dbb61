"""StorageDomain.*: storage domains of this host."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import structlog
import trio

from endpoints.domain import create_domain, lockspace_of, sharing
from host import local_disk_policy, looking, own_domain
from host.config import Storage
from host.domains import HostId, load
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from leases import lockspace
from leases.ids import DEFAULT_IO_TIMEOUT
from leases.membership import membership
from protocol.errors import (
    AcquireHostIdFailure,
    BadParameter,
    InvalidDomain,
    SanlockUnavailable,
    StorageDomainAlreadyExists,
    StorageDomainCreationError,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
)
from protocol.local_disk_policy import Operation
from storage import domain_metadata
from storage.domain import LEASES_LIMIT, Domain

log = structlog.get_logger()

AbsolutePath = Annotated[str, msgspec.Meta(pattern=r"\A/[^\x00-\x1f]*\Z", max_length=4096)]
NO_NUMBER = -1  # of what only domains of a pool have


class DomainId(Params, frozen=True):
    storagedomainID: UUID


class Create(Params, frozen=True):
    """path: an existing folder; the domain is made in it. leases: how many it holds."""

    storagedomainID: UUID
    path: AbsolutePath
    block_size: Literal[512, 4096] = 512
    store: Literal["embedded", "sanlock"] = "embedded"
    leases: Annotated[int, msgspec.Meta(ge=1, le=LEASES_LIMIT)] | None = None
    io_timeout: Annotated[int, msgspec.Meta(ge=1, le=120)] = DEFAULT_IO_TIMEOUT


class Membership(Params, frozen=True):
    """path: the folder that holds the domain; not needed for one that is known. host_id: as which
    this host joins the lockspace; a domain of the embedded store has none, and becomes one of
    sanlock when it is joined.
    """

    storagedomainID: UUID
    path: AbsolutePath | None = None
    host_id: HostId | None = None


async def create(host: ThisHost, params: Create, flow_id: str) -> dict[str, Any]:
    """Make a storage domain in a folder of this host, and know it from then on."""
    mount = await looking.look(_place(host, params.path), _mount, params.path, host.config.storage)
    made = await create_domain(
        mount,
        sd_id=str(params.storagedomainID),
        block_size=params.block_size,
        leases=params.leases,
        store=params.store,
        io_timeout=params.io_timeout,
    )
    with trio.CancelScope(shield=True):
        await host.domains.remember(made)
    return {"id": made.id}


async def get_info(host: ThisHost, params: DomainId, flow_id: str) -> dict[str, Any]:
    """Tell what a storage domain is."""
    domain = await host.domains.load(str(params.storagedomainID))
    facts = await looking.look(domain.path, _facts, domain)
    return {**facts, "store": (await sharing(domain)).store}


async def get_stats(host: ThisHost, params: DomainId, flow_id: str) -> dict[str, Any]:
    """Tell how much space there is, in bytes."""
    domain = await host.domains.load(str(params.storagedomainID))
    found = await looking.look(domain.path, os.statvfs, domain.path)
    return {
        "disktotal": found.f_blocks * found.f_frsize,
        "diskfree": found.f_bavail * found.f_frsize,
        # Of a metadata area, which only block domains have.
        "mdasize": 0,
        "mdafree": 0,
        "mdavalid": True,
        "mdathreshold": True,
    }


async def activate(host: ThisHost, params: Membership, flow_id: str) -> None:
    """Know a storage domain, and join its lockspace; takes some seconds. Nothing when joined.

    From then on this host joins it again by itself, after a restart of the host say.
    """
    async with host.turns.of_client(str(params.storagedomainID)) as alone:
        domain = await _named(host, params)
        known = host.domains.host_ids.get(domain.id)
        host_id = params.host_id or known
        if host_id is None:
            host_id = await _joined_as(domain)
        else:
            if own_domain.is_own(domain, own_domain.mount(host.config.state)):
                reason = f"domain {domain.id} keeps the leases of this host alone: nobody joins it"
                raise UnsupportedOperation(reason)
            if host_id != known:  # else both may join: the second one finds that it is done
                await alone()
            await lockspace.join(
                lockspace_of(domain),
                host_id,
                without_watchdog=not host.config.storage.require_watchdog,
                warn=lambda text: log.warning(text, domain=domain.id),
            )
        with trio.CancelScope(shield=True):
            await host.domains.remember(domain, host_id)


async def deactivate(host: ThisHost, params: Membership, flow_id: str) -> None:
    """Leave the lockspace of a storage domain, for good. Nothing when this host is not in it.

    A domain whose storage is gone is told so (358), and this host joins it no more. One with an
    image of which this host has a local disk is refused (2009): that disk may still be filled.
    """
    sd_id = str(params.storagedomainID)
    async with host.turns.of_client(sd_id) as alone:
        await alone()
        try:
            domain = await _named(host, params)
        except StorageDomainDoesNotExist:
            await host.domains.forget_host_id(sd_id)
            raise
        await local_disk_policy.check_domain(host, Operation.DEACTIVATE_DOMAIN, domain)
        if (await sharing(domain)).store == "sanlock":
            await lockspace.leave(lockspace_of(domain))
        with trio.CancelScope(shield=True):
            await host.domains.forget_host_id(sd_id)


async def _joined_as(domain: Domain) -> int | None:
    """The host id with which somebody else has joined it; None: it is of the embedded store."""
    found = await sharing(domain)
    if found.store == "embedded":
        return None
    member = await membership(lockspace_of(domain)) if found.joined else None
    if member is None or not member.joined:
        raise BadParameter("host_id", f"domain {domain.id} is one of sanlock: it needs one")
    return member.host_id


async def _named(host: ThisHost, params: Membership) -> Domain:
    sd_id = str(params.storagedomainID)
    if params.path is None:
        return await host.domains.load(sd_id)
    mount = await looking.look(_place(host, params.path), _mount, params.path, host.config.storage)
    return await load(sd_id, os.path.join(mount, sd_id))


def _place(host: ThisHost, path: str) -> str:
    rules = host.config.storage
    return looking.place_of(path, [*rules.mounts, *rules.directories])


def _mount(path: str, rules: Storage) -> str:
    """The real folder at a path that a client may name. Blocks."""
    if not path.isprintable() or ".." in path.split("/"):
        raise BadParameter("path", "it is not printable, or has a component `..`")
    real = os.path.realpath(path)
    if not _in_one(real, rules.directories) and real not in map(os.path.realpath, rules.mounts):
        reason = f"{path} is not allowed on this host: neither one of storage.mounts nor in one of"
        raise BadParameter("path", f"{reason} storage.directories of its configuration")
    if not os.path.isdir(real):
        raise StorageDomainDoesNotExist(path)
    return real


def _in_one(path: str, directories: Iterable[str]) -> bool:
    """By whole components; a directory is in itself."""
    folders = map(os.path.realpath, directories)
    return any(os.path.commonpath((path, folder)) == folder for folder in folders)


def _facts(domain: Domain) -> dict[str, Any]:
    try:
        content = Path(domain.metadata).read_bytes()
    except OSError as e:
        raise InvalidDomain(domain.path, f"dom_md/metadata: {e.strerror or e}") from None
    values = domain_metadata.decode(content, domain.path)
    return {
        "uuid": domain.id,
        "name": domain.description,
        "type": domain.type,
        "class": values.get("CLASS", "Data"),
        "role": domain.role,
        "pool": domain.pool.split(",") if domain.pool else [],
        "version": domain.version,
        "block_size": domain.block_size,
        "alignment": domain.alignment,
        "lver": NO_NUMBER,
        "spm_id": NO_NUMBER,
        "master_ver": 0,
        "path": domain.path,
    }


VERBS = (
    Verb(
        "StorageDomain.create",
        Create,
        create,
        "id",
        errors=(
            StorageDomainAlreadyExists,
            StorageDomainDoesNotExist,
            StorageDomainCreationError,
        ),
        differs="other parameters; it returns the id",
    ),
    Verb(
        "StorageDomain.getInfo",
        DomainId,
        get_info,
        "uuid, name, type, class, role, pool (ids), version, block_size, alignment (bytes), lver,"
        " spm_id, master_ver, path, store (embedded or sanlock)",
        reads=True,
        errors=(StorageDomainDoesNotExist, InvalidDomain),
        differs="`path` and `store` are ours; `lver`, `spm_id` (-1) and `master_ver` (0) are not"
        " known",
    ),
    Verb(
        "StorageDomain.getStats",
        DomainId,
        get_stats,
        "disktotal, diskfree (bytes), mdasize, mdafree, mdavalid, mdathreshold",
        reads=True,
        errors=(StorageDomainDoesNotExist,),
        differs="",
    ),
    Verb(
        "StorageDomain.activate",
        Membership,
        activate,
        "true",
        errors=(StorageDomainDoesNotExist, AcquireHostIdFailure, SanlockUnavailable),
        differs="other parameters; there is no pool",
    ),
    Verb(
        "StorageDomain.deactivate",
        Membership,
        deactivate,
        "true",
        errors=(
            StorageDomainDoesNotExist,
            UnsupportedOperation,
            AcquireHostIdFailure,
            SanlockUnavailable,
        ),
        differs="other parameters; there is no pool",
    ),
)
