"""Volumes of a file storage domain: find, read and change them.

Source: docs/formats.md, "Volume files". Everything here blocks: callers run it in a worker thread.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

from protocol.errors import (
    Error,
    IllegalVolume,
    ImageRefused,
    InvalidDomain,
    InvalidVolumeMetadata,
    UnsupportedOperation,
    VolumeDoesNotExist,
)
from storage import metadata_file
from storage.chain import Format
from storage.description import Domain
from storage.volume_metadata import NO_PARENT, VolumeMetadata
from storage.volume_place import META, Place, checked, image_folder, inside, is_uuid, place

LEGAL = "LEGAL"
ILLEGAL = "ILLEGAL"
LEAF = "LEAF"
INTERNAL = "INTERNAL"
SHARED = "SHARED"

FORMATS: dict[str, Format] = {"RAW": "raw", "COW": "qcow2"}

Damaged = Callable[[str, Error], None]


@dataclass(frozen=True)
class Volume:
    """A volume as it was found. sd_id: its domain."""

    sd_id: str
    place: Place
    metadata: VolumeMetadata

    @property
    def id(self) -> str:
        return self.place.vol_id

    @property
    def img_id(self) -> str:
        """The image in whose folder it was found; a template is linked into several."""
        return self.place.img_id

    @property
    def path(self) -> str:
        return self.place.path

    @property
    def lease(self) -> str:
        """The file whose first slot leases the volume; volume_lease.ensure makes a missing one."""
        return self.place.lease

    @property
    def parent(self) -> str | None:
        """The id of the volume below it, None for a base, in lower case."""
        parent = self.metadata.parent.lower()
        return None if parent == NO_PARENT else parent

    @property
    def format(self) -> Format:
        """By the metadata. Raises InvalidVolumeMetadata (751) for one that we do not know."""
        try:
            return FORMATS[self.metadata.format]
        except KeyError:
            reason = f"FORMAT is {self.metadata.format!r}, not RAW or COW"
            raise InvalidVolumeMetadata(self.id, reason) from None


def read(domain: Domain, img_id: str, vol_id: str) -> Volume:
    """The volume `vol_id` of image `img_id`. One without metadata does not exist.

    Raises BadParameter (1000): no UUIDs; ImageDoesNotExistInSD (254), VolumeDoesNotExist (201),
    InvalidVolumeMetadata (751), ImageRefused: it leads out of the domain or is no regular file.
    """
    return at(domain, place(domain, img_id, vol_id))


def at(domain: Domain, where: Place) -> Volume:
    """The volume in a place. Raises as `read`."""
    metadata = metadata_file.read(where)
    real = inside(domain, where.path)
    try:
        mode = os.stat(real).st_mode
    except OSError:
        raise VolumeDoesNotExist(where.vol_id) from None
    if not stat.S_ISREG(mode):
        raise ImageRefused(where.path, "a volume of a file domain is a regular file")
    return Volume(domain.id, where, metadata)


def find(domain: Domain, vol_id: str) -> Volume:
    """The volume `vol_id` of whatever image; a template is found in its own. Raises as `read`."""
    vol_id = checked("vol_id", vol_id)
    found = [
        read(domain, img_id, vol_id)
        for img_id in images(domain)
        if os.path.lexists(os.path.join(domain.images, img_id, vol_id + META))
    ]
    if not found:
        raise VolumeDoesNotExist(vol_id)
    return next((one for one in found if one.metadata.image == one.img_id), found[0])


def volumes(domain: Domain, *, damaged: Damaged | None = None) -> list[Volume]:
    """All volumes, by image and id.

    damaged: told of the path of each one that cannot be read; without it the first such error is
    raised. Raises InvalidDomain when the images cannot be listed.
    """
    return [one for img_id in images(domain) for one in of_image(domain, img_id, damaged=damaged)]


def of_image(domain: Domain, img_id: str, *, damaged: Damaged | None = None) -> list[Volume]:
    """The volumes of one image, by id. Raises as `read`; damaged: as for `volumes`."""
    found = []
    img_id = checked("img_id", img_id)
    try:
        folder = image_folder(domain, img_id)
    except Error as e:
        if damaged is None:
            raise
        damaged(os.path.join(domain.images, img_id), e)
        return []
    for name in sorted(os.listdir(folder)):
        vol_id = name.removesuffix(META)
        if vol_id == name or not is_uuid(vol_id):
            continue
        try:
            found.append(at(domain, Place(folder, img_id, vol_id)))
        except Error as e:
            if damaged is None:
                raise
            damaged(os.path.join(folder, vol_id), e)
    return found


def images(domain: Domain) -> list[str]:
    """The ids of the images. Raises InvalidDomain when they cannot be listed."""
    try:
        return sorted(filter(is_uuid, os.listdir(domain.images)))
    except OSError as e:
        raise InvalidDomain(domain.path, f"images: {e.strerror or e}") from None


def update(
    domain: Domain, img_id: str, vol_id: str, change: Callable[[VolumeMetadata], VolumeMetadata]
) -> Volume:
    """Replace the metadata of a volume by what `change` makes of them, in one step.

    Several fields change together or not at all. The present metadata is read, changed and
    written while no other process of ours changes it; if `change` raises, nothing is written.
    Raises as `read`; BadParameter (1000), MetadataOverflowError (756): it cannot be written so;
    UnsupportedOperation (2009): a template seen through another image, whose own metadata this
    would not change; AcquireLockFailure (651): another process keeps the metadata; OSError.
    """

    def change_own(metadata: VolumeMetadata) -> VolumeMetadata:
        if metadata.voltype == SHARED and metadata.image.lower() != found.img_id:
            reason = f"template {found.id} belongs to image {metadata.image}: change it there"
            raise UnsupportedOperation(reason)
        return change(metadata)

    found = read(domain, img_id, vol_id)
    return Volume(domain.id, found.place, metadata_file.update(found.place, change_own))


def require_legal(volume: Volume) -> None:
    """Raise IllegalVolume unless the content of a volume may be used."""
    if volume.metadata.legality != LEGAL:
        raise IllegalVolume(volume.id, volume.metadata.legality)
