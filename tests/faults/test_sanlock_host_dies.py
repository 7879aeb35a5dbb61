"""A job, or its whole host, dies without a word; the other host resolves it."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.run import Ended
from tests.faults.command import Running, new_job_id
from tests.faults.shared import LIMIT, Shared, shared

pytestmark = pytest.mark.tools("sanlock")

AT_ONCE = 5.0  # seconds; a command alone takes half of one
DEATH = 68.0  # seconds of silence until a host is dead, at io_timeout 1


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Shared]:
    with shared(tmp_path) as made:
        yield made


async def test_a_job_that_was_killed_on_one_host_is_taken_up_on_the_other(both: Shared) -> None:
    job_id = new_job_id()
    with both.copying(both.a, job_id, "--limit", LIMIT) as running:
        await both.in_the_middle(running)
        assert await both.said(both.b, job_id) == ([1], None)
        refused = await both.copied(both.b, job_id, "--json")
        assert (refused.code, refused.error["code"]) == (6, 651)
        await running.kill()
    assert await both.until_free(both.b, job_id, AT_ONCE) == "PENDING"
    done = await both.copied(both.b, job_id)
    assert done.code == 0, done
    assert both.equal()
    assert await both.said(both.a, job_id) == ([], "SUCCEEDED")


async def test_a_job_that_was_killed_on_one_host_is_fenced_by_the_other(both: Shared) -> None:
    job_id = new_job_id()
    with both.copying(both.a, job_id, "--limit", LIMIT) as running:
        await both.in_the_middle(running)
        fence = await both.fence(both.b, job_id)
        assert (fence.code, fence.error["code"]) == (6, 651)
        await running.kill()
    assert await both.until_free(both.b, job_id, AT_ONCE) == "PENDING"
    fence = await both.fence(both.b, job_id)
    assert fence.code == 0, fence
    refused = await both.copied(both.a, job_id, "--json")
    assert (refused.code, refused.error["code"]) == (6, 912)
    assert await both.said(both.a, job_id) == ([], "FENCED")


@pytest.mark.full
async def test_the_job_of_a_host_that_died_is_resolved_by_the_other_when_that_counts_as_dead(
    both: Shared,
) -> None:
    """The daemon, the job and its tool are killed in one moment."""
    job_id = new_job_id()
    with both.copying(both.a, job_id, "--limit", LIMIT) as running:
        await both.in_the_middle(running)
        died = host_dies(both, running)
        await running.wait()
    await both.leasehold.alone()
    for refused in (await both.fence(both.b, job_id), await deleted(both, job_id)):
        assert (refused.code, refused.error["code"]) == (6, 651)
    assert await both.until_free(both.b, job_id, 2 * DEATH) == "PENDING"
    assert time.monotonic() - died > DEATH - 3  # the last renewal was a moment before
    fence = await both.fence(both.b, job_id)
    assert fence.code == 0, fence
    again = new_job_id()
    done = await both.copied(both.b, again)
    assert done.code == 0, done
    assert both.equal()
    assert (await deleted(both, job_id)).code == 0
    await both.revived(both.a)
    assert await both.said(both.a, again) == ([], "SUCCEEDED")


def host_dies(both: Shared, running: Running) -> float:
    """Kill what runs on host A; the time of that."""
    family = [process.pid for process in both.leasehold.family()]
    assert running.pid in family
    both.a.signal(signal.SIGKILL)
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    both.a.kill()
    return time.monotonic()


async def deleted(both: Shared, job_id: str) -> Ended:
    domain = both.domain.id
    return await both.on(both.b, "lease", "delete", domain, job_id, "--store", "sanlock", "--json")
