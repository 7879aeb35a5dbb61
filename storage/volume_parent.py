"""The volume below a new one: nobody may write to it once there is a child.

Everything here blocks: callers run it in a worker thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from protocol.errors import UnsupportedOperation, VolumeHasChild
from storage import metadata_file, volume
from storage.description import Domain
from storage.volume import INTERNAL, LEAF, SHARED, Volume
from storage.volume_place import Place


def check(domain: Domain, parent: Volume) -> None:
    """Raise unless a new volume may be put on `parent`.

    IllegalVolume; VolumeHasChild; UnsupportedOperation (2009): a voltype that we do not know;
    InvalidVolumeMetadata (751): of a volume that may be its child.
    """
    volume.require_legal(parent)
    voltype = parent.metadata.voltype
    if voltype == INTERNAL:  # without a child: a crash came between
        if child := _child(domain, parent):
            raise VolumeHasChild(parent.id, child)
    elif voltype not in (LEAF, SHARED):
        raise UnsupportedOperation(f"parent {parent.id} is {voltype!r}, not LEAF or SHARED")


@contextmanager
def adopting(domain: Domain, parent: Volume) -> Iterator[None]:
    """In the body a child of `parent` begins to exist. Raises as `check`, before the body.

    A LEAF is INTERNAL from before the body on, and LEAF again if that fails. Its metadata change
    in no other way meanwhile.
    """
    with metadata_file.locked(parent.place) as held:
        before = held.metadata
        check(domain, replace(parent, metadata=before))
        if before.voltype != LEAF:
            yield
            return
        held.replace(replace(before, voltype=INTERNAL))
        try:
            yield
        except BaseException:
            held.replace(before)
            raise


def release(domain: Domain, where: Place) -> None:
    """Make an INTERNAL volume LEAF again when there is no volume on it. Raises as volume.read."""
    with metadata_file.locked(where) as held:
        parent = Volume(domain.id, where, held.metadata)
        if held.metadata.voltype == INTERNAL and _child(domain, parent) is None:
            held.replace(replace(held.metadata, voltype=LEAF))


def _child(domain: Domain, parent: Volume) -> str | None:
    """The volume that is on `parent` in its image."""
    others = volume.of_image(domain, parent.img_id)
    return next((one.id for one in others if one.parent == parent.id), None)
