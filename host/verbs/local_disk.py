"""LocalDisk.*: copies of disks on storage of this host, for the VMs that it runs."""

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from host import local_disks
from host.local_disk_request import PrepareRequest
from host.local_disk_vms import known
from host.this_host import ThisHost
from host.verbs.verb import Nothing, Params, Verb
from protocol.errors import (
    ImageMissing,
    LocalDiskInUse,
    LocalDiskRefused,
    LocalDiskUncertain,
    NoLocalSpace,
    NoSpace,
    StorageDomainDoesNotExist,
    ThinPoolMissing,
    ThinPoolUnsafe,
    ToolFailed,
    ToolMissing,
    ToolStalled,
    VolumeGroupMissing,
)


class Prepare(Params, frozen=True):
    """vol_id, img_id: of the volume that is copied; the logical volume is named by the first.
    vm_id: whose disk it is. sd_id: the storage domain for the lease of the copy; null: that of the
    configuration, else one of this host alone. start: a VM is about to write to it. again: copy
    anew, whatever a VM has written. limit: bytes per second.
    """

    vol_id: UUID
    img_id: UUID
    backend: Literal["lvm", "lvmthin"]
    source: dict[str, Any]
    vm_id: UUID | None = None
    sd_id: UUID | None = None
    start: bool = False
    again: bool = False
    limit: Annotated[int, msgspec.Meta(gt=0, le=1 << 62)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    verify: bool = False


class Remove(Params, frozen=True):
    """One of vol_id and vm_id, or both: the disk, if it is one of that VM. abort: end the copy that
    fills it first, or wait for its end."""

    vol_id: UUID | None = None
    vm_id: UUID | None = None
    abort: bool = False


class Collect(Params, frozen=True):
    """dry_run: remove nothing. vms: all VMs that there are, at least one; null: those that the
    command localdisk.vms of the configuration prints. Without one they are not known, and no disk
    is removed for want of its VM."""

    dry_run: bool = False
    vms: Annotated[tuple[UUID, ...], msgspec.Meta(min_length=1)] | None = None


async def prepare(host: ThisHost, params: Prepare, flow_id: str) -> dict[str, Any]:
    """Have a local copy of a volume made, or use the one that is there. Answers at once.

    While it is being copied the state is `filling`: follow the job, by Host.getJobs say, and when
    it is done, or nobody knows it, call again for `ready`. All who call meanwhile are told the same
    job. A call after a job that failed begins another one.
    """
    here = local_disks.in_agent(host)
    request = PrepareRequest(
        vol_id=str(params.vol_id),
        img_id=str(params.img_id),
        backend=params.backend,
        source=params.source,
        vm_id=_text(params.vm_id),
        sd_id=_text(params.sd_id),
        start=params.start,
        again=params.again,
        limit=params.limit,
        verify=params.verify,
        priority=params.priority,
        flow_id=flow_id,
    )
    with host.managed.uses.named(params.source.get("url")):
        made = await local_disks.prepare(here, request)
    if made.state == "filling" and made.job_id is not None:
        await host.agent.adopt(made.job_id)  # one of a hook or command that went on without us
    return made.to_rpc()


async def list_(host: ThisHost, params: Nothing, flow_id: str) -> list[dict[str, Any]]:
    """Tell of all local disks of this host, by name."""
    return await local_disks.listed(local_disks.in_agent(host))


async def remove(host: ThisHost, params: Remove, flow_id: str) -> list[str]:
    """Remove local disks, with all that a VM has written to them; those that are not there are
    removed already. All of a VM are tried; the error is that of the first that could not be."""
    here = local_disks.in_agent(host)
    vol_id, vm_id = _text(params.vol_id), _text(params.vm_id)
    return await local_disks.remove(here, vol_id=vol_id, vm_id=vm_id, abort=params.abort)


async def gc(host: ThisHost, params: Collect, flow_id: str) -> list[dict[str, Any]]:
    """Remove local disks that nothing needs: those of copies that died, and of VMs that there are
    not. Never one that is open, is being filled, or was prepared in the last minutes."""
    here = local_disks.in_agent(host)
    vms = [str(one) for one in params.vms] if params.vms is not None else await known(host.config)
    found = await local_disks.gc(here, dry_run=params.dry_run, vms=vms)
    return [one.to_rpc() for one in found]


def _text(one: UUID | None) -> str | None:
    return None if one is None else str(one)


_LVM = (VolumeGroupMissing,)

VERBS = (
    Verb(
        "LocalDisk.prepare",
        Prepare,
        prepare,
        "vol_id, state (filling or ready), path (of the device), job_id (that fills it, or has),"
        " changed (true: the source has changed since it was copied, and it is used all the same,"
        " because a VM has written to it), reused (true: nothing is copied)",
        errors=(
            StorageDomainDoesNotExist,
            ImageMissing,
            LocalDiskRefused,
            LocalDiskInUse,
            LocalDiskUncertain,
            *_LVM,
            ThinPoolMissing,
            ThinPoolUnsafe,
            NoLocalSpace,
            NoSpace,
        ),
    ),
    Verb(
        "LocalDisk.list",
        Nothing,
        list_,
        "a list with, of each disk, vol_id, img_id, vm_id, backend, state (filling or ready),"
        " started (it was handed to a VM), size (bytes), active, open, path, job_id, job_status"
        " (what the lease of that job says; owned: it is held; null: there is none), generation"
        " (of the source when it was copied), prepared (seconds since the epoch), data_percent (of"
        " a thin one, allocated), foreign (tags of others); null where it is not known",
        reads=True,
        errors=_LVM,
    ),
    Verb(
        "LocalDisk.remove",
        Remove,
        remove,
        "a list with the vol_id of each that was removed",
        errors=(LocalDiskRefused, LocalDiskInUse, LocalDiskUncertain, *_LVM),
    ),
    Verb(
        "LocalDisk.gc",
        Collect,
        gc,
        "a list with, of each disk that nothing needs, vol_id, vm_id, reason, removed, failed (why"
        " it was not removed, or null)",
        errors=(*_LVM, ToolMissing, ToolFailed, ToolStalled),
    ),
)
