"""The lease verbs, over any store."""

from leases.creation import create
from leases.deletion import delete
from leases.fencing import fence
from leases.index import Listed
from leases.lease import Lease, check_name
from leases.rebuilding import Rebuilt, rebuild
from leases.status import LeaseStatus, status
from leases.store import Store
from leases.worker import run

__all__ = [
    "LeaseStatus",
    "Rebuilt",
    "create",
    "delete",
    "fence",
    "info",
    "leases",
    "rebuild",
    "status",
]


async def info(store: Store, lease_id: str) -> Lease:
    """Where the lease is.

    Raises BadParameter (1000): nothing is called so; NoSuchLease (936), InvalidRecord, and those of
    the index.
    """
    check_name(lease_id)

    def work() -> Lease:
        with store.volume.open() as sectors:
            return store.volume.lookup(sectors, lease_id)

    return await run(work, abandon=True)  # it only reads


async def leases(store: Store) -> list[Listed]:
    """All leases of the domain, in the order of their slots."""

    def work() -> list[Listed]:
        with store.volume.open() as sectors:
            return store.volume.list(sectors)

    return await run(work)
