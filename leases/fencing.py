"""Lease.fence: end a job whose worker is gone."""

from leases.grant import Grant
from leases.lease import check_name
from leases.steps import reached
from leases.store import Store, given_back
from leases.worker import run
from protocol.record import Expectation, JobRecord, JobStatus


async def fence(
    store: Store, lease_id: str, expected: Expectation, *, now: int, hardware_id: str
) -> None:
    """Write FENCED with the next generation, so that the job can never succeed any more.

    A lease that was published without a record is fenced as if it were PENDING.
    now: seconds since the epoch. hardware_id: of the host that we are on.
    Raises, and writes nothing: BadParameter (1000): nothing is called so; NoSuchLease (936);
    AcquireLockFailure (651): it is held; SanlockLVBError (703); and those of JobRecord.check in its
    order: 2009, 912, 911.
    """
    check_name(lease_id)

    def work(lock: Grant | None) -> bool:
        return _fence(store, lease_id, expected, lock, now=now, hardware_id=hardware_id)

    if not await run(work, None):
        # No record yet: only the creator or deleter of the lease leaves that, and whoever holds
        # the index lease knows that neither is at work.
        await store.under_index(work)


def _fence(
    store: Store,
    lease_id: str,
    expected: Expectation,
    lock: Grant | None,
    *,
    now: int,
    hardware_id: str,
) -> bool:
    """False: there is no record, and the index lease is needed."""
    volume = store.volume
    with volume.open() as sectors:
        lease = volume.lookup(sectors, lease_id)
    grant = store.take(lease)
    with given_back(store, grant):
        reached("fence", "acquired")
        volume.confirm(grant.sectors, lease)
        record = grant.load() or JobRecord({})
        if not record.keys and expected.status is JobStatus.PENDING:
            if lock is None:
                return False
            lock.verify()
            record = JobRecord.pending(
                expected.job_id, expected.generation, now=now, hardware_id=hardware_id
            )
        record.check(expected)
        grant.put(record.ended(JobStatus.FENCED, now=now, hardware_id=hardware_id))
        reached("fence", "lvb")
    reached("fence", "released")
    return True
