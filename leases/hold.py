"""Holding a lease for the time of a body."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import structlog
import trio

from leases.grant import Grant
from leases.lease import Lease
from leases.store import Store
from leases.worker import run
from protocol.errors import Error, LeaseLost, ReleaseLockFailure

RELEASE_TIMEOUT = 10.0  # seconds
_LOOK = 0.005  # seconds between looks whether a write has ended

log = structlog.get_logger()


@asynccontextmanager
async def hold(store: Store, lease: Lease) -> AsyncIterator[Grant]:
    """Hold `lease` for the body, and cancel the body when the lease is seen to be lost.

    Before the body the lease is looked up again, for it may have been deleted between lookup and
    acquire. Raises AcquireLockFailure (651): it is held; NoSuchLease (936): it is gone or moved;
    LeaseLost: while held; ReleaseLockFailure (660): after a body that succeeded.
    """
    grant = await store.acquire(lease)
    try:
        if lease.path == store.volume.path:  # leases of volumes have files, and no index
            await run(store.volume.confirm, grant.sectors, lease)
        async with _watched(grant):
            yield grant
    except BaseException as e:
        if failure := await _released(store, grant):
            e.add_note(f"then: {failure}")
            log.warning("release failed", lease=lease.lease_id, error=str(failure))
        raise
    if failure := await _released(store, grant):
        raise failure


async def _released(store: Store, grant: Grant) -> Error | None:
    """Release, and return what went wrong.

    Shielded, because a job that was aborted must still give its lease back, and bounded, because a
    release that hangs on dead storage must not hang the job.
    """
    with trio.move_on_after(RELEASE_TIMEOUT, shield=True):
        while grant.in_doubt:  # noqa: ASYNC110 - a write that was left behind may still land
            await trio.sleep(_LOOK)
        try:
            await store.release(grant)
        except Error as e:
            return e
        return None
    # Not unlocked: the kernel gives it back when this process, with what hangs in it, is gone.
    return ReleaseLockFailure(grant.lease.lease_id, f"no answer in {RELEASE_TIMEOUT:g} s")


@asynccontextmanager
async def _watched(grant: Grant) -> AsyncGenerator[None, None]:
    """Cancel the body when the lease is lost. The body's own error comes out in no group."""
    lost: LeaseLost | None = None
    failure: BaseException | None = None
    # Shielded: an abort is for the body. A watcher that it ended would take the body with it, even
    # where the body has shielded itself in order to record its end.
    watching = trio.CancelScope(shield=True)

    async def watch(body: trio.CancelScope) -> None:
        nonlocal lost
        with watching:
            lost = await grant.wait_lost()
            body.cancel()

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            try:
                yield
            except BaseException as e:  # a Cancelled too: it is raised again below
                failure = e
            watching.cancel()
    except BaseException:
        if failure is None:  # cancelled from outside as the body ended
            raise
    if lost is not None and not isinstance(failure, LeaseLost):
        raise lost from failure  # the body's own one tells more: what may have been written
    if failure is not None:
        raise failure
