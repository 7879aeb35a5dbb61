"""Removing an image: under the locks of this host and the leases of its volumes."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from endpoints.locks import Lock, Mode, held
from leases.hold import hold
from leases.lease import Lease
from leases.steps import reached
from leases.store import Store
from protocol.errors import AcquireLockFailure
from storage import image_removal
from storage.domain import Domain
from storage.image_removal import Doomed

VERB = "image-delete"  # of LEASEHOLD_DIE_AT


async def remove_image(domain: Domain, store: Store, img_id: str, *, force: bool = False) -> None:
    """Remove an image with all of its volumes; one that is not there is removed already.

    force: though other images are on a volume of it. Raises, and changes nothing:
    AcquireLockFailure (651): the lease of a volume is held, or a process of this host uses the
    image, or somebody makes a volume of it; VolumeHasChild: see force; ImageRefused. OSError: it is
    removed in part, which the next call ends; and 651 as well, where somebody has made a volume of
    it meanwhile: that stays, with its image.
    """
    locks = [
        Lock("domain", domain.id, Mode.SHARED),
        Lock("image", f"{domain.id}/{img_id}", Mode.EXCLUSIVE),
    ]
    async with held(locks, waiting=_refuse):
        image = await trio.to_thread.run_sync(image_removal.doomed, domain, img_id)
        if image is not None:
            if not force:
                await trio.to_thread.run_sync(image_removal.check_unshared, domain, image)
            async with _leased(domain, store, image):
                await trio.to_thread.run_sync(image_removal.unpublish, image)
            reached(VERB, "unpublished")
            await trio.to_thread.run_sync(image_removal.move_away, domain, image)
            reached(VERB, "moved")
        await trio.to_thread.run_sync(image_removal.settle, domain, img_id)
        reached(VERB, "settled")
        await trio.to_thread.run_sync(image_removal.remove_left, domain, img_id)


def _refuse(lock: Lock) -> None:
    raise AcquireLockFailure(str(lock), "a process of this host uses it")


@asynccontextmanager
async def _leased(domain: Domain, store: Store, image: Doomed) -> AsyncGenerator[None]:
    """Hold the leases of the volumes for the body. One without a file is held by nobody."""
    async with AsyncExitStack() as stack:
        grants = []
        for place in image.own:
            if await trio.Path(place.lease).exists():
                lease = Lease(domain.id, place.vol_id, place.lease, 0)
                grants.append(await stack.enter_async_context(hold(store, lease)))
        for grant in grants:
            await grant.check()
        yield
