"""SDM.*: jobs on the data of storage."""

import time
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from endpoints.domain import StoreKind
from endpoints.external import local_name
from endpoints.url import PathUrl, parse
from endpoints.volume_update import VolumeUpdate, update_volume
from host import looking
from host.copying import named_domains
from host.journal import Spec
from host.local_disk_here import group_of
from host.this_host import ThisHost
from host.verbs.verb import Params, Verb
from jobs.progress import Report
from protocol.errors import (
    BadParameter,
    GenerationMismatch,
    ImageDoesNotExistInSD,
    JobExists,
    NoSpaceLeft,
    StorageDomainDoesNotExist,
    UnsupportedOperation,
    VolumeDoesNotExist,
)
from protocol.messages import (
    DivEndpoint,
    Endpoint,
    ExternalEndpoint,
    Generation,
    LocalEndpoint,
    decode_endpoint,
)
from storage import volume
from storage.domain import Domain

JOIN_TIME = 60.0  # seconds; joining again takes 21 with the usual io_timeout


class CopyData(Params, frozen=True):
    """limit: bytes per second. priority: a higher one goes first. verify: compare afterwards."""

    job_id: UUID
    source: dict[str, Any]
    destination: dict[str, Any]
    copy_bitmaps: bool = False
    limit: Annotated[int, msgspec.Meta(gt=0, le=1 << 62)] | None = None
    priority: Annotated[int, msgspec.Meta(ge=-1000, le=1000)] = 0
    verify: bool = False


class VolumeInfo(msgspec.Struct, frozen=True):
    """generation: the one that is expected; null: it is not looked at."""

    sd_id: UUID
    img_id: UUID
    vol_id: UUID
    generation: Generation | None = None


class VolumeAttributes(msgspec.Struct, frozen=True):
    """What is to be changed. Without generation the volume takes its next one."""

    generation: Generation | None = None
    legality: Literal["LEGAL", "ILLEGAL"] | None = None
    description: str | None = None
    type: str | None = None


class UpdateVolume(Params, frozen=True):
    job_id: UUID
    vol_info: VolumeInfo
    vol_attr: VolumeAttributes


async def copy_data(host: ThisHost, params: CopyData, flow_id: str) -> None:
    """Begin the job that copies one disk to another. A bad call makes no job."""
    with host.managed.uses.named(params.source.get("url"), params.destination.get("url")):
        await _begin(host, params, flow_id)


async def _begin(host: ThisHost, params: CopyData, flow_id: str) -> None:
    source = await _allowed(host, decode_endpoint(params.source, role="source"))
    destination = await _allowed(host, decode_endpoint(params.destination, role="destination"))
    domains = {one: await host.domains.load(one) for one in named_domains(source, destination)}
    formats = [await _format(end, domains) for end in (source, destination)]
    if params.copy_bitmaps and "raw" in formats:
        raise UnsupportedOperation("raw has no bitmaps to copy")
    spec = Spec(
        job_id=params.job_id,
        description=f"copy {_name(source)} to {_name(destination)}",
        source=msgspec.to_builtins(source),
        destination=msgspec.to_builtins(destination),
        domains={one.id: one.path for one in domains.values()},
        store=_store_kind(host, destination, domains),
        hardware_id=host.hardware_id,
        allow=host.config.endpoints.backing,
        create_under=_created_in(destination),
        real=host.allowed.real_names(source, destination),
        limit=params.limit,
        stall_time=host.config.jobs.stall_time,
        join_time=JOIN_TIME if _activated(host, destination) else 0.0,
        local=group_of(host.config) if isinstance(destination, LocalEndpoint) else None,
        verify=params.verify,
        copy_bitmaps=params.copy_bitmaps,
        priority=params.priority,
        created=time.time(),
        flow_id=flow_id,
    )
    await host.agent.submit(spec)


async def update(host: ThisHost, params: UpdateVolume, flow_id: str) -> None:
    """Begin the job that changes the metadata of a volume, under its lease.

    That is also how a copy to a volume is fenced: with a generation that it does not expect.
    A restart of the agent forgets the job; the generation of the volume tells whether it was done.
    """
    wanted, info = params.vol_attr, params.vol_info
    change = _change(info, wanted)
    domain = await host.domains.load(str(info.sd_id))
    ids = str(info.img_id), str(info.vol_id)
    await looking.look(domain.path, volume.read, domain, *ids)

    async def work(report: Report) -> dict[str, Any]:
        store = await host.store_in(domain)
        done = await update_volume(domain, store, *ids, change)
        return {"generation": done.metadata.generation, "legality": done.metadata.legality}

    described = f"update volume {info.vol_id}"
    host.updates.start(str(params.job_id), work, description=described)


async def _allowed(host: ThisHost, end: Endpoint) -> Endpoint:
    """An endpoint that a client may name, a file by its real name. Raises BadParameter (1000)."""
    if not isinstance(end, ExternalEndpoint):
        return end
    path = local_name(parse(end.url)) or ""
    place = looking.place_of(path, host.allowed.rules.directories)
    return await looking.look(f"files in {place}", host.allowed.checked, end)


async def _format(end: Endpoint, domains: dict[str, Domain]) -> str:
    """By the message, or by the metadata of the volume, which must exist."""
    if isinstance(end, ExternalEndpoint):
        return end.format
    if isinstance(end, LocalEndpoint):
        return "raw"
    domain = domains[str(end.sd_id)]
    found = await looking.look(domain.path, volume.read, domain, str(end.img_id), str(end.vol_id))
    return found.format


def _created_in(destination: Endpoint) -> tuple[str, ...]:
    """The one folder in which a missing target file may be created: that which was allowed."""
    if not isinstance(destination, ExternalEndpoint) or not destination.create:
        return ()
    url = parse(destination.url)
    return (url.path.rpartition("/")[0] or "/",) if isinstance(url, PathUrl) else ()


def _activated(host: ThisHost, destination: Endpoint) -> bool:
    """Does this host join the lockspace of the lease whenever it is not in it?"""
    return not named_domains(destination, destination).isdisjoint(host.domains.host_ids)


def _store_kind(host: ThisHost, destination: Endpoint, domains: Mapping[str, Domain]) -> StoreKind:
    """Who keeps the lease of the copy."""
    named = (domains[one] for one in named_domains(destination, destination))
    return next(map(host.store_kind, named), host.config.storage.store)


def _name(end: Endpoint) -> str:
    if isinstance(end, DivEndpoint):
        return f"{end.sd_id}/{end.img_id}/{end.vol_id}"
    if isinstance(end, LocalEndpoint):
        return f"local disk {end.vol_id}"
    return str(parse(end.url))


def _change(info: VolumeInfo, wanted: VolumeAttributes) -> VolumeUpdate:
    """Raises BadParameter (1000), UnsupportedOperation (2009)."""
    if wanted.type is not None:
        raise UnsupportedOperation("the type of a volume is not changed")
    if wanted.generation is not None and wanted.legality is not None:
        raise BadParameter("vol_attr", "generation and legality are not set together")
    if wanted == VolumeAttributes():
        raise BadParameter("vol_attr", "nothing is to be changed")
    if wanted.description is not None and not wanted.description.isprintable():
        raise BadParameter("vol_attr.description", "it has control characters")
    return VolumeUpdate(
        expected=info.generation,
        generation=wanted.generation,
        legality=wanted.legality,
        description=wanted.description,
    )


VERBS = (
    Verb(
        "SDM.copy_data",
        CopyData,
        copy_data,
        "true; the job goes on",
        errors=(
            JobExists,
            StorageDomainDoesNotExist,
            ImageDoesNotExistInSD,
            VolumeDoesNotExist,
            UnsupportedOperation,
            NoSpaceLeft,
        ),
        differs="`create` of an external endpoint is false by default, its `lease` and `generation`"
        " are optional on a source, and urls are checked against what this host allows; `limit`,"
        " `priority` and `verify` are ours",
    ),
    Verb(
        "SDM.update_volume",
        UpdateVolume,
        update,
        "true; the job has the error 911 for another generation, 651 while a copy to it runs",
        errors=(
            JobExists,
            StorageDomainDoesNotExist,
            ImageDoesNotExistInSD,
            VolumeDoesNotExist,
            UnsupportedOperation,
            GenerationMismatch,
        ),
        differs="`type` is refused (2009); `generation` and `legality` are not set together; the"
        " job does not wait for jobs that read the image",
    ),
)
