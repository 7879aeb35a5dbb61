"""Typed messages: the kinds of copy endpoint and the metadata of a job.

Messages from other clients may carry keys that we do not know (the engine of oVirt sends `legal`):
they are ignored, unless `strict` is asked for, as our own command line and REST do.
Source: docs/formats.md, "Messages".
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec

from protocol.errors import BadParameter
from protocol.record import GENERATIONS, JOB_TYPE, Expectation, JobStatus

Generation = Annotated[int, msgspec.Meta(ge=0, le=GENERATIONS - 1)]
Format = Literal["raw", "qcow2"]
# sanlock keeps names in 48 bytes; a lease id is such a name.
LeaseName = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,48}\Z")]


class LeaseRef(msgspec.Struct, frozen=True):
    """A lease of a storage domain."""

    sd_id: UUID
    lease_id: LeaseName


class DivEndpoint(msgspec.Struct, frozen=True, tag_field="endpoint_type", tag="div"):
    """A volume of a storage domain. No generation: it is not checked."""

    sd_id: UUID
    img_id: UUID
    vol_id: UUID
    generation: Generation | None = None
    prepared: bool = False


class ExternalEndpoint(msgspec.Struct, frozen=True, tag_field="endpoint_type", tag="external"):
    """A disk outside of storage domains, by url.

    url: a path, `nbd+unix:`, `nbd:`, `rbd:` or `iscsi:` (endpoints/url.py reads it).
    lease, generation: required on a destination, ignored on a source.
    create: a missing plain file may be created; never a device or network volume.
    is_zero: the caller knows that the target reads as zeros.
    """

    url: str
    format: Format
    lease: LeaseRef | None = None
    generation: Generation | None = None
    sparse: bool = False
    create: bool = False
    is_zero: bool = False


class LocalEndpoint(msgspec.Struct, frozen=True, tag_field="endpoint_type", tag="local"):
    """A logical volume of this host that a VM is to use in the place of a volume; a destination.

    vol_id: of that volume, and the name of the logical one, which is there and is marked as being
    filled by the job of the lease.
    """

    backend: Literal["lvm", "lvmthin"]
    vol_id: UUID
    lease: LeaseRef
    generation: Generation


Endpoint = DivEndpoint | ExternalEndpoint | LocalEndpoint


class JobMetadata(msgspec.Struct, frozen=True):
    """The metadata of Lease.create and the expectation of Lease.fence."""

    job_id: UUID
    generation: Generation
    job_status: JobStatus
    type: str = JOB_TYPE

    def __post_init__(self) -> None:
        if self.type.upper() != JOB_TYPE:
            raise ValueError(f"type must be {JOB_TYPE!r}")

    def expectation(self) -> Expectation:
        return Expectation(str(self.job_id), self.generation, self.job_status)


def decode(data: Any, kind: Any, *, name: str, strict: bool = False) -> Any:
    """Turn a decoded JSON value into a `kind` of message; BadParameter (1000) names the field."""
    # UnicodeEncodeError: half of a surrogate pair, which JSON can hold, where a UUID is expected.
    try:
        message = msgspec.convert(data, kind, strict=True)
    except (msgspec.ValidationError, RecursionError, UnicodeEncodeError) as e:
        raise BadParameter(name, str(e)) from None
    if strict:
        _refuse_unknown(data, message, name)
    return message


def decode_endpoint(
    data: Any, *, role: Literal["source", "destination"], strict: bool = False
) -> Endpoint:
    """Read one end of a copy. Raises BadParameter (1000)."""
    if isinstance(data, Mapping) and "sprase" in data:  # written so by historic clients
        data = {"sparse": data["sprase"], **{k: v for k, v in data.items() if k != "sprase"}}
    endpoint: Endpoint = decode(data, Endpoint, name=role, strict=strict)
    if isinstance(endpoint, LocalEndpoint) and role == "source":
        raise BadParameter(role, "a local disk is the destination of a copy")
    if isinstance(endpoint, ExternalEndpoint) and role == "destination":
        for field in ("lease", "generation"):
            if getattr(endpoint, field) is None:
                raise BadParameter(role, f"Object missing required field `{field}`")
    return endpoint


def _refuse_unknown(data: Any, message: Any, name: str) -> None:
    """Raise BadParameter when `data` has keys that `message` has no field for, at any depth."""
    if not isinstance(message, msgspec.Struct):
        return
    config = message.__struct_config__
    known = {*message.__struct_fields__, config.tag_field}
    for key, value in data.items():
        if key not in known:
            raise BadParameter(name, f"Object contains unknown field `{key}`")
        _refuse_unknown(value, getattr(message, key, None), f"{name}.{key}")
