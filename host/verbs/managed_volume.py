"""ManagedVolume.*: volumes of managed block storage on this host."""

from typing import Annotated, Any
from uuid import UUID

import msgspec

from host.managed_secrets import concealed
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from protocol.errors import (
    BadParameter,
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    ManagedVolumeHelperFailed,
    ManagedVolumeInUse,
    ManagedVolumeUnsupportedDevice,
    NoSpaceLeft,
    UnsupportedOperation,
)
from protocol.managed import ConnectionInfo
from storage.managed_table import ManagedVolume

NO_DOMAIN = UUID(int=0)
Connection = Annotated[
    dict[str, Any],
    msgspec.Meta(
        description="object: `driver_volume_type` (text), `data` (object), `adapter` (text, or"
        " null, default null), and more that is kept"
    ),
]


class AttachVolume(Params, frozen=True):
    """connection_info: as the adapter of the engine told it for this host; it may hold secrets."""

    vol_id: UUID
    connection_info: Connection
    sd_id: UUID = NO_DOMAIN


class DetachVolume(Params, frozen=True):
    vol_id: UUID


class VolumesInfo(Params, frozen=True):
    """vol_ids: empty or null: all."""

    vol_ids: tuple[UUID, ...] | None = ()


async def attach_volume(host: ThisHost, params: AttachVolume, flow_id: str) -> dict[str, Any]:
    """Attach a volume to this host. When it fails nothing of it is left, or it is listed by
    volumes_info and can be detached.

    An attached volume may be named as an endpoint of a copy, by its path or its managed_path,
    whatever this host allows otherwise.
    """
    connection = params.connection_info
    try:
        msgspec.convert(connection, ConnectionInfo)
    except msgspec.ValidationError as e:
        raise BadParameter("connection_info", str(e)) from None
    made = await host.managed.attach(str(params.vol_id), str(params.sd_id), connection)
    return {
        "vol_id": made.vol_id,
        "path": made.path,
        "managed_path": host.managed.managed_path(made),
        "attachment": made.attachment,
    }


async def detach_volume(host: ThisHost, params: DetachVolume, flow_id: str) -> None:
    """Detach a volume from this host; one that is not attached is no error. After a failure it
    stays listed, and can be detached again."""
    await host.managed.detach(str(params.vol_id))


async def volumes_info(host: ThisHost, params: VolumesInfo, flow_id: str) -> list[dict[str, Any]]:
    """Tell of volumes that are attached to this host, or not quite attached or detached. Ids that
    are not known are left out."""
    found = await host.managed.info(str(one) for one in params.vol_ids or ())
    return [_info(host, volume, exists) for volume, exists in found]


def _info(host: ThisHost, volume: ManagedVolume, exists: bool) -> dict[str, Any]:
    return {
        "vol_id": volume.vol_id,
        "sd_id": volume.sd_id,
        "connection_info": concealed(volume.connection),
        "path": volume.path,
        "managed_path": host.managed.managed_path(volume),
        "attachment": volume.attachment,
        "exists": exists,
    }


VERBS = (
    Verb(
        "ManagedVolume.attach_volume",
        AttachVolume,
        attach_volume,
        "vol_id, path (of a device, or a url), managed_path (a link to the device; null for a url),"
        " attachment (as the helper told it)",
        errors=(
            ManagedVolumeHelperFailed,
            ManagedVolumeAlreadyAttached,
            ManagedVolumeUnsupportedDevice,
            ManagedVolumeConnectionMismatch,
            UnsupportedOperation,
            NoSpaceLeft,
        ),
        differs="a volume may also be attached as a url; after a reboot nothing is attached",
    ),
    Verb(
        "ManagedVolume.detach_volume",
        DetachVolume,
        detach_volume,
        "true",
        errors=(ManagedVolumeHelperFailed, ManagedVolumeInUse),
        differs="`sd_id` is ignored; a volume that a copy uses is not detached",
    ),
    Verb(
        "ManagedVolume.volumes_info",
        VolumesInfo,
        volumes_info,
        "a list with, of each volume, vol_id, sd_id, connection_info, path, managed_path,"
        " attachment, exists (the device is there, the server of the url takes connections); path"
        " and attachment are null when an attach was cut off",
        reads=True,
        differs="`sd_id` and `managed_path` are ours; secrets in connection_info are hidden",
    ),
)
