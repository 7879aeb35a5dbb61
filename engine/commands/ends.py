"""The two ends of a copy, as its command keeps them in the journal, and as messages to a host."""

from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from engine.judgement import Watch
from engine.volume_poller import VolumeWatch
from protocol.messages import LeaseRef

GENERATION = 0  # a new lease, and a new volume, begin with it
Format: TypeAlias = Literal["raw", "cow"]


class ManagedEnd(msgspec.Struct, frozen=True, tag_field="kind", tag="managed"):
    """A volume of managed block storage. domain, volume: ids."""

    domain: str
    volume: str

    @property
    def format(self) -> Format:
        return "raw"


class ImageEnd(msgspec.Struct, frozen=True, tag_field="kind", tag="image"):
    """A volume of a data domain; with a source the parents of the volume are read too."""

    domain: str
    volume: str
    image: str
    format: Format = "raw"


End: TypeAlias = ManagedEnd | ImageEnd


class Ends(msgspec.Struct, frozen=True):
    """size: bytes of the disk that is copied. sparse: the target is thin."""

    source: End
    target: End
    size: int
    sparse: bool = True

    @property
    def managed(self) -> tuple[ManagedEnd, ...]:
        """Those that a host must attach; the target first: its access is the one that matters."""
        return tuple(one for one in (self.target, self.source) if isinstance(one, ManagedEnd))

    @property
    def images(self) -> frozenset[str]:
        """The ids of the data domains that a host must see for the ends themselves."""
        ends = (self.source, self.target)
        return frozenset(one.domain for one in ends if isinstance(one, ImageEnd))


def source_message(end: End, url: str | None) -> dict[str, Any]:
    """The source of SDM.copy_data. url: of a managed end, where its host has attached it."""
    if isinstance(end, ManagedEnd):
        return {"endpoint_type": "external", "url": url, "format": "raw"}
    return _volume(end)


def target_message(
    end: End, url: str | None, *, lease: LeaseRef | None, sparse: bool, is_zero: bool
) -> dict[str, Any]:
    """The destination of SDM.copy_data. is_zero: the storage said so itself, and nobody wrote
    since. lease: of a managed end."""
    if isinstance(end, ImageEnd):
        return {**_volume(end), "generation": GENERATION}
    assert lease is not None
    return {
        "endpoint_type": "external",
        "url": url,
        "format": "raw",
        "lease": msgspec.to_builtins(lease),
        "generation": GENERATION,
        "sparse": sparse,
        "is_zero": is_zero,
    }


def watch(end: End, job: str, host: str | None, lease: LeaseRef | None) -> Watch | VolumeWatch:
    """What is to be judged: the lease of the job, or the generation of its volume."""
    if isinstance(end, ImageEnd):
        ids = UUID(end.domain), UUID(end.image), UUID(end.volume)
        return VolumeWatch(job, host, *ids, GENERATION)
    assert lease is not None
    return Watch(job, host, lease, GENERATION)


def _volume(end: ImageEnd) -> dict[str, Any]:
    return {
        "endpoint_type": "div",
        "sd_id": end.domain,
        "img_id": end.image,
        "vol_id": end.volume,
        "prepared": False,
    }
