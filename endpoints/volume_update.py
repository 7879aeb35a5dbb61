"""A change of the metadata of a volume, under its lease; also how the job of a volume is fenced."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import trio

from endpoints.volume import leased_volume
from leases.hold import hold
from leases.store import Store
from protocol.errors import GenerationMismatch
from protocol.record import next_generation
from storage import volume
from storage.domain import Domain
from storage.volume import Volume
from storage.volume_metadata import VolumeMetadata


@dataclass(frozen=True)
class VolumeUpdate:
    """expected: the generation that the volume must have; None: any. None: is not changed.

    Each update takes the next generation, unless it names one.
    """

    expected: int | None = None
    generation: int | None = None
    legality: Literal["LEGAL", "ILLEGAL"] | None = None
    description: str | None = None

    def applied(self, metadata: VolumeMetadata) -> VolumeMetadata:
        """Raises GenerationMismatch (911)."""
        found = metadata.generation
        if self.expected is not None and found != self.expected:
            raise GenerationMismatch(self.expected, found)
        described = metadata.description if self.description is None else self.description
        return replace(
            metadata,
            generation=next_generation(found) if self.generation is None else self.generation,
            legality=self.legality or metadata.legality,
            description=described,
        )


async def update_volume(
    domain: Domain, store: Store, img_id: str, vol_id: str, update: VolumeUpdate
) -> Volume:
    """Change the metadata in one write.

    Raises, and changes nothing: AcquireLockFailure (651): the lease of the volume is held, so a
    copy to it runs; GenerationMismatch (911); and what storage.volume.update raises.
    """
    found = await trio.to_thread.run_sync(volume.read, domain, img_id, vol_id)
    async with hold(store, await leased_volume(domain, found)) as grant:
        with grant.recording():
            await grant.check()
            work = partial(volume.update, domain, img_id, vol_id, update.applied)
            return await trio.to_thread.run_sync(work)
