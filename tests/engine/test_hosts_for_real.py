"""Fleet, joining and both judgements: real agents, two real daemons, a domain of both."""

import uuid
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import trio

from engine.answers import HostState
from engine.db import domains, host_ids, hosts
from engine.db.database import Database
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.secrets import Key
from engine.fleet import Fleet, fleet
from engine.heard import Bounds
from engine.joining import Joining
from engine.judgement import End, Verdict, Watch
from engine.lease_poller import ExternalLeasePoller
from engine.links import Times
from engine.volume_poller import VolumePoller, VolumeWatch
from protocol.client import HostError
from protocol.errors import AcquireLockFailure
from protocol.messages import LeaseRef
from tests.engine.stand_in import until
from tests.engine_hosts import AgentHost, agent_host
from tests.sanlock_hosts import IO_TIMEOUT
from tests.servers import MIB, pattern, raw_image

pytestmark = pytest.mark.tools("sanlock", "qemu-img")

TIMES = Times(grace=3.0, pauses=(0.1, 0.2, 0.5), refresh=1.0, connect=5.0)
BOUNDS = Bounds(calls=1, held=3.0)
LONG = 120.0  # seconds
SIZE = 8 * MIB


def new_id() -> str:
    return str(uuid.uuid4())


@dataclass
class Site:
    a: AgentHost
    b: AgentHost
    shared: Path
    sd_id: str = ""  # of the domain of all tests: joining takes seconds


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with two(tmp_path_factory.mktemp("site")) as made:
        yield made


@contextmanager
def two(folder: Path) -> Iterator[Site]:
    shared = folder / "shared"
    shared.mkdir()
    settings = f"storage.directories={shared}", f"endpoints.directories={shared}"
    with (
        agent_host("a", folder, 1, *settings) as a,
        agent_host("b", folder, 2, *settings) as b,
    ):
        yield Site(a, b, shared)


@dataclass
class Engine:
    site: Site
    database: Database
    fleet: Fleet
    nursery: trio.Nursery

    def __post_init__(self) -> None:
        self.poller = ExternalLeasePoller(
            self.fleet, self.nursery, bounds=BOUNDS, pauses=(0.2, 1.0)
        )
        self.volumes = VolumePoller(self.poller, self.fleet)

    @property
    def sd_id(self) -> str:
        return self.site.sd_id

    async def host_ids(self) -> dict[str, int]:
        return await self.database.read(lambda c: host_ids.of_domain(c, self.sd_id))

    async def volume(self, *, legal: bool) -> dict[str, str]:
        """A new one; its ids as an endpoint has them."""
        ids = {"sd_id": self.sd_id, "img_id": new_id(), "vol_id": new_id()}
        params = {"storagedomainID": ids["sd_id"], "imageID": ids["img_id"], "legal": legal,
                  "volumeID": ids["vol_id"], "volFormat": "RAW", "size": str(SIZE)}  # fmt: skip
        made = await self.fleet.task("a", "Volume.create", params)
        Path(made["path"]).write_bytes(pattern(SIZE) if legal else bytes(SIZE))
        return ids

    async def copy(self, *, limit: int | None = None) -> VolumeWatch:
        """Begin a copy of one volume to another on host a."""
        source, target = await self.volume(legal=True), await self.volume(legal=False)
        job_id = new_id()
        ends = {
            "source": {"endpoint_type": "div", **source},
            "destination": {"endpoint_type": "div", **target, "generation": 0},
        }
        await self.fleet.call("a", "SDM.copy_data", {"job_id": job_id, "limit": limit, **ends})
        sd_id, img_id, vol_id = (UUID(target[key]) for key in ("sd_id", "img_id", "vol_id"))
        return VolumeWatch(job_id, "a", sd_id, img_id, vol_id, generation=0)

    async def info(self, watch: VolumeWatch) -> dict[str, Any]:
        params = {"storagedomainID": str(watch.sd_id), "imageID": str(watch.img_id),
                  "volumeID": str(watch.vol_id)}  # fmt: skip
        told: dict[str, Any] = await self.fleet.call("b", "Volume.getInfo", params)
        return told

    async def held(self, watch: VolumeWatch) -> None:
        with trio.fail_after(LONG):
            while not (await self.info(watch))["lease"]["owners"]:  # noqa: ASYNC110
                await trio.sleep(0.05)

    async def judged(self, watch: VolumeWatch) -> Verdict:
        with trio.fail_after(LONG):
            return await self.volumes.judge(watch)


@pytest.fixture
async def engine(site: Site, tmp_path: Path) -> AsyncGenerator[Engine]:
    """Both hosts have joined the domain, which the first engine makes."""
    async with Database.opened(f"sqlite:///{tmp_path}/e.db", key=Key.random()) as database:
        for host in (site.a, site.b):
            assert host.agent
            row = Host(host.name, host.name, host.agent.url)
            await database.write(lambda c, row=row: hosts.add(c, row))  # type: ignore[misc]
        async with fleet(database, times=TIMES) as found, trio.open_nursery() as nursery:
            if not site.sd_id:
                site.sd_id = new_id()
                params = {"storagedomainID": site.sd_id, "path": str(site.shared), "leases": 8}
                params |= {"store": "sanlock", "io_timeout": IO_TIMEOUT}
                await found.call("a", "StorageDomain.create", params)
            made = Domain(site.sd_id, "data", "data", path=str(site.shared))
            await database.write(lambda c: domains.add(c, made))
            joining = Joining(database, found)
            nursery.start_soon(joining.run)
            await until(joined(found, site.sd_id), LONG)
            yield Engine(site, database, found, nursery)
            nursery.cancel_scope.cancel()


def joined(fleet: Fleet, sd_id: str) -> Callable[[], bool]:
    """Have both hosts?"""

    def both() -> bool:
        told = [view.capabilities for view in fleet.up()]
        return len(told) == 2 and all(one is not None and one.sees(sd_id) for one in told)

    return both


async def test_both_hosts_join_and_are_known_by_their_host_ids(engine: Engine) -> None:
    with trio.fail_after(LONG):
        while len(ids := await engine.host_ids()) < 2:  # noqa: ASYNC110
            await trio.sleep(0.05)
    assert sorted(ids.values()) == [1, 2]
    lease = LeaseRef(UUID(engine.sd_id), "x")
    for host, number in ids.items():
        assert await engine.fleet.owner(lease, number) == host
    assert sorted(engine.fleet.candidates(lease)) == ["a", "b"]


async def test_a_copy_to_a_volume_is_done_by_its_generation(engine: Engine) -> None:
    watch = await engine.copy()
    verdict = await engine.judged(watch)
    assert (verdict.end, verdict.row) == (End.DONE, "2")
    info = await engine.info(watch)
    assert (info["generation"], info["legality"]) == (1, "LEGAL")
    assert Path(info["path"]).read_bytes() == pattern(SIZE)


async def test_an_aborted_copy_to_a_volume_is_fenced_and_failed(engine: Engine) -> None:
    watch = await engine.copy(limit=MIB // 4)
    await engine.held(watch)
    await engine.fleet.call("a", "Job.abort", {"job_id": watch.job_id})
    verdict = await engine.judged(watch)
    assert (verdict.end, verdict.fenced) == (End.FAILED, True)
    info = await engine.info(watch)
    assert (info["generation"], info["legality"]) == (3, "ILLEGAL")


async def test_an_image_that_a_job_of_another_host_writes_is_kept_until_it_ends(
    engine: Engine,
) -> None:
    watch = await engine.copy(limit=MIB // 4)
    await engine.held(watch)
    image = {"storagedomainID": engine.sd_id, "imageID": str(watch.img_id)}
    for host in ("b", "a"):
        with pytest.raises(HostError) as caught:
            await engine.fleet.task(host, "Image.delete", image)
        assert caught.value.number == AcquireLockFailure.code
    await engine.fleet.call("a", "Job.abort", {"job_id": watch.job_id})
    await engine.judged(watch)
    for _ in range(2):
        await engine.fleet.task("b", "Image.delete", image)
    assert not (engine.site.shared / engine.sd_id / "images" / str(watch.img_id)).exists()


async def test_a_job_whose_agent_died_is_followed_while_it_runs_and_then_done(
    engine: Engine,
) -> None:
    """The worker goes on without its agent."""
    watch = await engine.copy(limit=2 * MIB)
    await engine.held(watch)
    engine.site.a.kill_agent()
    try:
        await until(lambda: engine.fleet.state("a") is HostState.NOT_UP)
        verdict = await engine.judged(watch)
        assert (verdict.end, verdict.row, verdict.cut_off) == (End.DONE, "6", True)
        assert (await engine.info(watch))["generation"] == 1
    finally:
        await trio.to_thread.run_sync(engine.site.a.start)
    await until(lambda: engine.fleet.state("a") is HostState.UP, LONG)


async def test_a_job_whose_worker_died_with_its_agent_is_fenced_by_the_other_host(
    engine: Engine,
) -> None:
    watch = await engine.copy(limit=MIB // 4)
    await engine.held(watch)
    engine.site.a.kill_agent()
    try:
        assert engine.site.a.kill_workers() > 0
        verdict = await engine.judged(watch)
        assert (verdict.end, verdict.fenced, verdict.cut_off) == (End.FAILED, True, True)
        assert (await engine.info(watch))["generation"] == 3
    finally:
        await trio.to_thread.run_sync(engine.site.a.start)
    await until(lambda: engine.fleet.state("a") is HostState.UP, LONG)


async def test_an_external_lease_is_judged_over_the_same_fleet(
    engine: Engine, tmp_path: Path
) -> None:
    job_id, lease = new_id(), {"sd_id": engine.sd_id}
    lease["lease_id"] = job_id
    record = {"type": "JOB", "job_id": job_id, "generation": 0, "job_status": "PENDING"}
    await engine.fleet.task("b", "Lease.create", {"lease": lease, "metadata": record})
    source = raw_image(engine.site.shared / f"{job_id}.source", SIZE, data=pattern(SIZE))
    target = raw_image(engine.site.shared / f"{job_id}.target", SIZE)
    ends = {
        "source": {"endpoint_type": "external", "url": str(source), "format": "raw"},
        "destination": {"endpoint_type": "external", "url": str(target), "format": "raw",
                        "lease": lease, "generation": 0},
    }  # fmt: skip
    await engine.fleet.call("a", "SDM.copy_data", {"job_id": job_id, **ends})
    watch = Watch(job_id, "a", LeaseRef(UUID(engine.sd_id), job_id), 0)
    with trio.fail_after(LONG):
        verdict = await engine.poller.judge(watch)
    assert (verdict.end, verdict.row) == (End.DONE, "2")
    assert target.read_bytes() == pattern(SIZE)


@pytest.mark.full
async def test_a_host_that_dies_as_a_whole_is_fenced_when_sanlock_calls_it_dead(
    engine: Engine,
) -> None:
    watch = await engine.copy(limit=MIB // 4)
    await engine.held(watch)
    await trio.to_thread.run_sync(engine.site.a.die)
    try:
        verdict = await engine.judged(watch)
        assert (verdict.end, verdict.fenced, verdict.cut_off) == (End.FAILED, True, True)
    finally:
        await trio.to_thread.run_sync(engine.site.a.revive)
    await until(joined(engine.fleet, engine.sd_id), LONG)
