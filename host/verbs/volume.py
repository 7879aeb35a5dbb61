"""Volume.*: volumes of storage domains."""

import os
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
import trio

from endpoints.volume import create_volume, owners
from host import looking
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from protocol.errors import (
    BadParameter,
    Error,
    ImageDoesNotExistInSD,
    InvalidVolumeMetadata,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeCreationError,
    VolumeDoesNotExist,
    VolumeExists,
)
from storage import volume
from storage.chain import Format
from storage.domain import Domain
from storage.volume import ILLEGAL, LEGAL, Volume
from storage.volume_metadata import NO_PARENT, VolumeMetadata
from storage.volume_request import Request

FORMATS: dict[str | int, Format] = {"RAW": "raw", 5: "raw", "COW": "qcow2", 4: "qcow2"}
PREALLOCATED = ("PREALLOCATED", 1)
DATA = (2, "2", "DATA")
SECTOR = 512
MaybeUuid: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A([0-9A-Fa-f-]{36})?\Z")]


class VolumeId(Params, frozen=True):
    volumeID: UUID
    storagedomainID: UUID
    imageID: UUID


class Create(Params, frozen=True):
    """size: bytes, also as text; null: that of the parent. preallocate: PREALLOCATED (1) or
    SPARSE (2). srcVolUUID: the parent, a volume of the same image. legal: false: its content is not
    to be used yet. volFormat: RAW (5) or COW (4).
    """

    volumeID: UUID
    storagedomainID: UUID
    imageID: UUID
    volFormat: Literal["RAW", "COW", 4, 5]
    size: int | str | None = None
    preallocate: Literal["PREALLOCATED", "SPARSE", 1, 2] = "SPARSE"
    diskType: str | int = "DATA"
    desc: str = ""
    srcImgUUID: MaybeUuid | None = None
    srcVolUUID: MaybeUuid | None = None
    addBitmaps: bool = False
    legal: bool = True
    bitmap: UUID | None = None


async def create(host: ThisHost, params: Create, flow_id: str) -> str:
    """Make an empty volume, or one on another volume of its image."""
    request = _request(params)
    domain = await host.domains.load(str(params.storagedomainID))
    ids = str(params.imageID), str(params.volumeID)

    async def work() -> dict[str, Any]:
        made = await create_volume(domain, *ids, request)
        if not params.legal:
            with trio.CancelScope(shield=True):
                change = partial(volume.update, domain, *ids, _illegal)
                made = await trio.to_thread.run_sync(change)
        return {"uuid": made.id, "image": made.img_id, "domain": made.sd_id, "path": made.path}

    return await host.tasks.finished("Volume.create", work)


async def get_info(host: ThisHost, params: VolumeId, flow_id: str) -> dict[str, Any]:
    """Tell what a volume is, and who holds its lease."""
    domain = await host.domains.load(str(params.storagedomainID))
    ids = str(params.imageID), str(params.volumeID)
    found = await looking.look(domain.path, volume.read, domain, *ids)
    facts = await looking.look(domain.path, _facts, domain, found)
    lease: dict[str, Any] = {"path": found.lease, "offset": 0}
    with suppress(Error):  # a host that has not joined cannot tell
        held = await owners(await host.store_in(domain), found)
        lease["owners"] = held
    return {**facts, "lease": lease}


def _request(params: Create) -> Request:
    """Raises BadParameter (1000), UnsupportedOperation (2009)."""
    if params.addBitmaps or params.bitmap is not None:
        raise UnsupportedOperation("a new volume gets no bitmaps")
    image = _uuid(params.srcImgUUID)
    if image not in (None, str(params.imageID)):
        raise UnsupportedOperation("the parent of a volume is of the same image")
    if isinstance(params.diskType, int) and params.diskType not in DATA:
        raise BadParameter("diskType", f"{params.diskType} is not known")
    return Request(
        format=FORMATS[params.volFormat],
        capacity=_size(params.size),
        now=int(time.time()),
        preallocated=params.preallocate in PREALLOCATED,
        parent=_uuid(params.srcVolUUID),
        description=params.desc,
        disktype="DATA" if params.diskType in DATA else str(params.diskType),
    )


def _size(size: int | str | None) -> int | None:
    if isinstance(size, str):
        if not (size.isascii() and size.isdigit() and len(size) <= 19):
            raise BadParameter("size", f"{size[:40]!r} is not a number of bytes")
        return int(size)
    return size


def _uuid(value: str | None) -> str | None:
    """Clients say in three ways that there is none."""
    return None if value in (None, "", NO_PARENT) else str(value).lower()


def _illegal(metadata: VolumeMetadata) -> VolumeMetadata:
    return replace(metadata, legality=ILLEGAL)


def _facts(domain: Domain, found: Volume) -> dict[str, Any]:
    """Blocks."""
    metadata = found.metadata
    status = os.stat(found.path)
    family = volume.of_image(domain, found.img_id, damaged=lambda path, error: None)
    return {
        "uuid": found.id,
        "domain": found.sd_id,
        "image": found.img_id,
        "pool": "",
        "parent": found.parent or NO_PARENT,
        "children": [one.id for one in family if one.parent == found.id],
        "capacity": metadata.capacity,
        "apparentsize": status.st_size,
        "truesize": status.st_blocks * SECTOR,
        "format": metadata.format,
        "allocType": metadata.type,
        "type": metadata.type,
        "voltype": metadata.voltype,
        "disktype": metadata.disktype,
        "description": metadata.description,
        "legality": metadata.legality,
        "status": "OK" if metadata.legality == LEGAL else "ILLEGAL",
        "generation": metadata.generation,
        "sequence": metadata.sequence,
        "ctime": metadata.ctime,
        "mtime": 0,
        "path": found.path,
    }


VERBS = (
    Verb(
        "Volume.create",
        Create,
        create,
        "the id of a task, which has finished; its result: uuid, image, domain, path",
        task=True,
        errors=(
            StorageDomainDoesNotExist,
            UnsupportedOperation,
            ImageDoesNotExistInSD,
            VolumeDoesNotExist,
            VolumeExists,
            VolumeCreationError,
        ),
        differs="`storagepoolID`, `initialSize` and `sequence` are ignored; the parent is of the"
        " same image; bitmaps are refused (2009)",
    ),
    Verb(
        "Volume.getInfo",
        VolumeId,
        get_info,
        "uuid, domain, image, pool, parent, children, capacity, apparentsize, truesize (bytes),"
        " format (RAW or COW), allocType, type, voltype, disktype, description, legality, status,"
        " generation, sequence, ctime, mtime, path, lease (path, offset, owners)",
        reads=True,
        errors=(
            StorageDomainDoesNotExist,
            ImageDoesNotExistInSD,
            VolumeDoesNotExist,
            InvalidVolumeMetadata,
        ),
        differs="`storagepoolID` is ignored; `path` and `type` are ours; `lease` has no version",
    ),
)
