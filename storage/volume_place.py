"""Where a volume lies: its files in the folder of its image.

No path is built from anything but UUIDs, and none is used that leads out of the domain.
Source: docs/formats.md, "Volume files". Everything here blocks: callers run it in a worker thread.
"""

import os
import re
from dataclasses import dataclass

from protocol.errors import BadParameter, ImageDoesNotExistInSD, ImageRefused
from storage.description import Domain

META = ".meta"
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Place:
    """folder: of the image, <domain>/images/<img_id>, a real path. img_id, vol_id: UUIDs."""

    folder: str
    img_id: str
    vol_id: str

    @property
    def path(self) -> str:
        """The volume itself."""
        return os.path.join(self.folder, self.vol_id)

    @property
    def meta(self) -> str:
        return self.path + META

    @property
    def lease(self) -> str:
        """One slot, by which the volume is leased."""
        return self.path + ".lease"

    @property
    def creating(self) -> str:
        """The mark of a volume that is being created; it becomes the metadata."""
        return self.path + ".creating"

    def other(self, vol_id: str) -> "Place":
        """The place of another volume of the image, whose id came from storage or a caller.

        Raises BadParameter (1000).
        """
        return Place(self.folder, self.img_id, checked("vol_id", vol_id))


def checked(name: str, id: str) -> str:
    """The id in lower case. Raises BadParameter (1000) for parameter `name`: no UUID."""
    if not is_uuid(id.lower()):
        raise BadParameter(name, f"{id!r} is not a UUID")
    return id.lower()


def is_uuid(name: str) -> bool:
    """Whether a name is a UUID as storage has them: with dashes, in lower case."""
    return _UUID.fullmatch(name) is not None


def place(domain: Domain, img_id: str, vol_id: str) -> Place:
    """The place of a volume in an image that exists. Raises as `image_folder`."""
    vol_id = checked("vol_id", vol_id)
    return Place(image_folder(domain, img_id), img_id.lower(), vol_id)


def image_folder(domain: Domain, img_id: str) -> str:
    """The real path of the folder of an image.

    Raises BadParameter (1000), ImageDoesNotExistInSD (254), ImageRefused: it is a link out of the
    domain.
    """
    img_id = checked("img_id", img_id)
    folder = inside(domain, os.path.join(domain.images, img_id))
    if not os.path.isdir(folder):
        raise ImageDoesNotExistInSD(img_id, domain.id)
    return folder


def inside(domain: Domain, path: str) -> str:
    """The real path of what is at `path`, missing or not.

    Raises ImageRefused: it is, or lies behind, a link that leads out of the domain.
    """
    real = os.path.realpath(path)
    if os.path.commonpath((real, domain.path)) != domain.path:
        raise ImageRefused(path, f"it is a link to {real}, out of storage domain {domain.id}")
    return real
