"""qemu-img: facts about images, and the copy.

Images are always named by a tree of block nodes that we wrote ourselves, as one `json:` argument:
no name that stands in an image is followed, and no option hides in a file name.
Source: qemu-img(1); block nodes as in QEMU's QAPI schema, BlockdevOptions.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from processes.allocation import CHUNK, Allocation
from processes.image_node import Node, ref, secrets
from processes.private_folder import private_folder
from processes.tool import BACKGROUND, Limits, run, spawned
from protocol.errors import BadOutput, ToolFailed, ToolStalled

# What looking at an image may cost: a crafted one must not take the host down.
INSPECT = Limits(cpu=30, memory=1 << 30, seconds=60)
BLANK_SECONDS = 10.0  # what takes longer to find out than that saves nothing
MAP_SECONDS = 300.0
MAP = Limits(cpu=120, memory=1 << 30, seconds=MAP_SECONDS)
TICK = 0.25  # seconds between looks at the counters
DIFFERENT = 1  # exit status of compare
_LOST_BITMAPS = "Lost persistent bitmaps"
_PERCENT = re.compile(r"\((\d{1,3}(?:\.\d+)?)/100%\)")

Moved = Callable[[float | None, int], None]
"""Gets the percent of the tool when it printed one, and the bytes it has moved (Tool)."""


class ImageInfo(msgspec.Struct, frozen=True, rename="kebab"):
    """What qemu-img sees; sizes in bytes."""

    format: str
    virtual_size: int
    actual_size: int | None = None
    backing_filename: str | None = None
    encrypted: bool = False


class Measure(msgspec.Struct, frozen=True, rename="kebab"):
    """Bytes that a new image needs: for the data there is, and at most."""

    required: int
    fully_allocated: int


class _Extent(msgspec.Struct, frozen=True):
    start: int
    length: int
    depth: int
    data: bool
    zero: bool


@dataclass(frozen=True)
class Flags:
    """How to copy.

    cache: of the target; only `none`, `directsync` and `writethrough` tell of every write error.
    source_cache: of the source. target_is_zero: it is known to read as zeros.
    unordered: writes may land in any order. offload: the file system copies, and shares what it
    can; qemu-img writes the rest. limit: bytes per second. backing: what the target
    lies over: only what the source holds above its own backing file is copied. bitmaps: the
    source's dirty bitmaps are copied too, but for broken ones.
    """

    cache: str = "none"
    source_cache: str = "none"
    target_is_zero: bool = False
    unordered: bool = False
    offload: bool = False
    limit: int | None = None
    backing: Node | None = None
    bitmaps: bool = False

    @property
    def throttles_source(self) -> bool:
        """Whether the limit is laid on what is read: `-r` counts the zeros of holes as well.

        Not with a filter over the source where qemu-img looks at the layers of that.
        """
        return self.limit is not None and self.backing is None and not self.bitmaps

    def argv(self) -> list[str]:
        flags = ["-t", self.cache, "-T", self.source_cache]
        if self.target_is_zero:
            flags.append("--target-is-zero")
        if self.offload:
            flags.append("-C")
        if self.unordered:
            flags += ["-W", "-m", "8"]
        if self.limit is not None and not self.throttles_source:
            flags += ["-r", str(self.limit)]
        if self.backing is not None:
            flags += ["-B", ref(self.backing)]
        if self.bitmaps:
            flags += ["--bitmaps", "--skip-broken-bitmaps"]
        return flags


async def info(node: Node) -> ImageInfo:
    """Look at one image, without its backing files: give the node `"backing": None`."""
    argv = ["qemu-img", "info", "-U", "--output=json", *secrets(node), ref(node)]
    output = await run(argv, limits=INSPECT)
    facts: ImageInfo = _decoded(output, ImageInfo)
    return facts


async def measure(node: Node, format: str) -> Measure:
    argv = ["qemu-img", "measure", "-U", "--output=json", "-O", format]
    argv += [*secrets(node), ref(node)]
    need: Measure = _decoded(await run(argv, limits=MAP), Measure)
    return need


async def map_(node: Node, size: int, *, top: bool = False, chunk: int = CHUNK) -> Allocation:
    """Where the `size` bytes of an image hold data, summed up in bounded memory.

    top: only what the image holds itself, not what is read through it. chunk: of the sum, bytes.
    """
    allocation = Allocation(size, chunk)
    argv = ["qemu-img", "map", "-U", "--output=json", *secrets(node), ref(node)]
    async with spawned(argv, limits=MAP) as tool:
        with trio.move_on_after(MAP_SECONDS):
            while (line := await tool.piece(TICK)) is not None:
                if text := line.strip("[], "):
                    extent: _Extent = _decoded(text.encode(), _Extent)
                    if extent.data and not extent.zero and not (top and extent.depth):
                        allocation.add(extent.start, extent.length)
            await tool.check()
            return allocation
    raise ToolStalled("qemu-img", MAP_SECONDS)


async def blank(node: Node, size: int) -> bool | None:
    """Whether the `size` bytes of an image read as zeros, as its storage tells.

    None: it calls all of it data, as a storage does that does not know. Nothing of it is read.
    """
    argv = ["qemu-img", "map", "-U", "--output=json", *secrets(node), ref(node)]
    async with spawned(argv, limits=MAP) as tool:
        with trio.move_on_after(BLANK_SECONDS):
            while (line := await tool.piece(TICK)) is not None:
                if text := line.strip("[], "):
                    extent: _Extent = _decoded(text.encode(), _Extent)
                    if not extent.zero:
                        return None if extent.length >= size else False
            await tool.check()
            return True
    raise ToolStalled("qemu-img", BLANK_SECONDS)


async def head(node: Node, count: int) -> bytes:
    """The first `count` bytes, fewer when the image is shorter."""
    with private_folder() as folder:
        path = trio.Path(folder, "head")
        argv = ["qemu-img", "dd", "-U", *secrets(node), f"bs={count}", "count=1"]
        argv += [f"if={ref({'driver': 'raw', 'file': node})}", f"of={path}"]
        await run(argv, limits=INSPECT)
        return await path.read_bytes()


async def create(path: str, format: str, size: int, options: Sequence[str] = ()) -> None:
    """Write a new image of `size` bytes to an absolute path; what was there is lost.

    A backing file that `options` name is not opened: the caller has looked at it.
    """
    argv = ["qemu-img", "create", "-q", "-u", "-f", format]
    for option in options:
        argv += ["-o", option]
    await run([*argv, path, str(size)], limits=INSPECT)


async def compare(
    one: Node,
    other: Node,
    moved: Moved = lambda percent, moved: None,
    *,
    source_cache: str = "none",
    limit: int | None = None,
    inherit: Sequence[int] = (),
) -> bool:
    """Whether two images hold the same content; a longer one must end in zeros.

    source_cache: `none` reads what is on the storage, not what a cache remembers of it.
    limit: bytes per second that are read of `one`.
    """
    argv = ["qemu-img", "compare", "-p", "-U", "-T", source_cache]
    throttle, one = throttled(one, limit)
    argv += [*throttle, *secrets(one, other), ref(one), ref(other)]
    async with spawned(argv, inherit=inherit, priority=BACKGROUND) as tool:
        while (piece := await tool.piece(TICK)) is not None:
            # Of ends on the network the counters show nothing, but each answer wakes it up.
            moved(percent(piece), tool.bytes_read() + tool.wakeups())
        if await tool.wait() == DIFFERENT:
            return False
        await tool.check()
    return True


def throttled(node: Node, limit: int | None) -> tuple[list[str], Node]:
    """Arguments and a node with which not more than `limit` bytes a second of `node` are moved."""
    if limit is None:
        return [], node
    group = f"throttle-group,id=limit,x-bps-total={limit}"
    return ["--object", group], {"driver": "throttle", "throttle-group": "limit", "file": node}


async def convert(
    source: Node, target: Node, flags: Flags, moved: Moved, *, inherit: Sequence[int]
) -> None:
    """Copy `source` over the existing `target`.

    It never flushes: its exit status would say nothing about that, and a disk may tell only the
    first who asks of an error. The caller has to flush and check.
    """
    throttle, source = throttled(source, flags.limit if flags.throttles_source else None)
    argv = ["qemu-img", "convert", *throttle, *secrets(source, target), "-p", "-n", *flags.argv()]
    argv += ["-O", target["driver"], ref(source), ref({**target, "cache": {"no-flush": True}})]
    async with spawned(argv, inherit=inherit, priority=BACKGROUND) as tool:
        while (pieces := await tool.glance(TICK)) is not None:
            for piece in pieces or [""]:
                # What was written: it reads far ahead of a target that is slow or held back.
                moved(percent(piece), tool.bytes_written())
        await tool.check()
        if flags.bitmaps and _LOST_BITMAPS in tool.tail:  # written at the close, with exit 0
            raise ToolFailed(tool.name, 0, tool.tail)


def percent(piece: str) -> float | None:
    """The last figure of a line of progress such as `    (12.34/100%)`."""
    found = _PERCENT.findall(piece)
    return float(found[-1]) if found else None


def _decoded(output: bytes, kind: Any) -> Any:
    try:
        return msgspec.json.decode(output, type=kind)
    except (msgspec.DecodeError, RecursionError) as e:
        raise BadOutput("qemu-img", str(e)) from None
