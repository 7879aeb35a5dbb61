"""What is asked of each command. Ids that the engine chooses are chosen here: who asks gets to know
them at once, and a command that is resumed still has them. Sizes in bytes."""

from typing import Literal
from uuid import uuid4

import msgspec


def new_id() -> str:
    return str(uuid4())


class AddDisk(msgspec.Struct, frozen=True, kw_only=True):
    """domain: its id. size: of a managed disk it is rounded up to whole GiB. format, sparse: of
    images; a managed disk is raw."""

    name: str
    domain: str
    size: int
    description: str = ""
    format: Literal["raw", "cow"] = "raw"
    sparse: bool = True
    disk: str = msgspec.field(default_factory=new_id)
    volume: str = msgspec.field(default_factory=new_id)


class RemoveDisk(msgspec.Struct, frozen=True, kw_only=True):
    disk: str


class ExtendDisk(msgspec.Struct, frozen=True, kw_only=True):
    """size: all of it, not what is added."""

    disk: str
    size: int


class SnapshotCreate(msgspec.Struct, frozen=True, kw_only=True):
    disk: str
    description: str = ""
    snapshot: str = msgspec.field(default_factory=new_id)


class SnapshotDelete(msgspec.Struct, frozen=True, kw_only=True):
    snapshot: str


class SnapshotPreview(msgspec.Struct, frozen=True, kw_only=True):
    """volume: the id of the one that is made, if the adapter takes one."""

    snapshot: str
    volume: str = msgspec.field(default_factory=new_id)


class SnapshotCommit(msgspec.Struct, frozen=True, kw_only=True):
    """disk: that is in preview."""

    disk: str


class SnapshotUndo(msgspec.Struct, frozen=True, kw_only=True):
    """disk: that is in preview."""

    disk: str
