"""What `leasehold copy` was asked for, made into the messages of a copy."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from endpoints.copy_data import CopyRequest, Endpoint
from endpoints.div import CopyDataDivEndpoint
from endpoints.domain import StoreKind
from endpoints.external import CopyDataExternalEndpoint
from endpoints.url import PathUrl, Url
from endpoints.watchdog import STALL_TIME
from protocol.errors import BadParameter
from protocol.messages import DivEndpoint, ExternalEndpoint, Format, LeaseRef
from storage.domain import Domain
from storage.image import Policy

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_VOLUME = re.compile(rf"{_UUID}/{_UUID}/{_UUID}")


@dataclass(frozen=True)
class Order:
    """The arguments of the command, checked one by one."""

    source: str
    destination: str
    source_format: Format | None = None
    format: Format = "raw"
    allow: tuple[str, ...] = ()
    limit: int | None = None
    domain: str | None = None
    job_id: str | None = None
    keep_lease: bool = False
    store: StoreKind = "auto"
    verify: bool = False
    stall_time: float = STALL_TIME

    domains: Mapping[str, Domain] = field(default_factory=dict)  # those of its volumes, by id

    @property
    def volumes(self) -> tuple[str, ...]:
        """The ends that are volumes."""
        return tuple(filter(_VOLUME.fullmatch, (self.source, self.destination)))

    @property
    def target_volume(self) -> CopyDataDivEndpoint | None:
        """The target, if it is a volume; its generation is not looked at."""
        return self._volume(self.destination) if self.destination in self.volumes else None

    def request(self, sd_id: str, job_id: str, generation: int | None) -> CopyRequest:
        """Raises BadParameter (1000) for a url that cannot be one."""
        target = self._target(sd_id, job_id, generation)
        return CopyRequest(
            job_id=job_id,
            source=self._source(),
            destination=target,
            policy=Policy(allow=self.allow),
            create_under=_folder_of(target.url),
            limit=self.limit,
            stall_time=self.stall_time,
            verify=self.verify,
        )

    def _source(self) -> Endpoint:
        if self.source in self.volumes:
            return self._volume(self.source)
        message = ExternalEndpoint(url=self.source, format=self.source_format or "raw")
        return CopyDataExternalEndpoint.read(message, find_format=self.source_format is None)

    def _target(self, sd_id: str, job_id: str, generation: int | None) -> Endpoint:
        if self.destination in self.volumes:
            return self._volume(self.destination, generation)
        message = ExternalEndpoint(
            url=self.destination,
            format=self.format,
            lease=LeaseRef(UUID(sd_id), job_id),
            generation=generation,
            create=True,
        )
        return CopyDataExternalEndpoint.read(message)

    def _volume(self, name: str, generation: int | None = None) -> CopyDataDivEndpoint:
        sd_id, img_id, vol_id = name.split("/")
        message = DivEndpoint(UUID(sd_id), UUID(img_id), UUID(vol_id), generation)
        return CopyDataDivEndpoint(message, self.domains[sd_id])


def check(order: Order) -> None:
    """Raise BadParameter (1000) for options that do not fit a volume."""
    if order.source in order.volumes and order.source_format is not None:
        raise BadParameter("--source-format", "the format of a volume stands in its metadata")
    if order.destination not in order.volumes:
        return
    if order.domain is not None:
        raise BadParameter("--domain", "a volume has its own lease, in its own domain")
    if order.job_id is not None:
        raise BadParameter("--job-id", "a volume is tracked by its generation, it keeps no job id")
    if order.keep_lease:
        raise BadParameter("--keep-lease", "the lease of a volume always stays")


def checked_url(text: str, name: str) -> str:
    """`text` with a relative path made absolute; SD/IMG/VOL stays. Raises BadParameter (1000).

    Everything up to a first colon is a protocol, as in qemu: `./a:b` is a file of that name.
    """
    if _VOLUME.fullmatch(text):
        return text.lower()
    if not text or not text.isprintable():
        raise BadParameter(name, f"{text!r} is empty or not printable text")
    return text if _SCHEME.match(text) else os.path.abspath(text)


def checked_directory(text: str, name: str) -> str:
    """An existing folder, absolute. Raises BadParameter (1000)."""
    if not os.path.isdir(text):
        raise BadParameter(name, f"{text!r} is not a folder")
    return os.path.abspath(text)


def _folder_of(target: Url) -> tuple[str, ...]:
    """The one folder in which a missing target may be created: the user typed its name."""
    return (os.path.dirname(os.path.realpath(target.path)),) if isinstance(target, PathUrl) else ()
