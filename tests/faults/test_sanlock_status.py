"""Asking for a status never disturbs a job, and what is told is of one moment."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from jobs.job import Job
from leases.sanlock_store import SanlockStore
from storage.domain import Domain
from tests.conformance.stores import Site
from tests.faults.copies import Copies
from tests.faults.joined_domain import joined_domain
from tests.faults.peers import peer
from tests.sanlock_hosts import Hosts
from tests.servers import pattern, raw_image

pytestmark = pytest.mark.tools("sanlock", "qemu-img")
COPIES = 100
AT_ONCE = 4
KIB = 1 << 10


@pytest.fixture
def domain(hosts: Hosts, tmp_path: Path) -> Iterator[Domain]:
    with joined_domain(hosts, tmp_path / "mount", leases=COPIES) as made:
        yield made


async def test_a_host_that_asks_all_the_time_fails_no_copy_of_another(
    domain: Domain, hosts: Hosts, tmp_path: Path
) -> None:
    copies = Copies(domain, SanlockStore(domain.id, domain.xleases, domain.ids))
    sources = [
        raw_image(tmp_path / f"source{size}", size * KIB, data=pattern(size * KIB))
        for size in (64, 256, 1024)
    ]
    jobs = [
        copies.job(sources[number % 3], tmp_path / f"target{number}", await copies.lease())
        for number in range(COPIES)
    ]
    site = Site("sanlock", str(Path(domain.xleases).parent), domain.ids)
    with peer(hosts.b, site) as other:
        other.tell("watch", [job.id for job in jobs])
        assert other.hear() == "watching"
        await all_run(jobs)
        other.tell()
        seen = other.hear()
    print({name: seen[name] for name in ("looks", "owned")})  # pytest -rP shows it
    assert seen["odd"] == []
    assert seen["owned"] > 0
    for job in jobs:
        await copies.assert_done(job)


async def all_run(jobs: list[Job]) -> None:
    """Some of them at once, until all have ended."""
    left = iter(jobs)

    async def run_some() -> None:
        for job in left:
            await job.run()

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(run_some)
