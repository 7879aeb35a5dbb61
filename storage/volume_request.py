"""What is wanted of a new volume, and the metadata that it gets. Pure."""

from dataclasses import dataclass

from protocol.errors import BadParameter
from storage.chain import Format
from storage.policy import Policy
from storage.volume import FORMATS, LEAF, LEGAL, Volume
from storage.volume_metadata import NO_PARENT, VolumeMetadata

_NAMES = {format: name for name, format in FORMATS.items()}


@dataclass(frozen=True)
class Request:
    """format: raw or qcow2. capacity: bytes; None: that of the parent. now: seconds since the
    epoch. preallocated: all space is taken now; raw only. parent: the id of a volume of the same
    image, below a qcow2 volume. description: cut off behind 210 characters.
    """

    format: Format
    capacity: int | None
    now: int
    preallocated: bool = False
    parent: str | None = None
    description: str = ""
    disktype: str = "DATA"


def check(request: Request) -> None:
    """Raise BadParameter (1000) for what no volume can be."""
    limit = Policy().max_virtual_size
    if request.capacity is None and request.parent is None:
        raise BadParameter("capacity", "only a volume with a parent can do without")
    if request.capacity is not None and not 0 < request.capacity <= limit:
        raise BadParameter("capacity", f"{request.capacity} is not in 1..{limit}")
    if request.format == "raw" and request.parent is not None:
        raise BadParameter("format", "a raw volume has no parent: use qcow2")
    if request.format != "raw" and request.preallocated:
        raise BadParameter("preallocated", "only a raw volume can be preallocated")
    for name in ("description", "disktype"):
        if not getattr(request, name).isprintable():
            raise BadParameter(name, "it has control characters")


def metadata(
    request: Request, sd_id: str, img_id: str, parent: Volume | None, *, block_size: int
) -> VolumeMetadata:
    """Those of a volume that has just been made; the capacity is rounded up to whole blocks.

    Raises BadParameter (1000): smaller than its parent.
    """
    least = 0 if parent is None else parent.metadata.capacity
    capacity = least if request.capacity is None else request.capacity
    if capacity < least:
        raise BadParameter("capacity", f"{capacity} is less than that of its parent, {least}")
    return VolumeMetadata(
        domain=sd_id,
        image=img_id,
        parent=NO_PARENT if parent is None else parent.id,
        capacity=-(-capacity // block_size) * block_size,
        format=_NAMES[request.format],
        type="PREALLOCATED" if request.preallocated else "SPARSE",
        voltype=LEAF,
        disktype=request.disktype,
        description=request.description.strip(),
        legality=LEGAL,
        ctime=request.now,
        generation=0,
        sequence=1 if parent is None else parent.metadata.sequence + 1,
    )
