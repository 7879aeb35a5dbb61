"""What `leasehold localdisk prepare` was asked for, made into a request to the local disks."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import msgspec

from cli.request import checked_directory, checked_url, is_volume, volume_message
from cli.sizes import parse_rate
from endpoints.url import PathUrl, parse
from host.local_disk_request import PrepareRequest
from protocol.errors import BadParameter
from protocol.messages import ExternalEndpoint, Format

Backend = Literal["lvm", "lvmthin"]
# Names of local disks that were made of a path: see Order.vol_id.
NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "leasehold:localdisk")


@dataclass(frozen=True)
class Order:
    """The arguments of the command, checked one by one. id, image: not of a volume."""

    source: str
    backend: Backend
    vm: str | None = None
    id: str | None = None
    image: str | None = None
    source_format: Format | None = None
    allow: tuple[str, ...] = ()
    domain: str | None = None
    limit: int | None = None
    verify: bool = False
    start: bool = False
    again: bool = False

    @property
    def of_volume(self) -> bool:
        return is_volume(self.source)

    @property
    def path(self) -> str | None:
        """Of a source that is a file or device of the host."""
        url = None if self.of_volume else parse(self.source)
        return url.path if isinstance(url, PathUrl) else None

    @property
    def vol_id(self) -> str:
        """The name of the local disk: the id of the volume. Of any other source the same id again
        whenever that is prepared for the same VM, and another one for another VM."""
        if self.of_volume:
            return self.source.split("/")[2]
        return self.id or str(uuid.uuid5(NAMESPACE, f"{self.vm or ''} {self.source}"))

    @property
    def img_id(self) -> str:
        if self.of_volume:
            return self.source.split("/")[1]
        return self.image or str(uuid.uuid5(NAMESPACE, self.source))

    def request(self, format: Format | None, flow_id: str = "") -> PrepareRequest:
        """format: of a source that is no volume."""
        return PrepareRequest(
            vol_id=self.vol_id,
            img_id=self.img_id,
            backend=self.backend,
            source=self._source(format),
            vm_id=self.vm,
            sd_id=self.domain,
            start=self.start,
            again=self.again,
            limit=self.limit,
            verify=self.verify,
            flow_id=flow_id,
        )

    def _source(self, format: Format | None) -> dict[str, Any]:
        message: Any
        if self.of_volume:
            message = volume_message(self.source)
        else:
            message = ExternalEndpoint(url=self.source, format=format or "raw")
        plain: dict[str, Any] = msgspec.to_builtins(message)
        wanted = ("endpoint_type", "sd_id", "img_id", "vol_id", "url", "format")
        return {key: plain[key] for key in wanted if key in plain}


def order_of(
    source: str,
    *,
    backend: Backend,
    vm: UUID | None,
    id: UUID | None,
    image: UUID | None,
    source_format: Format | None,
    allow: Iterable[str],
    domain: UUID | None,
    limit: str | None,
    verify: bool,
    start: bool,
    again: bool,
) -> Order:
    """Raises BadParameter (1000)."""
    order = Order(
        source=checked_url(source, "SRC"),
        backend=backend,
        vm=_text(vm),
        id=_text(id),
        image=_text(image),
        source_format=source_format,
        allow=tuple(checked_directory(one, "--allow") for one in allow),
        domain=_text(domain),
        limit=None if limit is None else parse_rate(limit, "--limit"),
        verify=verify,
        start=start,
        again=again,
    )
    _check(order)
    return order


def check_for_host(order: Order) -> None:
    """Raise BadParameter (1000) for what the agent of a host cannot be asked for."""
    if order.allow:
        raise BadParameter("--allow", "with --host the configuration of the host decides this")
    if not order.of_volume and order.source_format is None:
        raise BadParameter("--source-format", "a host does not guess: say raw or qcow2")


def _check(order: Order) -> None:
    if not order.of_volume:
        parse(order.source)
        return
    given = {
        "--id": (order.id, "a volume has an id"),
        "--image": (order.image, "SD/IMG/VOL names the image"),
        "--source-format": (order.source_format, "the format of a volume stands in its metadata"),
    }
    for option, (value, reason) in given.items():
        if value is not None:
            raise BadParameter(option, reason)


def _text(id: UUID | None) -> str | None:
    return None if id is None else str(id)
