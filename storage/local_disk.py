"""A local disk: a copy of a volume in a logical volume of this host, which has the volume's id as
its name and says all else in its tags. Source: docs/localdisk.md."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from processes.lvm_report import EXTENT, LogicalVolume
from storage import local_disk_tags

Backend: TypeAlias = Literal["lvm", "lvmthin"]


@dataclass(frozen=True)
class LocalDisk:
    """size: bytes, whole extents. filling: a copy goes on, or did not come to its end; else it is
    ready. started: it was handed to a VM, whose own writes may be in it. generation: of the source
    volume when it was copied. prepared: when it was last, seconds since the epoch. open: somebody
    has its device open. data_percent: of an active thin one, how much is allocated. foreign: tags
    of others, which are kept. None: it is not said.
    """

    volume_id: str
    size: int
    backend: Backend = "lvm"
    image_id: str | None = None
    vm_id: str | None = None
    job_id: str | None = None
    generation: int | None = None
    prepared: int | None = None
    filling: bool = False
    started: bool = False
    active: bool = False
    open: bool = False
    data_percent: float | None = None
    foreign: frozenset[str] = frozenset()
    extent_size: int = EXTENT

    @property
    def ours(self) -> bool:
        """Was it made by us, or by oVirt's hook? Else nobody may touch it."""
        return self.image_id is not None

    @property
    def blank(self) -> bool:
        """Does it read as zeros, because nothing was ever written to it?"""
        return self.backend == "lvmthin" and self.data_percent == 0

    def fits(self, size: int) -> bool:
        """Is it as large as a local disk for so many bytes is made?"""
        return self.size == rounded(size, self.extent_size)


def rounded(size: int, extent_size: int) -> int:
    """Up to whole extents, as LVM does it."""
    return -(-size // extent_size) * extent_size


def of(volume: LogicalVolume) -> LocalDisk:
    """What the logical volume says of itself."""
    tags = local_disk_tags.parsed(volume.tags)
    return LocalDisk(
        volume_id=volume.name,
        size=volume.size,
        backend="lvm" if volume.pool is None else "lvmthin",
        image_id=tags.image_id,
        vm_id=tags.vm_id,
        job_id=tags.job_id,
        generation=tags.generation,
        prepared=tags.prepared,
        filling=tags.filling,
        started=tags.started,
        active=volume.active,
        open=volume.open,
        data_percent=volume.data_percent,
        foreign=tags.foreign,
        extent_size=volume.extent_size,
    )
