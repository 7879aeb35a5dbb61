"""What `leasehold copy` was asked for, made into the messages of a copy."""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from uuid import UUID

from cli.sizes import parse_rate
from endpoints.copy_data import CopyRequest, Endpoint
from endpoints.div import CopyDataDivEndpoint
from endpoints.domain import StoreKind
from endpoints.external import CopyDataExternalEndpoint
from endpoints.url import PathUrl, Url, parse
from endpoints.watchdog import STALL_TIME
from protocol.errors import BadParameter
from protocol.messages import DivEndpoint, ExternalEndpoint, Format, LeaseRef
from storage.domain import Domain
from storage.image import Policy

Message = DivEndpoint | ExternalEndpoint
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
        return tuple(filter(is_volume, (self.source, self.destination)))

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

    def messages(self, sd_id: str, job_id: str, generation: int | None) -> tuple[Message, Message]:
        """Source and destination, for who does the copy. sd_id: has the lease, if there is one."""
        return self._source_message(), self._target_message(sd_id, job_id, generation)

    def _source_message(self) -> Message:
        if self.source in self.volumes:
            return volume_message(self.source)
        return ExternalEndpoint(url=self.source, format=self.source_format or "raw")

    def _target_message(self, sd_id: str, job_id: str, generation: int | None) -> Message:
        if self.destination in self.volumes:
            return volume_message(self.destination, generation)
        return ExternalEndpoint(
            url=self.destination,
            format=self.format,
            lease=LeaseRef(UUID(sd_id), job_id),
            generation=generation,
            create=True,
        )

    def _source(self) -> Endpoint:
        find_format = self.source_format is None
        return self._endpoint(self._source_message(), find_format=find_format)

    def _target(self, sd_id: str, job_id: str, generation: int | None) -> Endpoint:
        return self._endpoint(self._target_message(sd_id, job_id, generation))

    def _endpoint(self, message: Message, *, find_format: bool = False) -> Endpoint:
        if isinstance(message, DivEndpoint):
            return CopyDataDivEndpoint(message, self.domains[str(message.sd_id)])
        return CopyDataExternalEndpoint.read(message, find_format=find_format)

    def _volume(self, name: str) -> CopyDataDivEndpoint:
        message = volume_message(name)
        return CopyDataDivEndpoint(message, self.domains[str(message.sd_id)])


def order_of(
    source: str,
    destination: str,
    *,
    source_format: Format | None,
    format: Format,
    allow: Iterable[str] = (),
    limit: str | None,
    domain: UUID | None,
    job_id: UUID | None,
    keep_lease: bool = False,
    store: StoreKind = "auto",
    verify: bool,
    stall_timeout: float = STALL_TIME,
) -> Order:
    """The arguments of the command, checked one by one. Raises BadParameter (1000)."""
    return Order(
        source=checked_url(source, "SRC"),
        destination=checked_url(destination, "DST"),
        source_format=source_format,
        format=format,
        allow=tuple(checked_directory(one, "--allow") for one in allow),
        limit=None if limit is None else parse_rate(limit, "--limit"),
        domain=str(domain) if domain else None,
        job_id=str(job_id) if job_id else None,
        keep_lease=keep_lease,
        store=store,
        verify=verify,
        stall_time=float(stall_timeout),
    )


def check(order: Order) -> None:
    """Raise BadParameter (1000) for options that do not fit a volume."""
    _check_format(order)
    if order.destination not in order.volumes:
        return
    if order.job_id is not None:
        raise BadParameter("--job-id", "a volume is tracked by its generation, it keeps no job id")
    _check_lease(order)


def check_for_host(order: Order) -> None:
    """Raise BadParameter (1000) for what the agent of a host cannot be asked for."""
    _check_format(order)
    if order.source not in order.volumes:
        parse(order.source)
        if order.source_format is None:
            raise BadParameter("--source-format", "a host does not guess: say raw or qcow2")
    if order.destination in order.volumes:
        _check_lease(order)
    else:
        parse(order.destination)
    check_not_given({"--allow": bool(order.allow), "--store": order.store != "auto"})


def check_not_given(options: Mapping[str, bool]) -> None:
    """Raise BadParameter (1000) for one that was given and does not go with --host."""
    for option, given in options.items():
        if given:
            raise BadParameter(option, "with --host the configuration of the host decides this")


def _check_format(order: Order) -> None:
    if order.source in order.volumes and order.source_format is not None:
        raise BadParameter("--source-format", "the format of a volume stands in its metadata")


def _check_lease(order: Order) -> None:
    """Of a volume as the target."""
    if order.domain is not None:
        raise BadParameter("--domain", "a volume has its own lease, in its own domain")
    if order.keep_lease:
        raise BadParameter("--keep-lease", "the lease of a volume always stays")


def is_volume(name: str) -> bool:
    """Is it SD/IMG/VOL?"""
    return _VOLUME.fullmatch(name) is not None


def volume_message(name: str, generation: int | None = None) -> DivEndpoint:
    """SD/IMG/VOL as an end of a copy."""
    sd_id, img_id, vol_id = map(UUID, name.split("/"))
    return DivEndpoint(sd_id, img_id, vol_id, generation)


def checked_url(text: str, name: str) -> str:
    """`text` with a relative path made absolute; SD/IMG/VOL stays. Raises BadParameter (1000).

    Everything up to a first colon is a protocol, as in qemu: `./a:b` is a file of that name.
    """
    if is_volume(text):
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
