"""How a copy will be done: pure decisions from the facts about both ends."""

from dataclasses import dataclass, replace

from endpoints.disk import CONNECTIONS, Disk, NewFile, Target
from processes.qemu_img import Flags
from protocol.errors import SameImage, UnsupportedOperation


@dataclass(frozen=True)
class Plan:
    """source to target with qemu-img (`flags`), or through NBD with nbdcopy.

    serve_target: the target is not an NBD server itself: one of ours stands before it, because
    through NBD the answer to the copy's own flush comes back to the copy tool. connections: to each
    NBD server.
    """

    source: Disk
    target: Target
    tool: str
    flags: Flags
    serve_target: bool = False
    connections: int = 1

    @property
    def tools(self) -> tuple[str, ...]:
        """The programs that it takes."""
        return ("qemu-img",) if self.tool == "qemu-img" else ("qemu-nbd", "nbdcopy")

    @property
    def path_taken(self) -> str:
        """For people: `qemu-img, qcow2 file to raw file, -t none -T none -W -m 8`."""
        ends = f"{self.source.format} {self.source.kind} to {self.target.format} {self.target.kind}"
        if self.tool == "qemu-img":
            over = ", over a backing file" if self.flags.backing else ""
            shared = ", sharing extents" if self.flags.offload else ""
            flags = replace(self.flags, backing=None).argv()
            return f"qemu-img, {ends}{over}{shared}, {' '.join(flags)}{self._limit}"
        served = " through qemu-nbd" if self.serve_target else ""
        zero = ", --destination-is-zero" if self.flags.target_is_zero else ""
        at_once = f", --connections={self.connections}"
        return f"nbdcopy from qemu-nbd, {ends}{served}, --flush{zero}{at_once}{self._limit}"

    @property
    def _limit(self) -> str:
        return "" if self.flags.limit is None else f", at most {self.flags.limit} bytes/s"


def choose(
    source: Disk,
    target: Target,
    *,
    sparse: bool = False,
    is_zero: bool = False,
    shared: bool = False,
    limit: int | None = None,
    bitmaps: bool = False,
) -> Plan:
    """Decide tool and flags. Raises SameImage: the ends share a file, an export or a volume;
    UnsupportedOperation (2009): bitmaps with raw on either side.

    sparse: the target is thin. is_zero: the caller says that it reads as zeros, which counts where
    its storage does not know. shared: both are files that can share extents. limit: bytes per
    second.
    """
    if bitmaps and "raw" in (source.format, target.format):
        raise UnsupportedOperation("bitmaps are copied only from qcow2 to qcow2")
    backing = target.backing if isinstance(target, Disk) else None
    if source.url.key == target.url.key or (
        isinstance(target, Disk) and source.files & target.files
    ):
        raise SameImage(str(target.url))
    flags = Flags(
        cache=_cache(target),
        source_cache="none" if source.direct else "writeback",
        # Over a backing file nothing is zero that reads as the backing file does.
        target_is_zero=_blank(target, is_zero) and backing is None,
        # A thin file would be scattered over its file system; a thin device is anyway.
        unordered=target.format == "raw" and (target.kind == "block" or not sparse),
        offload=shared and limit is None and _can_offload(source, target),
        limit=limit,
        backing=backing if isinstance(target, Disk) and target.layer else None,
        bitmaps=bitmaps,
    )
    if target.kind in ("file", "block"):
        return Plan(source, target, "qemu-img", flags)
    served = target.kind != "nbd"
    connections = CONNECTIONS if served or not isinstance(target, Disk) else target.connections
    return Plan(source, target, "nbdcopy", flags, serve_target=served, connections=connections)


def _blank(target: Target, is_zero: bool) -> bool:
    """Whether the target reads as zeros: its storage knows better than the caller."""
    if isinstance(target, NewFile):
        return True
    return is_zero if target.blank is None else target.blank


def _can_offload(source: Disk, target: Target) -> bool:
    """Not into space that was set aside: shared extents take none of it, but need some later.

    A held back copy neither: the file system would copy as fast as it can.
    """
    raw = source.format == target.format == "raw" and source.kind == target.kind == "file"
    return raw and not (isinstance(target, Disk) and target.preallocated)


def _cache(target: Target) -> str:
    """The cache mode in which qemu-img tells of every error of a write.

    It writes the tables of a qcow2 image when it closes that, and still exits 0 when this fails:
    written through, they are a part of each write. Without O_DIRECT `none` is refused.
    """
    if not target.direct:
        return "writethrough"
    return "directsync" if target.format == "qcow2" else "none"


_CACHE_REASONS = {
    "none": "past the page cache, every error of a write is told",
    "directsync": "an error of the tables of qcow2 would not be told at the end",
    "writethrough": "the file system of the target takes no O_DIRECT",
}


def reasons(plan: Plan) -> list[str]:
    """Why it will be done so, for people; one sentence each."""
    flags = plan.flags
    found = []
    if plan.tool == "qemu-img":
        found.append(f"qemu-img: the target is a {plan.target.kind}, which an fsync flushes")
        found.append(f"-t {flags.cache}: {_CACHE_REASONS[flags.cache]}")
        if flags.source_cache != "none":
            found.append(
                f"-T {flags.source_cache}: the file system of the source takes no O_DIRECT"
            )
    else:
        found.append("nbdcopy: the answer to its own flush tells that the data is on the storage")
        if plan.serve_target:
            found.append("qemu-nbd before the target: nbdcopy speaks only NBD")
        if plan.connections > 1:
            found.append(f"{plan.connections} connections: one answer tells of a flush of them all")
    if flags.backing is not None:
        found.append("the target has a backing file: only what lies above that of the source")
    if flags.bitmaps:
        found.append("dirty bitmaps are copied, but for broken ones")
    if flags.target_is_zero:
        found.append("zeros are not written: the target is known to read as zeros")
    if flags.offload:
        found.append("-C: both are on one file system, which lets files share extents")
    if flags.unordered:
        found.append("writes in any order: the target is raw, and no thin file")
    if flags.limit is not None:
        found.append(f"held back to {flags.limit} bytes a second, as asked for")
    return found
