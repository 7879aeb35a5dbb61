"""A copy that outlives trio's worker threads, which end after ten idle seconds.

The signal at the parent's death follows the *thread* that started a tool: a tool that was started
in a worker thread is killed with it, though the process is alive and well.
"""

import time
from pathlib import Path

import pytest
import trio

from jobs.progress import Progress
from tests.faults.command import PATIENCE, command
from tests.faults.copies import Copies
from tests.faults.roads import ROADS, Road, ends
from tests.servers import MIB, pattern

pytestmark = pytest.mark.tools("qemu-img", "qemu-nbd", "nbdcopy", "nbdinfo", "setpriv")
SECONDS = 12  # more than IDLE_TIMEOUT of trio/_core/_thread_cache.py, and then some
SIZE = 32 * MIB
LIMIT = SIZE // (SECONDS + 3)  # bytes per second; the first few MiB are not held back
CROWD = 6  # worker threads


async def test_a_copy_longer_than_the_thread_cache_lives(copies: Copies, tmp_path: Path) -> None:
    """On both roads by the command, and in a process whose threads do end meanwhile."""
    with trio.fail_after(PATIENCE + SECONDS):
        async with trio.open_nursery() as nursery:
            for road in ROADS:
                folder = tmp_path / road
                folder.mkdir()
                nursery.start_soon(long_command, road, folder)
            nursery.start_soon(long_job, copies, tmp_path)


async def long_command(road: Road, folder: Path) -> None:
    with command(folder) as leasehold, ends(road, folder, size=SIZE, data=SIZE) as both:
        await leasehold.prepared()
        began = time.monotonic()
        order = ("copy", both.source, both.target, "--json", "--limit", LIMIT)
        end = await leasehold(*order)
        assert end.code == 0, end
        assert time.monotonic() - began > SECONDS  # else this proves nothing
        assert both.equal
        await leasehold.nothing_left()


async def long_job(copies: Copies, folder: Path) -> None:
    """Threads are used again last in, first out: of a crowd that was busy once, while the tool
    was started, all but one then stay idle until they end."""
    source, target = folder / "source.raw", folder / "target.raw"
    source.write_bytes(pattern(SIZE))
    crowded = trio.Event()

    def seen(progress: Progress) -> None:
        if progress.stage == "copying":
            crowded.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(crowd, crowded)
        began = time.monotonic()
        job = await copies.copied(source, target, limit=LIMIT, seen=seen)
    await copies.assert_done(job)
    assert time.monotonic() - began > SECONDS
    assert target.read_bytes() == source.read_bytes()


async def crowd(begin: trio.Event) -> None:
    """Use many threads at once; the one that was idle, which comes first, is done first."""
    await begin.wait()
    async with trio.open_nursery() as nursery:
        for number in range(CROWD):
            nursery.start_soon(trio.to_thread.run_sync, time.sleep, 0.2 + 0.1 * number)
            await trio.lowlevel.checkpoint()
