"""Random kills in a row while copies run: agent, workers, warm parent, tools, sanlock daemon."""

import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
import trio

from endpoints.domain import create_domain, open_store
from leases import verbs
from protocol.messages import JobMetadata
from protocol.record import JobStatus
from storage import domain as domains
from storage.domain import Domain
from tests.conformance.stores import Site
from tests.faults.agents import agent_process
from tests.faults.copies import HARDWARE_ID
from tests.faults.joined_domain import joined_domain
from tests.faults.peers import Peer, own_hosts, peer
from tests.faults.series import Leases, Series, Status
from tests.sanlock_hosts import Host

pytestmark = pytest.mark.tools("qemu-img")
LEASES = 500


async def embedded(domain: Domain) -> Leases:
    store = await open_store(domain)

    async def create(job_id: str) -> None:
        metadata = JobMetadata(UUID(job_id), 0, JobStatus.PENDING)
        now = int(time.time())
        await verbs.create(store, job_id, metadata, now=now, hardware_id=HARDWARE_ID)

    async def status(job_id: str) -> Status:
        found = await verbs.status(store, job_id)
        return found.owners, found.metadata

    return Leases(create, status)


def of_another_host(peer: Peer) -> Leases:
    async def create(job_id: str) -> None:
        await trio.to_thread.run_sync(peer, "create", job_id)

    async def status(job_id: str) -> Status:
        owners, _, metadata = await trio.to_thread.run_sync(peer, "status", job_id)
        return owners, metadata

    return Leases(create, status)


async def killed_over_the_embedded_store(folder: Path, seed: int, copies: int, kills: int) -> None:
    domain = await create_domain(str(folder / "mount"), leases=LEASES)
    with agent_process(folder, concurrency=copies) as agent:
        series = Series(agent, domain, await embedded(domain), seed, copies, kills)
        await series.run()
        await nothing_left(series)


async def nothing_left(series: Series) -> None:
    with trio.fail_after(20):
        while series.agent.family:  # noqa: ASYNC110 - the world outside has no events
            await trio.sleep(0.01)
    print(series.seed, dict(series.killed), dict(series.ended))


@pytest.mark.parametrize("seed", [1])
async def test_every_job_agrees_with_its_lease_and_bytes_after_twelve_kills(
    seed: int, tmp_path: Path
) -> None:
    await killed_over_the_embedded_store(tmp_path, seed, copies=8, kills=12)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 103))
async def test_every_job_agrees_with_its_lease_and_bytes_after_fifty_kills(
    seed: int, tmp_path: Path
) -> None:
    await killed_over_the_embedded_store(tmp_path, seed, copies=20, kills=50)


@pytest.fixture
def hosts_and_domain(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Host, Host, Domain]]:
    folder = tmp_path_factory.mktemp("h")
    with own_hosts(folder) as hosts, joined_domain(hosts, folder / "mount", LEASES) as domain:
        yield hosts.a, hosts.b, domain


@pytest.mark.full
@pytest.mark.tools("sanlock")
async def test_every_job_agrees_with_its_lease_and_bytes_after_fifty_kills_over_sanlock(
    hosts_and_domain: tuple[Host, Host, Domain], tmp_path: Path
) -> None:
    """The daemon of its host is among what is killed. The other host looks at the leases."""
    a, b, domain = hosts_and_domain
    dom_md = str(Path(domain.xleases).parent)
    site = Site("sanlock", dom_md, domain.ids)
    options = {"concurrency": 20, "environment": a.environment}
    with peer(b, site) as other, agent_process(tmp_path, **options) as agent:
        leases = of_another_host(other)
        series = Series(agent, domain, leases, seed=7, copies=20, kills=50, daemon=a)
        await series.run()
        await nothing_left(series)
        assert domains.load(domain.path).id == domain.id
