"""What a copy finds in the database, and the rows of its target; in the caller's transaction."""

from dataclasses import replace
from typing import Literal, Protocol

from sqlalchemy import Connection

from engine.commands import image_places
from engine.commands.add_disk import size_of
from engine.commands.disk_checks import active_domain, taken
from engine.commands.ends import End, Ends, Format, ImageEnd, ManagedEnd
from engine.db import disks, volumes
from engine.db.disks import Disk
from engine.db.volumes import Volume
from protocol.errors import BadParameter, WrongState

IMAGE: Literal["image"] = "image"
DATA = "data"


class Wanted(Protocol):
    """What copying and moving have in common. format, sparse: None: as the source.

    target: the id of the disk that has the new volume in the end. verify: compare afterwards.
    limit: bytes per second.
    """

    @property
    def disk(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def volume(self) -> str: ...
    @property
    def job(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def format(self) -> Literal["raw", "cow"] | None: ...
    @property
    def sparse(self) -> bool | None: ...
    @property
    def verify(self) -> bool: ...
    @property
    def limit(self) -> int | None: ...


def begin_source(c: Connection, spec: Wanted, command: str) -> Disk:
    """Lock the disk that is copied. Raises NoSuchObject (4400), DiskLocked (4402), InQuarantine
    (4412), WrongState (4403): it has no content, or its domain is in maintenance."""
    disk = taken(c, spec.disk, command)
    if disk.volume is None:
        raise WrongState("disk", disk.called, "without a volume", "ok")
    return disk


def begin_target(c: Connection, spec: Wanted, source: Disk) -> Disk:
    """The disk as it will be. Raises NoSuchObject (4400), WrongState (4403): the domain is in
    maintenance; BadParameter (1000)."""
    managed = active_domain(c, spec.domain).kind != DATA
    format = _format(spec, source, managed=managed)
    return replace(
        source,
        id=spec.target,
        domain=spec.domain,
        kind="managed" if managed else IMAGE,
        format=format,
        sparse=source.sparse if spec.sparse is None else spec.sparse,
        size=size_of(source.size, managed=managed),
        volume=spec.volume,
        image=None if managed else spec.target,
    )


def begin_volume(c: Connection, target: Disk, command: str, *, disk: str | None) -> None:
    """The row of the volume that is to be filled. disk: None: it is of none until the switch.

    Raises InQuarantine (4412): an earlier command has left one in its place."""
    assert target.volume is not None
    if target.image is not None:
        image_places.must_be_new(c, target.domain, target.image)
    row = Volume(
        target.volume,
        disk=disk,
        domain=target.domain,
        image=target.image,
        parent=None,
        size=target.size,
        format=target.format,
        state="creating",
        command=command,
    )
    volumes.add(c, row)


def ends(c: Connection, spec: Wanted) -> Ends:
    """As long as the disk is locked for the command, this is always the same."""
    source, target = disks.get(c, spec.disk), volumes.get(c, spec.volume)
    assert source.volume is not None
    sparse = source.sparse if spec.sparse is None else spec.sparse
    return Ends(
        _end(source.domain, source.volume, source.image, source.format),
        _end(target.domain, target.id, target.image, target.format),
        source.size,
        sparse,
    )


def _end(domain: str, volume: str, image: str | None, format: str) -> End:
    if image is None:
        return ManagedEnd(domain, volume)
    return ImageEnd(domain, volume, image, "cow" if format == "cow" else "raw")


def _format(spec: Wanted, source: Disk, *, managed: bool) -> Format:
    if managed and spec.format == "cow":
        raise BadParameter("format", "managed disks are raw")
    wanted = spec.format or source.format
    return "cow" if wanted == "cow" and not managed else "raw"
