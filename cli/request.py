"""What `leasehold copy` was asked for, made into the messages of a copy."""

import os
import re
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from endpoints.copy_data import CopyRequest
from endpoints.external import CopyDataExternalEndpoint
from endpoints.url import PathUrl
from endpoints.watchdog import STALL_TIME
from protocol.errors import BadParameter
from protocol.messages import ExternalEndpoint, Format, LeaseRef
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
    store: Literal["auto", "embedded"] = "auto"
    verify: bool = False
    stall_time: float = STALL_TIME

    def request(self, sd_id: str, job_id: str, generation: int) -> CopyRequest:
        """Raises BadParameter (1000) for a url that cannot be one."""
        source = ExternalEndpoint(url=self.source, format=self.source_format or "raw")
        destination = ExternalEndpoint(
            url=self.destination,
            format=self.format,
            lease=LeaseRef(UUID(sd_id), job_id),
            generation=generation,
            create=True,
        )
        target = CopyDataExternalEndpoint.read(destination)
        return CopyRequest(
            job_id=job_id,
            source=CopyDataExternalEndpoint.read(source, find_format=self.source_format is None),
            destination=target,
            policy=Policy(allow=self.allow),
            create_under=_folder_of(target),
            limit=self.limit,
            stall_time=self.stall_time,
            verify=self.verify,
        )


def checked_url(text: str, name: str) -> str:
    """`text` with a relative path made absolute. Raises BadParameter (1000).

    Everything up to a first colon is a protocol, as in qemu: `./a:b` is a file of that name.
    """
    if _VOLUME.fullmatch(text):
        reason = (
            f"{text}: volumes (SD/IMG/VOL) cannot be copied by this version, only paths and urls"
        )
        raise BadParameter(name, reason)
    if not text or not text.isprintable():
        raise BadParameter(name, f"{text!r} is empty or not printable text")
    return text if _SCHEME.match(text) else os.path.abspath(text)


def checked_directory(text: str, name: str) -> str:
    """An existing folder, absolute. Raises BadParameter (1000)."""
    if not os.path.isdir(text):
        raise BadParameter(name, f"{text!r} is not a folder")
    return os.path.abspath(text)


def _folder_of(target: CopyDataExternalEndpoint) -> tuple[str, ...]:
    """The one folder in which a missing target may be created: the user typed its name."""
    if not isinstance(target.url, PathUrl):
        return ()
    return (os.path.dirname(os.path.realpath(target.url.path)),)
