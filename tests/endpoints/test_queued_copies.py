"""Real copies through the queue: never too many at once, and held back together."""

from pathlib import Path

import pytest
import trio

from endpoints.domain import create_domain, open_store
from jobs.job import Status
from jobs.progress import Progress
from jobs.queue import Queue
from tests.faults.copies import Copies
from tests.servers import MIB, WAIT, pattern, raw_image

SIZE = 8 * MIB
TOTAL = 16 * MIB


@pytest.fixture
async def copies(tmp_path: Path) -> Copies:
    domain = await create_domain(str(tmp_path / "mount"), leases=5)
    return Copies(domain, await open_store(domain))


async def test_copies_are_queued_and_share_the_bandwidth(copies: Copies, tmp_path: Path) -> None:
    queue = Queue(2, total=TOTAL)
    source = raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))
    most = 0

    def seen(progress: Progress) -> None:
        nonlocal most
        most = max(most, sum(job.status is Status.RUNNING for job in jobs))

    jobs = [
        copies.job(
            source,
            tmp_path / f"{number}.raw",
            await copies.lease(),
            limit=queue.limit(),
            seen=seen,
        )
        for number in range(4)
    ]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.run)
        for job in jobs:
            queue.submit(job)
        with trio.fail_after(WAIT):
            for job in jobs:
                await job.wait()
        nursery.cancel_scope.cancel()
    seconds = trio.current_time() - began
    assert most == 2
    for job in jobs:
        await copies.assert_done(job)
    # Only ever a lower bound: a slow machine is no failure. A burst at the start is free.
    assert seconds > len(jobs) * SIZE / TOTAL / 2
