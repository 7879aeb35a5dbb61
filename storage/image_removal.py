"""Removing an image: first its volumes cease to exist, then its folder moves away, then it goes.

A volume without metadata does not exist, and nobody takes up a job to it; so the metadata go
first, under the leases of the volumes, which is the caller's part. A crash leaves an image with
fewer volumes, or none, or a folder under a hidden name; removing the image again does the rest.

Nothing keeps anybody, on any host, from making a volume in the image meanwhile. In the folder that
has moved nobody can, as names lead there no more; so only what is found in it there is certain, and
one with a volume that came in between goes back to its place. Not under the leases: a daemon that
keeps them finds them by their names when it gives them back.
Source: docs/formats.md, "Volume files". Everything here blocks: callers run it in a worker thread.
"""

import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Collection, Iterator
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
    places = tuple(Place(folder, img_id, name) for name in _volumes(folder))
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


def unpublish(image: Doomed) -> None:
    """Let its volumes exist no more, and bring that to disk. The leases are held.

    Raises AcquireLockFailure (651), and changes nothing: somebody makes a volume of the image, or
    has made one since it was looked at.
    """
    with _unmade(image.img_id, image.folder, known=[place.vol_id for place in image.places]):
        for place in image.places:
            with suppress(FileNotFoundError):
                os.unlink(place.meta)
        sync_entries(image.folder)


def move_away(domain: Domain, image: Doomed) -> None:
    """Take the folder of an image whose volumes do not exist any more out of its place.

    Raises AcquireLockFailure (651): somebody makes a volume of the image, or has made one since.
    """
    with suppress(FileNotFoundError):  # another host was faster
        with _unmade(image.img_id, image.folder):
            # In one step, and to no folder that is there before: others who find it find all of it.
            os.rename(image.folder, os.path.join(domain.images, _moved(image.img_id) + _new()))
        sync_entries(domain.images)


def settle(domain: Domain, img_id: str) -> None:
    """See that no volume came along with what was moved away, now or before a crash.

    Raises AcquireLockFailure (651): one did, or it was just being made; the image is back.
    """
    place = os.path.join(domain.images, img_id.lower())
    for away in _hidden(domain, _moved(img_id)):
        try:
            with _unmade(img_id, away):
                os.rename(away, os.path.join(domain.images, _left(img_id) + _new()))
        except AcquireLockFailure:
            with suppress(FileNotFoundError):
                _bring_back(away, place)
            sync_entries(domain.images)
            raise
        except FileNotFoundError:  # another host does it, too, and may have brought it back
            if os.path.lexists(place):
                raise AcquireLockFailure(f"image {img_id}", "another host removes it") from None
    sync_entries(domain.images)


def remove_left(domain: Domain, img_id: str) -> None:
    """Remove what has settled, now or before a crash. Raises OSError: call it again."""
    for path in _hidden(domain, _left(img_id)):
        with suppress(FileNotFoundError):  # another host removes it, too
            shutil.rmtree(path)
    sync_entries(domain.images)


@contextmanager
def _unmade(img_id: str, folder: str, known: Collection[str] = ()) -> Iterator[None]:
    """There are no volumes but those that are known, and nobody who began before the body makes
    one. Raises AcquireLockFailure (651), FileNotFoundError: the folder is gone.
    """
    _look_anew(folder)
    with ExitStack() as stack:
        for name in os.listdir(folder):
            if name.endswith(_CREATING):
                with suppress(FileNotFoundError):
                    fd = os.open(os.path.join(folder, name), _FLAGS)
                    stack.callback(metadata_file.unlock, fd)
                    if not metadata_file.lock(fd):
                        raise AcquireLockFailure(f"image {img_id}", f"{name} is held")
        # After the marks, which become metadata.
        for vol_id in _volumes(folder):
            if vol_id not in known:
                raise AcquireLockFailure(f"image {img_id}", f"volume {vol_id} was just made")
        yield


def _look_anew(folder: str) -> None:
    """Let the next listing tell what other hosts have done: that of a folder on NFS may be half a
    minute old where this host has not changed the folder itself. Source: nfs(5), acdirmin."""
    with suppress(OSError):  # no space, say: then nobody makes a volume either
        fd, path = tempfile.mkstemp(prefix=".look-", dir=folder)
        os.close(fd)
        os.unlink(path)


def _bring_back(away: str, place: str) -> None:
    """Where there is an image again by now the files join those of it, what publishes them last.
    A name that is there already stays away."""
    try:
        os.rename(away, place)  # in place of an empty folder at most
    except OSError as e:
        if e.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        for name in sorted(os.listdir(away), key=_order):
            with suppress(FileExistsError):
                os.link(os.path.join(away, name), os.path.join(place, name))
                os.unlink(os.path.join(away, name))
        sync_entries(place)
        with suppress(OSError):  # not empty
            os.rmdir(away)


def _order(name: str) -> tuple[bool, bool]:
    return name.endswith(META), not name.endswith(_CREATING)


def _volumes(folder: str) -> list[str]:
    """Ids of the volumes that exist."""
    names = [name.removesuffix(META) for name in os.listdir(folder) if name.endswith(META)]
    return sorted(filter(is_uuid, names))


def _hidden(domain: Domain, prefix: str) -> list[str]:
    names = [name for name in os.listdir(domain.images) if name.startswith(prefix)]
    return [os.path.join(domain.images, name) for name in sorted(names)]


def _moved(img_id: str) -> str:
    return f".{img_id.lower()}.moved-"


def _left(img_id: str) -> str:
    return f".{img_id.lower()}.removed-"


def _new() -> str:
    return uuid.uuid4().hex[:8]


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
