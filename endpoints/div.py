"""CopyDataDivEndpoint: a volume of a storage domain (domain, image, volume)."""

from dataclasses import dataclass, replace
from functools import partial

import trio

from endpoints import blank, disk
from endpoints.disk import Disk, Target
from endpoints.locks import Lock, Mode
from endpoints.tracked import JobFacts
from endpoints.tracked_volume import TrackedVolume
from endpoints.url import PathUrl
from leases.store import Store
from protocol.errors import TooSmall, VolumeHasChild
from protocol.messages import DivEndpoint
from storage import volume, volume_chain
from storage.chain import Chain
from storage.domain import Domain
from storage.image import Policy
from storage.volume import LEAF, Volume


@dataclass(frozen=True)
class CopyDataDivEndpoint:
    """One end of a copy, as its message described it; `domain` is that of its sd_id.

    A volume of a file domain needs no preparation, so `prepared` makes no difference here.
    layer: of a target: its chain is copied volume by volume, as engines do, so that its parent
    holds what the source's parent holds. Then only the layer is copied, and a volume with
    children may be written. Otherwise the whole content is, and it may not.
    """

    message: DivEndpoint
    domain: Domain
    layer: bool = False

    @property
    def img_id(self) -> str:
        return str(self.message.img_id)

    @property
    def vol_id(self) -> str:
        return str(self.message.vol_id)

    @property
    def url(self) -> PathUrl:
        """Where the volume lies, whether it exists or not."""
        return PathUrl(f"{self.domain.images}/{self.img_id}/{self.vol_id}")

    def locks(self, mode: Mode) -> list[Lock]:
        """The domain is shared; the image is for one writer or many readers; so is the file."""
        return [
            Lock("domain", self.domain.id, Mode.SHARED),
            Lock("image", f"{self.domain.id}/{self.img_id}", mode),
            *disk.locks(self.url, mode),
        ]

    async def source(self, policy: Policy) -> Disk:
        """Raises as storage.volume and storage.volume_chain; IllegalVolume."""
        _, chain = await self._inspected(policy, legal=True)
        return await trio.to_thread.run_sync(disk.local_disk, self.url, chain, chain.files)

    async def target(self, needed: int, create_under: tuple[str, ...]) -> Target:
        """Raises as `source`, but its content may be ILLEGAL; TooSmall, VolumeHasChild."""
        found, chain = await self._inspected(Policy(), legal=False)
        if chain.virtual_size < needed:
            raise TooSmall(self.vol_id, needed, chain.virtual_size)
        if not self.layer and found.metadata.voltype != LEAF:
            raise VolumeHasChild(self.vol_id, "others, which would read what is written to it")
        _, *below = chain.links
        # Made of its own file alone: with its backing files it may share some with the source.
        made_of = chain.top.files
        return replace(
            await trio.to_thread.run_sync(disk.local_disk, self.url, chain, made_of),
            sparse=found.metadata.type == "SPARSE",
            preallocated=found.metadata.type == "PREALLOCATED",
            blank=await _blank(chain),
            backing=Chain(tuple(below)).node() if below else None,
            layer=self.layer,
        )

    def tracked(self, store: Store, job: JobFacts) -> TrackedVolume:
        """The tracking of a copy to here: legality and generation of the volume."""
        generation = self.message.generation
        return TrackedVolume(store, self.domain, (self.img_id, self.vol_id), generation)

    async def _inspected(self, policy: Policy, *, legal: bool) -> tuple[Volume, Chain]:
        return await trio.to_thread.run_sync(partial(self._inspect, policy, legal=legal))

    def _inspect(self, policy: Policy, *, legal: bool) -> tuple[Volume, Chain]:
        found = volume.read(self.domain, self.img_id, self.vol_id)
        if legal:
            volume.require_legal(found)
        volumes = volume_chain.chain(self.domain, found)
        return found, volume_chain.inspect(self.domain, volumes, policy)


async def _blank(chain: Chain) -> bool | None:
    if chain.format != "raw":
        return None
    return await trio.to_thread.run_sync(blank.of_path, chain.top.path)
