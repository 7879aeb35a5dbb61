"""The source of a local disk: how large it is and which state of it would be copied."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import trio

from endpoints.disk import Disk
from endpoints.url import PathUrl, parse
from host.copying import endpoint
from host.local_disk_here import Here
from host.local_disk_request import PrepareRequest
from protocol.errors import BadParameter, Error
from protocol.messages import (
    DivEndpoint,
    Endpoint,
    ExternalEndpoint,
    LocalEndpoint,
    decode_endpoint,
)
from storage import metadata_file
from storage.domain import Domain
from storage.image import Policy
from storage.volume_place import Place, place


@dataclass(frozen=True)
class Source:
    """message: as the copy is told it. domains: folders of those that it names, by id. real: see
    host.folder.Spec. disk: None, it cannot be copied now, for `error`. generation: None, it is not
    known.
    """

    message: dict[str, Any]
    name: str
    domains: dict[str, str]
    real: tuple[str, ...] = ()
    disk: Disk | None = None
    generation: int | None = None
    error: Error | None = None

    @property
    def size(self) -> int | None:
        """Bytes, its virtual size."""
        return None if self.disk is None else self.disk.size


async def looked_at(here: Here, request: PrepareRequest) -> Source:
    """Raises BadParameter (1000): it cannot be what it is said to be, or is not allowed;
    StorageDomainDoesNotExist (358), and as storage.domain.load.

    A source that is not there, or cannot be read, is an error only when it has to be copied.
    """
    message = await _allowed(here, decode_endpoint(dict(request.source), role="source"))
    real = here.allowed.real_names(message) if here.allowed is not None else ()
    domains: dict[str, Domain] = {}
    if isinstance(message, DivEndpoint):
        sd_id = str(message.sd_id)
        domains[sd_id] = await here.domains.load(sd_id)
    disk, generation, error = None, None, None
    try:
        end = endpoint(message, domains, real=real)
        policy = Policy(allow=here.config.endpoints.backing)
        disk = await end.source(policy)
        generation = await _generation(message, domains)
    except Error as e:
        error = e
    return Source(
        msgspec.to_builtins(message),
        _name(message),
        {one.id: one.path for one in domains.values()},
        real,
        disk,
        generation,
        error,
    )


async def _allowed(here: Here, message: Endpoint) -> DivEndpoint | ExternalEndpoint:
    """A file by its real name: what is checked now is what is copied."""
    if isinstance(message, LocalEndpoint):
        raise BadParameter("source", "a local disk is the destination of a copy")
    if here.allowed is None or isinstance(message, DivEndpoint):
        return message
    check = here.allowed.checked
    return await trio.to_thread.run_sync(check, message, abandon_on_cancel=True)


async def _generation(
    message: DivEndpoint | ExternalEndpoint, domains: dict[str, Domain]
) -> int | None:
    """Of the volume, as its metadata says; None: it has none, or none that can be read."""
    if isinstance(message, DivEndpoint):
        ids = str(message.img_id), str(message.vol_id)
        find = partial(place, domains[str(message.sd_id)], *ids)
    elif isinstance(url := parse(message.url), PathUrl):
        folder, vol_id = os.path.split(url.path)
        find = partial(Place, folder, os.path.basename(folder), vol_id)
    else:
        return None
    read = partial(_read_generation, find)
    return await trio.to_thread.run_sync(read, abandon_on_cancel=True)


def _read_generation(find: Callable[[], Place]) -> int | None:
    try:
        return metadata_file.read(find()).generation
    except (Error, OSError):
        return None


def _name(message: Endpoint) -> str:
    if isinstance(message, DivEndpoint):
        return f"{message.sd_id}/{message.img_id}/{message.vol_id}"
    return str(parse(message.url)) if isinstance(message, ExternalEndpoint) else ""
