"""Image.*: the images of storage domains."""

from contextlib import suppress
from typing import Any
from uuid import UUID

import msgspec

from endpoints.image_removal import remove_image
from host import local
from host.folder import Folder
from host.local_disk_policy import check_image
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from protocol.errors import (
    AcquireLockFailure,
    ImageRefused,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeHasChild,
)
from protocol.local_disk_policy import Operation


class Delete(Params, frozen=True):
    """postZero: refused, as it means nothing on file storage. force: though other images are on a
    template of this one, or local disks of this host were copied from it.
    """

    storagedomainID: UUID
    imageID: UUID
    postZero: bool = False
    force: bool = False


async def delete(host: ThisHost, params: Delete, flow_id: str) -> str:
    """Remove an image with all of its volumes. One that is not there is removed already, so it may
    be asked for again when it is not known whether it was done. Jobs of other hosts that only read
    the image are not seen: that is the caller's part.
    """
    if params.postZero:
        raise UnsupportedOperation("postZero: what file storage overwrites may stay elsewhere")
    domain = await host.domains.load(str(params.storagedomainID))
    img_id = str(params.imageID)

    async def work() -> None:
        await _check_jobs(host, domain.id, img_id)
        if not params.force:
            await check_image(host, Operation.DELETE_DISK, img_id)
        store = await host.store_in(domain)
        await remove_image(domain, store, img_id, force=params.force)

    return await host.tasks.finished("Image.delete", work)


async def _check_jobs(host: ThisHost, sd_id: str, img_id: str) -> None:
    """Raise AcquireLockFailure (651) if a job of this host reads or writes the image, or will."""
    ids = [job.id for job in host.agent.registry.list() if not job.status.ended]
    users = await local.run(_users, [host.journal.folder(one) for one in ids], sd_id, img_id)
    if users:
        raise AcquireLockFailure(f"image {img_id}", f"job {users[0]} of this host uses it")


def _users(folders: list[Folder], sd_id: str, img_id: str) -> list[str]:
    found = []
    for folder in folders:
        with suppress(OSError, msgspec.MsgspecError):  # no copy, or just forgotten
            spec = folder.spec()
            ends: list[dict[str, Any]] = [spec.source, spec.destination]
            if any((end.get("sd_id"), end.get("img_id")) == (sd_id, img_id) for end in ends):
                found.append(str(spec.job_id))
    return found


VERBS = (
    Verb(
        "Image.delete",
        Delete,
        delete,
        "the id of a task, which has finished; its result: null",
        task=True,
        errors=(
            StorageDomainDoesNotExist,
            UnsupportedOperation,
            AcquireLockFailure,
            VolumeHasChild,
            ImageRefused,
        ),
        differs="`storagepoolID` and `discard` are ignored; `postZero` is refused (2009); an image"
        " that is not there is no error; one that a job uses is (651)",
    ),
)
