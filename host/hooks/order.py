"""What a hook wants done, as it is handed to who may do it."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from protocol.errors import BadParameter

LIMIT = 64 << 10  # bytes, as JSON
Uuid: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
]
Path: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"\A/[^\x00-\x1f\x7f]*\Z", max_length=4096)]


class Prepare(msgspec.Struct, frozen=True, kw_only=True, tag="prepare", forbid_unknown_fields=True):
    """Make a disk local. path, format: by which it is reached when its domain is not known here.

    managed: it is a volume of managed block storage, and no domain knows it.
    """

    backend: Literal["lvm", "lvmthin"]
    sd_id: Uuid
    img_id: Uuid
    vol_id: Uuid
    vm_id: Uuid
    path: Path
    format: Literal["raw", "qcow2"]
    managed: bool = False


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag="remove", forbid_unknown_fields=True):
    """Remove the local disks of a VM."""

    vm_id: Uuid


Order: TypeAlias = Prepare | Remove


class Answer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """paths: of the device that was prepared; removed: names of local disks."""

    path: str = ""
    removed: tuple[str, ...] = ()


def encoded(one: Order | Answer) -> bytes:
    """One line."""
    return msgspec.json.encode(one) + b"\n"


def read_order(line: bytes) -> Order:
    """Raises BadParameter (1000)."""
    try:
        order: Order = msgspec.json.decode(line, type=Order)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        raise BadParameter("order", str(e)) from None
    return order


def read_answer(line: bytes) -> Answer:
    """Raises BadParameter (1000)."""
    try:
        return msgspec.json.decode(line, type=Answer)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as e:
        raise BadParameter("answer", str(e)) from None
