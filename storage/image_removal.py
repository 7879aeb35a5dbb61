"""Removing an image: first its volumes cease to exist, then its folder moves away, then it goes.

A volume without metadata does not exist, and nobody takes up a job to it; so the metadata go
first, under the leases of the volumes, which is the caller's part. A crash leaves an image with
fewer volumes, or none, or a folder under a hidden name; removing the image again does the rest.
Source: docs/formats.md, "Volume files". Everything here blocks: callers run it in a worker thread.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from protocol.errors import (
    AcquireLockFailure,
    Error,
    ImageDoesNotExistInSD,
    ImageRefused,
    VolumeHasChild,
)
from storage import metadata_file
from storage.description import Domain
from storage.new_folder import sync_entries
from storage.volume import SHARED, images
from storage.volume_place import META, Place, checked, image_folder, is_uuid

_CREATING = ".creating"
_FLAGS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@dataclass(frozen=True)
class Doomed:
    """An image that is there. places: of its volumes; own: of them, those that are not the template
    of another image, seen in this one: their leases are to be held."""

    img_id: str
    folder: str
    places: tuple[Place, ...]
    own: tuple[Place, ...]


def doomed(domain: Domain, img_id: str) -> Doomed | None:
    """What is to be removed; None: there is no such image.

    Raises BadParameter (1000); ImageRefused: it is a link.
    """
    img_id = checked("img_id", img_id)
    try:
        folder = image_folder(domain, img_id)
    except ImageDoesNotExistInSD:
        return None
    if os.path.islink(os.path.join(domain.images, img_id)):
        raise ImageRefused(folder, "an image is a folder, not a link to one")
    names = [name.removesuffix(META) for name in os.listdir(folder) if name.endswith(META)]
    places = tuple(Place(folder, img_id, name) for name in sorted(names) if is_uuid(name))
    return Doomed(img_id, folder, places, tuple(one for one in places if _is_own(one)))


def check_unshared(domain: Domain, image: Doomed) -> None:
    """Raise VolumeHasChild if another image is on a template of this one."""
    shared = [one.vol_id for one in image.own if _voltype(one) == SHARED]
    for other in images(domain) if shared else ():
        if other == image.img_id:
            continue
        for vol_id in shared:
            if os.path.lexists(os.path.join(domain.images, other, vol_id + META)):
                raise VolumeHasChild(vol_id, f"image {other}")


@contextmanager
def unmade(image: Doomed) -> Iterator[None]:
    """Nobody makes a volume of the image in the body, which begins before.

    Raises AcquireLockFailure (651): somebody makes one just now.
    """
    with ExitStack() as stack:
        for name in os.listdir(image.folder):
            if name.endswith(_CREATING):
                with suppress(FileNotFoundError):
                    fd = os.open(os.path.join(image.folder, name), _FLAGS)
                    stack.callback(metadata_file.unlock, fd)
                    if not metadata_file.lock(fd):
                        raise AcquireLockFailure(f"image {image.img_id}", f"{name} is held")
        yield


def unpublish(image: Doomed) -> None:
    """Let its volumes exist no more, and bring that to disk. The leases are held."""
    for place in image.places:
        with suppress(FileNotFoundError):
            os.unlink(place.meta)
    sync_entries(image.folder)


def move_away(domain: Domain, img_id: str) -> None:
    """Take the folder of an image whose volumes do not exist any more out of its place."""
    place = os.path.join(domain.images, checked("img_id", img_id))
    if os.path.lexists(place):
        away = tempfile.mkdtemp(prefix=_left(img_id), dir=domain.images)
        with suppress(FileNotFoundError):  # another host was faster
            os.rename(place, away)  # replaces the empty folder
        sync_entries(domain.images)


def remove_left(domain: Domain, img_id: str) -> None:
    """Remove what was moved away, now or before a crash. Raises OSError: call it again."""
    for name in os.listdir(domain.images):
        if name.startswith(_left(img_id)):
            with suppress(FileNotFoundError):  # another host removes it, too
                shutil.rmtree(os.path.join(domain.images, name))
    sync_entries(domain.images)


def _left(img_id: str) -> str:
    return f".{img_id.lower()}.removed-"


def _is_own(place: Place) -> bool:
    """A template lies in the images that are on it, too; its metadata name its own image."""
    try:
        return metadata_file.read(place).image.lower() == place.img_id
    except Error:
        return True  # nobody can say: then its lease is looked at


def _voltype(place: Place) -> str:
    try:
        return metadata_file.read(place).voltype
    except Error:
        return ""
