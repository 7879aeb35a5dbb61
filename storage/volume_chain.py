"""The chain of a volume, by metadata: what is written inside the images is never followed.

It is compared, though: an image that names another parent than its metadata is refused, before
anybody reads a disk that was put together wrongly.
Everything here blocks: callers run it in a worker thread.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import replace

from protocol.errors import BrokenVolumeChain, ImageRefused, VolumeDoesNotExist, WrongFormat
from storage import image_file, qcow2, signature, volume, walk
from storage.chain import Chain, Format, Link
from storage.description import Domain
from storage.image import ARGUMENT_LIMIT
from storage.image_file import ImageFile
from storage.policy import Policy
from storage.volume import Volume
from storage.volume_place import inside, is_uuid

VM_CONFIGURATION_SIZE = 10240  # bytes

DEFAULT = Policy()


def chain(domain: Domain, top: Volume, *, max_depth: int = DEFAULT.max_depth) -> tuple[Volume, ...]:
    """The volumes from `top` down to its base, each the parent of the one before.

    Raises BrokenVolumeChain: a parent is missing, is no UUID, stands above itself, is below a raw
    volume, or there are more than `max_depth`; InvalidVolumeMetadata (751), ImageRefused.
    """
    found = [top]
    while (parent := found[-1].parent) is not None:
        if found[-1].format == "raw":
            raise BrokenVolumeChain(top.id, f"raw volume {found[-1].id} has the parent {parent!r}")
        if not is_uuid(parent):
            raise BrokenVolumeChain(top.id, f"{found[-1].id} has the parent {parent!r}, no UUID")
        if parent in (one.id for one in found):
            raise BrokenVolumeChain(top.id, f"{parent} is above itself: a loop")
        if len(found) == max_depth:
            raise BrokenVolumeChain(top.id, f"it has more than {max_depth} volumes")
        try:
            found.append(volume.at(domain, top.place.other(parent)))
        except VolumeDoesNotExist:
            raise BrokenVolumeChain(top.id, f"parent {parent} is missing") from None
    return tuple(found)


def inspect(domain: Domain, volumes: Sequence[Volume], policy: Policy = DEFAULT) -> Chain:
    """The images of `volumes`, as `chain` gave them, each compared with its metadata.

    A raw volume may hold anything: nothing in it is looked at. A qcow2 volume must name its
    parent's file as its backing file, with its format, and have no data file; what the policy
    allows beside that is not used.
    Raises ImageMissing, ImageRefused, WrongFormat, InvalidVolumeMetadata (751).
    """
    strict = replace(policy, allow=())
    links: list[Link] = []
    below: Link | None = None
    for one in reversed(volumes):
        below = _link(domain, one, below, strict)
        links.insert(0, below)
    chain = Chain(tuple(links))
    if len(json.dumps(chain.node())) > ARGUMENT_LIMIT:
        raise ImageRefused(volumes[0].path, "the names of its chain are too long together")
    return chain


def _link(domain: Domain, one: Volume, below: Link | None, policy: Policy) -> Link:
    file = image_file.read(inside(domain, one.path))
    if file.volume:
        raise ImageRefused(file.path, "a volume of a file domain is a regular file")
    if one.format == "raw" or _is_vm_configuration(one, file):
        _check_size(file, policy)
        return Link(file.path, "raw", file.raw_size, file.node)
    # The first step of the walk is this image alone; the generator is not asked for more.
    link = next(walk.source(file, "qcow2", policy))
    _check_parent(file, qcow2.parse(file.head), below)
    return link


def _is_vm_configuration(one: Volume, file: ImageFile) -> bool:
    """Engines once called the volume with the configuration of a snapshot's VM COW; it is raw."""
    return (
        one.parent is None
        and one.metadata.capacity == VM_CONFIGURATION_SIZE
        and signature.guess(file.head) == "raw"
    )


def _check_size(file: ImageFile, policy: Policy) -> None:
    if file.raw_size > policy.max_virtual_size:
        limit = policy.max_virtual_size
        raise ImageRefused(file.path, f"size {file.raw_size}, more than {limit} is not allowed")


def _check_parent(file: ImageFile, header: qcow2.Header, below: Link | None) -> None:
    """Raise unless the backing file that the header names is the parent by metadata."""
    named = header.backing_file
    if below is None or named is None:
        if below is not None:
            raise ImageRefused(file.path, "it names no backing file, its metadata have a parent")
        if named is not None:
            raise ImageRefused(file.path, f"backing file {named!r}, its metadata have no parent")
        return
    found = os.path.realpath(os.path.join(file.folder or "/", named))
    if found != below.path:
        reason = f"backing file {named!r} is not its parent by metadata, {below.path}"
        raise ImageRefused(file.path, reason)
    expected: Format = below.format
    if header.backing_format != expected:
        raise WrongFormat(below.path, expected, f"{header.backing_format} for {file.path}")
