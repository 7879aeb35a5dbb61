"""Lease.*: leases of a storage domain, and what they say about jobs."""

from functools import partial
from typing import Any
from uuid import UUID

from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from leases import verbs
from leases.lease import Lease
from leases.rebuilding import Found
from leases.store import Store
from protocol.errors import (
    AcquireLockFailure,
    GenerationMismatch,
    JobStatusMismatch,
    LeaseExists,
    NoSpace,
    NoSuchLease,
    SanlockLVBError,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
)
from protocol.messages import JobMetadata, LeaseRef


class OneLease(Params, frozen=True):
    lease: LeaseRef


class Create(Params, frozen=True):
    """metadata: of the job that the lease is for; it is written into the lease."""

    lease: LeaseRef
    metadata: JobMetadata | None = None


class Delete(Params, frozen=True):
    """force: one that is held is hidden, and its slot used again when it is free."""

    lease: LeaseRef
    force: bool = False


class Fence(Params, frozen=True):
    """metadata: what the lease is believed to say."""

    lease: LeaseRef
    metadata: JobMetadata


class Rebuild(Params, frozen=True):
    sd_id: UUID


async def create(host: ThisHost, params: Create, flow_id: str) -> str:
    """Make a lease. The same call again is no error while its job is PENDING."""
    lease = params.lease
    store = await host.store(str(lease.sd_id), change_index=True)

    async def work() -> dict[str, Any]:
        return place(await verbs.create(store, lease.lease_id, params.metadata, **host.writer))

    return await host.tasks.finished("Lease.create", work)


async def delete(host: ThisHost, params: Delete, flow_id: str) -> str:
    """Delete a lease. One that does not exist is no error; one that is held is."""
    lease = params.lease
    store = await host.store(str(lease.sd_id), change_index=True)
    work = partial(verbs.delete, store, lease.lease_id, force=params.force)
    return await host.tasks.finished("Lease.delete", work)


async def info(host: ThisHost, params: OneLease, flow_id: str) -> dict[str, Any]:
    """Tell where a lease is."""
    return place(await verbs.info(await _store(host, params.lease), params.lease.lease_id))


async def status(host: ThisHost, params: OneLease, flow_id: str) -> dict[str, Any]:
    """Tell who holds a lease and, when it is free, what it says. Nothing is acquired."""
    found = await verbs.status(await _store(host, params.lease), params.lease.lease_id)
    metadata = {} if found.metadata is None else {"metadata": found.metadata}
    return {"owners": found.owners, "version": found.version, **metadata}


async def fence(host: ThisHost, params: Fence, flow_id: str) -> None:
    """End a job whose host is gone: its lease says FENCED, with the next generation."""
    store = await _store(host, params.lease)
    expected = params.metadata.expectation()
    await verbs.fence(store, params.lease.lease_id, expected, **host.writer)


async def rebuild_leases(host: ThisHost, params: Rebuild, flow_id: str) -> str:
    """Repair a damaged lease volume. What is held is left as it is."""
    store = await host.store(str(params.sd_id), change_index=True)

    async def work() -> dict[str, Any]:
        done = await verbs.rebuild(store, now=host.writer["now"])
        kinds = ("kept", "restored", "written", "cleared", "held", "failed")
        return {kind: [_found(one) for one in getattr(done, kind)] for kind in kinds}

    return await host.tasks.finished("Lease.rebuild_leases", work)


async def _store(host: ThisHost, lease: LeaseRef) -> Store:
    return await host.store(str(lease.sd_id))


def place(lease: Lease) -> dict[str, Any]:
    """Where a lease is."""
    return {
        "sd_id": lease.sd_id,
        "lease_id": lease.lease_id,
        "path": lease.path,
        "offset": lease.offset,
    }


def _found(one: Found) -> dict[str, Any]:
    facts: dict[str, Any] = {"lease_id": one.lease_id, "offset": one.offset}
    return facts if one.error is None else {**facts, "error": one.error}


TASK = "the id of a task, which has finished"
ANY_HOST = "any host may do it, except in a domain that belongs to a pool (2009)"

VERBS = (
    Verb(
        "Lease.create",
        Create,
        create,
        f"{TASK}; its result: sd_id, lease_id, path, offset",
        task=True,
        errors=(
            StorageDomainDoesNotExist,
            UnsupportedOperation,
            LeaseExists,
            NoSpace,
            AcquireLockFailure,
        ),
        differs=ANY_HOST,
    ),
    Verb(
        "Lease.delete",
        Delete,
        delete,
        TASK,
        task=True,
        errors=(StorageDomainDoesNotExist, UnsupportedOperation, AcquireLockFailure),
        differs=f"{ANY_HOST}; a lease that is held is not deleted (651); `force` is ours",
    ),
    Verb(
        "Lease.info",
        OneLease,
        info,
        "sd_id, lease_id, path, offset (bytes)",
        reads=True,
        errors=(StorageDomainDoesNotExist, NoSuchLease),
        differs="",
    ),
    Verb(
        "Lease.status",
        OneLease,
        status,
        "owners (host ids; none: it is free), version, and when it is free metadata",
        reads=True,
        errors=(StorageDomainDoesNotExist, NoSuchLease, SanlockLVBError),
        differs="never acquires the lease; `metadata` of a lease without a record is `{}`",
    ),
    Verb(
        "Lease.fence",
        Fence,
        fence,
        "true",
        errors=(
            StorageDomainDoesNotExist,
            NoSuchLease,
            AcquireLockFailure,
            UnsupportedOperation,
            JobStatusMismatch,
            GenerationMismatch,
            SanlockLVBError,
        ),
        differs="a lease without a record is fenced as one that is PENDING",
    ),
    Verb(
        "Lease.rebuild_leases",
        Rebuild,
        rebuild_leases,
        f"{TASK}; its result: what became of each slot (kept, restored, written, cleared, held,"
        " failed)",
        task=True,
        errors=(StorageDomainDoesNotExist, UnsupportedOperation, AcquireLockFailure),
        differs=f"{ANY_HOST}; a lease with a job in it but no record is restored",
    ),
)
