"""The tracking of a copy to a volume: its legality and generation, under its lease."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import trio

from endpoints.volume import leased_volume
from leases.grant import Grant
from leases.hold import hold
from leases.store import Store
from leases.worker import run
from protocol.errors import GenerationMismatch, LeaseLost
from protocol.groups import leaves
from protocol.record import next_generation
from storage import volume
from storage.domain import Domain
from storage.volume import ILLEGAL, LEGAL, Volume
from storage.volume_metadata import VolumeMetadata

LOOK_TIME = 5.0  # seconds; a lease whose storage does not answer must not keep an abort


class TrackedVolume:
    """ILLEGAL from before the first byte, LEGAL with the next generation after the last.

    A worker that dies leaves ILLEGAL and the generation as it was. generation: the one that is
    expected; None: it is not looked at.
    """

    def __init__(
        self, store: Store, domain: Domain, ids: tuple[str, str], generation: int | None
    ) -> None:
        """ids: of the image and the volume."""
        self._store = store
        self._domain = domain
        self._ids = ids
        self._generation = generation  # from the take-up on: the one that was found

    @asynccontextmanager
    async def taken_up(self) -> AsyncGenerator[Grant]:
        """Hold the volume lease for the body.

        Raises, and changes nothing: AcquireLockFailure (651), GenerationMismatch (911), and what
        storage.volume.read raises.
        """
        found = await trio.to_thread.run_sync(volume.read, self._domain, *self._ids)
        async with hold(self._store, await leased_volume(self._domain, found)) as grant:
            await self._update(self._begun)
            try:
                yield grant
            except BaseException as e:
                # A failure is recorded already: ILLEGAL, and the generation as it was.
                if all(isinstance(leaf, trio.Cancelled) for leaf in leaves(e)):
                    await _check_held(grant, e)
                raise

    async def succeed(self, grant: Grant) -> None:
        """LEGAL and the next generation in one write; the caller shields this from an abort."""
        with grant.recording():
            await grant.check()
            written = await self._update(self._done)
            found = await trio.to_thread.run_sync(volume.read, self._domain, *self._ids)
            if found.metadata != written.metadata:
                raise GenerationMismatch(written.metadata.generation, found.metadata.generation)
            await grant.check_written()

    async def fail_early(self, error: BaseException) -> None:
        """Nothing was begun, so nothing is to be recorded."""

    async def _update(self, change: Callable[[VolumeMetadata], VolumeMetadata]) -> Volume:
        update = partial(volume.update, self._domain, *self._ids, change)
        return await trio.to_thread.run_sync(update)

    def _begun(self, metadata: VolumeMetadata) -> VolumeMetadata:
        if self._generation not in (None, metadata.generation):
            raise GenerationMismatch(int(self._generation or 0), metadata.generation)
        self._generation = metadata.generation
        return replace(metadata, legality=ILLEGAL)

    def _done(self, metadata: VolumeMetadata) -> VolumeMetadata:
        # A fence wins: whoever moved the generation on has given this copy up.
        if metadata.generation != self._generation:
            raise GenerationMismatch(int(self._generation or 0), metadata.generation)
        generation = next_generation(metadata.generation)
        return replace(metadata, legality=LEGAL, generation=generation)


async def _check_held(grant: Grant, error: BaseException) -> None:
    """Raises LeaseLost when that is why the job was told to stop, which an abort does not tell."""
    lost = LeaseLost(grant.lease.lease_id, "its storage does not answer")
    with trio.CancelScope(shield=True, deadline=trio.current_time() + LOOK_TIME):
        try:
            return await run(grant.verify, abandon=True)
        except LeaseLost as e:
            lost = e
    raise lost from error
