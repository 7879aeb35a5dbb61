"""The copy: both ends are known to be right, now the bytes move and are flushed."""

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import trio

from endpoints import tail
from endpoints.disk import Disk, NewFile
from endpoints.new_file import created
from endpoints.plan import Plan
from endpoints.progress import IN_FLIGHT, Meter
from endpoints.unshrunk import unshrunk
from endpoints.watchdog import STALL_TIME, Watchdog
from jobs.progress import Progress, Report
from processes import allocation, nbd, qemu_img
from processes.allocation import CHUNK, Allocation
from processes.failure import tool_error
from processes.image_node import Node
from processes.tool import TERM_WAIT
from protocol.errors import BadOutput, FlushFailed, ToolFailed, ToolStalled, VerifyFailed

WHOLE = (0.0, 100.0)  # percent of the job
COPY_PART = (0.0, 50.0)
VERIFY_PART = (50.0, 100.0)
# Seconds that a server of ours has to close its target. Killed with an RBD image open it leaves a
# watcher there for half a minute, and an exclusive lock that the next one has to break.
CLOSE_TIMES = {"rbd": 15.0}
MAP_FROM = 64 << 20  # bytes; below that a map costs more than it tells


@dataclass(frozen=True)
class Manner:
    """How a copy is to be done, beside what the plan says of tool and flags.

    inherit: descriptors that every process which can write keeps: the lease's, the locks'.
    stall_time: seconds without any movement after which the copy is given up.
    verify: compare the whole content of both ends afterwards.
    """

    inherit: Sequence[int] = ()
    stall_time: float = STALL_TIME
    verify: bool = False


async def copy(plan: Plan, report: Report, manner: Manner) -> int:
    """Do what was planned; returns the bytes of data that were copied.

    When it returns, the data is on stable storage as far as the target can tell.
    Raises the classes of ToolFailed, FlushFailed, ToolStalled, VerifyFailed,
    SourceShrank.
    """
    report(Progress(percent=0.0, stage="preparing"))
    data = await allocation_of(plan.source, top=plan.flags.backing is not None)
    meter = Meter(
        data,
        of_data=plan.tool == "qemu-img",
        counted=plan.tool == "nbdcopy" and plan.source.counted,
    )
    watchdog = Watchdog(plan.tool, _patience(plan, manner))
    part = COPY_PART if manner.verify else WHOLE

    def moved(percent: float | None, bytes_moved: int) -> None:
        watchdog.saw(percent, bytes_moved)
        meter.moved(percent, bytes_moved)
        report(meter.progress("copying", part))

    async with _target(plan) as target, unshrunk(plan.source.lengths):
        if plan.tool == "qemu-img":
            await _by_qemu_img(plan, target, moved, report, manner.inherit)
        else:
            await _by_nbdcopy(plan, target, moved, manner.inherit)
        meter.finish()
        report(meter.progress("flushed", part))
        if manner.verify:
            await _verify(plan, target, data, report, manner)
    return meter.total


def _patience(plan: Plan, manner: Manner) -> float:
    """Seconds without movement until a copy has stalled: more than held back requests take."""
    limit = plan.flags.limit
    return manner.stall_time if limit is None else max(manner.stall_time, 2 * IN_FLIGHT / limit)


async def _verify(
    plan: Plan, target: Disk, data: Allocation, report: Report, manner: Manner
) -> None:
    """Read both ends whole, past every cache, and compare them. Raises VerifyFailed."""
    meter = Meter(data, of_data=False)
    watchdog = Watchdog("qemu-img", _patience(plan, manner))

    def moved(percent: float | None, bytes_moved: int) -> None:
        watchdog.saw(percent, bytes_moved)
        meter.moved(percent, 0)  # two ends in one counter, one of them perhaps not counted
        report(meter.progress("verifying", VERIFY_PART))

    source = plan.source
    equal = await qemu_img.compare(
        source.node,
        _first(target, source.size),
        moved,
        source_cache="none" if source.direct and target.direct else "writeback",
        limit=plan.flags.limit,
        inherit=manner.inherit,
    )
    if not equal:
        raise VerifyFailed(str(target.url), str(source.url))


def _first(disk: Disk, size: int) -> Node:
    """The first `size` bytes of a disk: what lies beyond in a longer target is none of the copy.

    Not over a backing file: there QEMU takes for zeros what the backing file holds, and a longer
    target is compared with its end, which must read as zeros. So must an end that was cleared.
    """
    if disk.size == size or disk.backing is not None or disk.clear_tail:
        return disk.node
    return {"driver": "raw", "size": size, "file": disk.node}


async def _by_qemu_img(
    plan: Plan, target: Disk, moved: qemu_img.Moved, report: Report, inherit: Sequence[int]
) -> None:
    async with _flushed(target, report) as fd:
        await qemu_img.convert(
            plan.source.node, target.writable, plan.flags, moved, inherit=inherit
        )
        if target.clear_tail:
            await _clear_tail(fd, target, plan.source.size)


async def _clear_tail(fd: int, target: Disk, start: int) -> None:
    """Let the target read as zeros from `start` to its end: here, as nobody else has its lease."""
    try:
        await tail.clear(fd, start, target.size)
    except OSError as e:
        words = f"clearing {target.url} behind byte {start}: {e.strerror or e}"
        raise tool_error("leasehold", 1, words) from e


async def _by_nbdcopy(
    plan: Plan, target: Disk, moved: qemu_img.Moved, inherit: Sequence[int]
) -> None:
    async with AsyncExitStack() as servers:
        serve = servers.enter_async_context
        # The reader is held back, so the limit holds for what is written as well.
        source, reader = await serve(
            nbd.exported(plan.source.node, limit=plan.flags.limit, inherit=inherit)
        )
        uri = str(target.url)  # of an NBD url, what the NBD tools take
        if plan.serve_target:
            wait = CLOSE_TIMES.get(target.kind, TERM_WAIT)
            writer = nbd.exported(target.node, writable=True, inherit=inherit, term_wait=wait)
            uri, _ = await serve(writer)
        await nbd.copy(
            source,
            uri,
            moved,
            reader=reader,
            counted=plan.source.counted,
            target_is_zero=plan.flags.target_is_zero,
            connections=plan.connections,
            inherit=inherit,
        )


@asynccontextmanager
async def _target(plan: Plan) -> AsyncGenerator[Disk]:
    """The target as an existing disk; one that we created is removed again when the copy fails."""
    if not isinstance(plan.target, NewFile):
        yield plan.target
        return
    async with created(plan.target, plan.source.size) as disk:
        yield disk


@asynccontextmanager
async def _flushed(target: Disk, report: Report) -> AsyncGenerator[int]:
    """Flush a file or device after the body, by a descriptor opened before it, which it yields.

    One that is opened later would not see an error that the tool has already swallowed.
    Source: fsync(2); the kernel's errseq_t reports an error once to each open description.
    """
    path = str(target.url)
    fd = await trio.to_thread.run_sync(os.open, path, os.O_RDWR | os.O_CLOEXEC)
    try:
        raw_file = target.kind == "file" and target.format == "raw"
        length = os.fstat(fd).st_size if raw_file else None
        yield fd
        report(Progress(stage="flushing"))
        try:
            await trio.to_thread.run_sync(_settle, fd, length)
        except OSError as e:
            raise FlushFailed(path, e.strerror or str(e)) from e
    finally:
        os.close(fd)


def _settle(fd: int, length: int | None) -> None:
    """Bring the file to disk, as long as it was: without the page cache a hole at the end of a raw
    file is written in blocks of 4096 bytes. length: bytes; None: it may have grown."""
    if length is not None and os.fstat(fd).st_size > length:
        os.ftruncate(fd, length)
    os.fsync(fd)


async def allocation_of(source: Disk, *, top: bool = False, chunk: int = CHUNK) -> Allocation:
    """Where the source holds data; everywhere, when that is not to be had.

    top: only what it holds above its backing file. chunk: bytes that a target takes at once.
    """
    if source.size >= MAP_FROM:
        try:
            if source.kind == "file" and source.format == "raw":  # without starting a tool
                [path] = source.lengths
                look = partial(allocation.of_file, path, source.size, chunk)
                return await trio.to_thread.run_sync(look, abandon_on_cancel=True)
            return await qemu_img.map_(source.node, source.size, top=top, chunk=chunk)
        except (ToolFailed, ToolStalled, BadOutput, OSError):
            pass  # the figures get coarser, the copy itself tells what is wrong
    everywhere = Allocation(source.size, chunk)
    everywhere.add(0, source.size)
    return everywhere
