"""The storage of the leases goes away under the daemon of a host: its jobs stop, in time and in
order, and the host can join again when it is back.

The daemon ends the jobs of its host by SIGTERM, at io_timeout 1 after 6 to 8 s, and 40 s later by
SIGKILL.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import pytest

from tests.faults.command import Running, new_job_id, until
from tests.faults.lease_disks import LeaseDisk
from tests.faults.shared import IMPATIENT, Shared, held_back, shared
from tests.servers import MIB, Flaky, Pausable, Server, flaky, pausable

pytestmark = pytest.mark.tools("sanlock", "nbdkit", "nbdfuse", "losetup", "mkfs.ext4")

LIMIT = MIB // 4  # bytes/s: the copy would take half a minute
GRACE = 40.0  # seconds; sanlock(8), kill_grace_seconds
MARGIN = 10.0
# When all fails, the job sees that its lease cannot be read; else it stops at the daemon's SIGTERM,
# and sees that its failure is not recorded or, a moment sooner, that its membership is not renewed.
SEEN = {
    "all": "its leader cannot be read: .*Input/output error",
    "write": "cannot be written: .*Input/output error|this host has not renewed its membership",
}
S = TypeVar("S", bound=Server)


@contextmanager
def leases_on(
    folder: Path, serve: Callable[[Path, Path], AbstractContextManager[S]]
) -> Iterator[tuple[Shared, S]]:
    """A domain on a disk that a server gives, joined by host A."""
    disk = LeaseDisk.made(folder)
    with (
        serve(folder, disk.image) as server,
        disk.behind(server, folder),
        shared(folder, mount=disk.mount, hosts=1) as one,
    ):
        yield one, server
    disk.image.unlink()  # pytest would keep it


@pytest.fixture(params=SEEN)
def failing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shared, Flaky, str]]:
    """A disk whose writes fail, or all, with EIO; and how a job sees that."""
    with leases_on(tmp_path, partial(flaky, on=request.param)) as (one, server):
        yield one, server, SEEN[request.param]
        server.heal()


@pytest.fixture
def hanging(tmp_path: Path) -> Iterator[tuple[Shared, Pausable]]:
    """A disk that does not answer."""
    with leases_on(tmp_path, pausable) as made:
        yield made


async def test_leases_on_storage_with_errors_stop_their_jobs(
    failing: tuple[Shared, Flaky, str],
) -> None:
    """When they can still be read, only the daemon sees it: it cannot renew its membership."""
    one, server, seen = failing
    job_id = new_job_id()
    with one.copying(one.a, job_id, "--limit", LIMIT) as running:
        await one.in_the_middle(running)
        server.fail()
        told = await running.wait()
    await one.leasehold.nothing_left()
    assert told.code == 1, told
    assert re.search(f"job {job_id} failed: .*({seen})", told.err), told
    await one.until_out(one.a)
    server.heal()
    await usable_again(one, job_id)


async def test_leases_on_storage_that_hangs_stop_their_jobs(
    hanging: tuple[Shared, Pausable],
) -> None:
    one, server = hanging
    await stopped_in_order(one, server, before=IMPATIENT)


@pytest.mark.full
async def test_a_job_whose_lease_storage_hangs_stops_well_within_the_grace_time(
    hanging: tuple[Shared, Pausable],
) -> None:
    one, server = hanging
    seconds = await stopped_in_order(one, server)
    assert seconds < GRACE - MARGIN


async def stopped_in_order(one: Shared, server: Pausable, *, before: str | None = None) -> float:
    """The seconds from the first SIGTERM until all is stopped and told.

    The command itself cannot end while the kernel keeps its threads.
    """
    job_id = new_job_id()
    with one.copying(one.a, job_id, "--limit", LIMIT, before=before) as running:
        await one.in_the_middle(running)
        with held_back(server):
            await until(lambda: "stopping: " in said(running))
            began = time.monotonic()
            await until(lambda: "lease could not be read: no answer" in said(running))
            seconds = time.monotonic() - began
            assert "the storage of the lease does not answer" in said(running)
            assert not one.leasehold.tools("qemu-img")
        told = await running.wait()
    assert told.code == 1, told  # nobody has aborted it
    await one.leasehold.nothing_left()
    await usable_again(one, job_id)
    return seconds


async def usable_again(one: Shared, job_id: str) -> None:
    """The daemon has given the domain up, the host joins again, and the job can be taken up."""
    await one.until_out(one.a)
    joined = await one.join(one.a)
    assert joined.code == 0, joined
    assert await one.until_free(one.a, job_id) == "PENDING"
    done = await one.copied(one.a, job_id)
    assert done.code == 0, done
    assert one.equal()


def said(running: Running) -> str:
    return running.err.read_text(errors="replace")
