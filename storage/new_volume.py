"""Making a volume: it appears whole, with its metadata as the last thing, or not at all.

Source: docs/formats.md, "Volume files". Everything here blocks: callers run it in a worker thread.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress

import trio

from processes import qemu_img
from protocol.errors import BadParameter, VolumeCreationError
from storage import (
    metadata_file,
    volume,
    volume_chain,
    volume_lease,
    volume_metadata,
    volume_parent,
    volume_request,
)
from storage.description import Domain
from storage.new_folder import sync_entries
from storage.volume import Volume
from storage.volume_mark import marked
from storage.volume_metadata import NO_PARENT, VolumeMetadata
from storage.volume_place import Place, checked, inside
from storage.volume_request import Request

__all__ = ["Request", "create"]

STEP = 1 << 30  # bytes that are allocated between two looks whether we are still wanted


def create(
    domain: Domain,
    img_id: str,
    vol_id: str,
    request: Request,
    *,
    prepare_lease: volume_lease.Prepare,
) -> Volume:
    """Make a new volume, LEGAL and of generation 0; its image is made when missing.

    A parent that was LEAF is INTERNAL from just before the volume exists. If anything fails, the
    parent is as it was and nothing is left. A second call after a crash begins anew.
    Must run in a worker thread of trio: the tool is a child of the main thread.
    Raises BadParameter (1000), VolumeExists; ImageDoesNotExistInSD, VolumeDoesNotExist,
    InvalidVolumeMetadata, IllegalVolume, VolumeHasChild, BrokenVolumeChain, ImageRefused and
    WrongFormat of the parent; AcquireLockFailure (651): another process is making it;
    MetadataOverflowError (756), VolumeCreationError: no space, no permission ...; the errors of
    qemu_img.create, and what `prepare_lease` raises.
    """
    img_id, vol_id = checked("img_id", img_id), checked("vol_id", vol_id)
    if vol_id == NO_PARENT:
        raise BadParameter("vol_id", "it means: no volume")
    volume_request.check(request)
    parent = None
    if request.parent is not None:
        parent = volume.read(domain, img_id, checked("parent", request.parent))
        volume_parent.check(domain, parent)
    metadata = volume_request.metadata(
        request, domain.id, img_id, parent, block_size=domain.block_size
    )
    volume_metadata.encode(metadata)  # if it is too long: before anything is made
    try:
        with _image(domain, img_id) as folder:
            place = Place(folder, img_id, vol_id)
            with marked(domain, place) as mark:
                _make(domain, place, metadata, parent)
                volume_lease.make(place.lease, domain.alignment, prepare_lease)
                mark.write(metadata)
                with nullcontext() if parent is None else volume_parent.adopting(domain, parent):
                    mark.publish()
            sync_entries(folder)
    except OSError as e:
        raise VolumeCreationError(vol_id, e.strerror or str(e)) from e
    return volume.read(domain, img_id, vol_id)


@contextmanager
def _image(domain: Domain, img_id: str) -> Iterator[str]:
    """The folder of the image, made when missing; one that we made goes if the body fails."""
    folder = os.path.join(domain.images, img_id)
    made = not os.path.lexists(folder)
    if made:
        with suppress(FileExistsError):
            os.mkdir(folder)
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fchmod(fd, 0o755)
            metadata_file.own(fd, domain.images)
        finally:
            os.close(fd)
    # Also when it was there: its maker may have crashed before this.
    sync_entries(domain.images)
    try:
        yield inside(domain, folder)
    except BaseException:
        if made:
            with suppress(OSError):  # not empty: others use it
                os.rmdir(folder)
        raise


def _make(domain: Domain, place: Place, metadata: VolumeMetadata, parent: Volume | None) -> None:
    """The volume itself, on disk."""
    with metadata_file.new_file(place.path) as fd:
        if metadata.format == "RAW":
            os.ftruncate(fd, metadata.capacity)
            if metadata.type == "PREALLOCATED":
                _allocate(fd, metadata.capacity)
            return
        options = ["compat=1.1"]
        if parent is not None:
            # qemu-img opens the parent and follows the names in it: only those that we know.
            below = volume_chain.inspect(domain, volume_chain.chain(domain, parent))
            options += [f"backing_file={parent.id}", f"backing_fmt={below.format}"]
        trio.from_thread.run(qemu_img.create, place.path, "qcow2", metadata.capacity, options)


def _allocate(fd: int, size: int) -> None:
    for start in range(0, size, STEP):
        trio.from_thread.check_cancelled()
        os.posix_fallocate(fd, start, min(STEP, size - start))
