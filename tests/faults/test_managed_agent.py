"""An agent copies to volumes of every kind of storage, which are made by the adapters of ours.

The servers, the adapters, the helpers, the agent and its worker are real; what is left is counted
on all of them.
"""

import os
import sqlite3
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from engine.managed_storage import ManagedStorage
from protocol.client import HostError, connected
from protocol.managed import Connector
from storage.managed_table import FILE
from tests.agent_service import Service, agent_folder, service
from tests.conformance.adapters import TOOLS, Site, ceph_site, file_site, tgt_site
from tests.faults.command import Command, command, new_job_id, until
from tests.managed import SD, left_in
from tests.managed_host import HARDWARE_ID
from tests.servers import MIB, WAIT, pattern, qcow2_image, raw_image

SIZE = 32 * MIB
LIMIT = 4 * MIB  # bytes a second: the middle of a copy is not missed
STALL = 3  # seconds; an initiator that is shut out tries for ever
OBSERVED = 0.5  # seconds in which a writer that was not cut off would go on
ENDED = ("done", "failed", "aborted")
KINDS = [
    pytest.param(kind, marks=[pytest.mark.tools(*TOOLS[kind], "nbdcopy", "qemu-nbd"), *marks])
    for kind, marks in (
        ("file", []),
        ("chap", []),
        ("ceph", [pytest.mark.full]),
    )
]


@pytest.fixture
def leasehold(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        yield made


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    # Not in the folder of the command: what the storage runs is none of its processes.
    place = tmp_path / "storage"
    place.mkdir()
    if request.param == "ceph":
        made = ceph_site(place, request.getfixturevalue("ceph_cluster"))
    else:
        made = file_site(place) if request.param == "file" else tgt_site(place, chap=True)
    with made as site:
        yield site
        assert [one for found in site.traces().values() for one in found] == []


class Agent:
    """An agent with a domain for leases, and a volume that is attached to it."""

    def __init__(self, running: Service, leasehold: Command, site: Site) -> None:
        self.running, self.leasehold, self.site = running, leasehold, site
        self.volume, self.path = site.new_volume(), ""
        self.connector = Connector("")

    @property
    def storage(self) -> ManagedStorage:
        return self.site.storage

    async def call(self, method: str, **params: Any) -> Any:
        async with connected(self.running.address) as client:
            return await client.call(method, params, timeout=60)

    async def prepare(self) -> None:
        domain = self.leasehold.domain_folder()
        assert domain is not None
        self.domain = domain.id
        mount = os.path.dirname(domain.path)
        await self.call("StorageDomain.activate", storagedomainID=domain.id, path=mount)
        told = (await self.call("Host.getCapabilities"))["connector_info"]
        self.connector = msgspec.convert(told, Connector)
        await self.storage.create_volume(self.volume, 1)

    async def attach(self) -> None:
        info = msgspec.to_builtins(await self.storage.connect_volume(self.volume, self.connector))
        made = await self.call(
            "ManagedVolume.attach_volume", vol_id=self.volume, sd_id=SD, connection_info=info
        )
        self.path = made["path"]

    async def submit(self, source: Path, **more: Any) -> str:
        job_id = new_job_id()
        lease = {"sd_id": self.domain, "lease_id": job_id}
        pending = {"type": "JOB", "job_id": job_id, "job_status": "PENDING", "generation": 0}
        await self.call("Lease.create", lease=lease, metadata=pending)
        format = source.suffix.removeprefix(".")
        ends = {
            "source": {"endpoint_type": "external", "url": str(source), "format": format},
            "destination": {
                **{"endpoint_type": "external", "url": self.path, "format": "raw"},
                **{"lease": lease, "generation": 0},
            },
        }
        await self.call("SDM.copy_data", job_id=job_id, **ends, **more)
        return job_id

    async def ended(self, job_id: str) -> dict[str, Any]:
        with trio.fail_after(3 * WAIT):
            while True:
                info: dict[str, Any] = await self.call("Job.info", job_id=job_id)
                if info["status"] in ENDED:
                    return info
                await trio.sleep(0.05)

    async def moving(self, job_id: str) -> None:
        """Wait until its data arrives at the storage."""
        with trio.fail_after(WAIT):
            while not any(self.site.look(self.volume, MIB)):
                info = await self.call("Job.info", job_id=job_id)
                assert info["status"] not in ENDED, info

    async def lease(self, job_id: str) -> dict[str, Any]:
        told = await self.call("Lease.status", lease={"sd_id": self.domain, "lease_id": job_id})
        assert told["owners"] == []
        found: dict[str, Any] = told["metadata"]
        return found

    async def detach(self) -> None:
        assert await self.call("ManagedVolume.detach_volume", vol_id=self.volume) is True
        assert await self.call("ManagedVolume.volumes_info") == []

    async def remove(self) -> None:
        await self.storage.disconnect_volume(self.volume, self.connector)
        await self.storage.delete_volume(self.volume)


@asynccontextmanager
async def an_agent(leasehold: Command, site: Site) -> AsyncGenerator[Agent]:
    """Nothing of it is left: no row, no link, no secret, no process."""
    await leasehold.prepared()
    run, state = leasehold.folder / "run", leasehold.folder / "state"
    settings = [f"managed.run={run}", f"folders.state={state}", "endpoints.schemes=path"]
    settings += [f"jobs.stall_time={STALL}", f"identity.hardware_id={HARDWARE_ID}"]
    with agent_folder() as short, service(leasehold, short, *settings) as running:
        made = Agent(running, leasehold, site)
        await made.prepare()
        yield made
        assert running.stop() == 0
    with sqlite3.connect(state / FILE) as database:
        assert database.execute("SELECT vol_id FROM volumes").fetchall() == []
    assert left_in(run) == []
    await until(lambda: not site.processes())
    await leasehold.alone()


async def test_an_agent_copies_to_every_kind_of_storage(
    leasehold: Command, site: Site, tmp_path: Path
) -> None:
    source = qcow2_image(tmp_path / "disk.qcow2", SIZE, data=pattern(3 * MIB), offset=5 * MIB)
    async with an_agent(leasehold, site) as agent:
        await agent.attach()
        job_id = await agent.submit(source, verify=True)
        info = await agent.ended(job_id)
        assert info["status"] == "done", info
        lease = await agent.lease(job_id)
        assert (lease["job_status"], lease["generation"]) == ("SUCCEEDED", 1)
        await agent.detach()
        with pytest.raises(HostError):  # and not afterwards
            await agent.submit(source)
        wanted = bytes(5 * MIB) + pattern(3 * MIB) + bytes(SIZE - 8 * MIB)
        assert site.look(agent.volume, SIZE) == wanted
        await agent.remove()


@pytest.mark.sample(1)
async def test_a_forced_disconnect_ends_the_copy_of_an_agent(
    leasehold: Command, site: Site, tmp_path: Path
) -> None:
    """What the storage has when it returns is all that it gets, whatever the agent does."""
    source = raw_image(tmp_path / "disk.raw", SIZE, data=pattern(SIZE))
    async with an_agent(leasehold, site) as agent:
        await agent.attach()
        job_id = await agent.submit(source, limit=LIMIT)
        await agent.moving(job_id)
        with pytest.raises(HostError) as caught:
            await agent.detach()
        assert caught.value.kind == "ManagedVolumeInUse"
        await agent.storage.disconnect_volume(agent.volume)
        after = site.look(agent.volume, SIZE)
        await trio.sleep(OBSERVED)
        assert site.look(agent.volume, SIZE) == after != pattern(SIZE)
        info = await agent.ended(job_id)
        assert info["status"] == "failed", info
        assert (await agent.lease(job_id))["job_status"] == "FAILED"
        assert site.look(agent.volume, SIZE) == after
        await agent.detach()
        # And the next attempt works, on the same volume.
        await agent.attach()
        again = await agent.submit(source)
        assert (await agent.ended(again))["status"] == "done"
        await agent.detach()
        assert site.look(agent.volume, SIZE) == pattern(SIZE)
        await agent.remove()


async def test_an_abort_leaves_nobody_on_the_storage(
    leasehold: Command, site: Site, tmp_path: Path
) -> None:
    source = raw_image(tmp_path / "disk.raw", SIZE, data=pattern(SIZE))
    async with an_agent(leasehold, site) as agent:
        await agent.attach()
        job_id = await agent.submit(source, limit=LIMIT)
        await agent.moving(job_id)
        assert await agent.call("Job.abort", job_id=job_id) is True
        assert (await agent.ended(job_id))["status"] == "aborted"
        await agent.detach()  # at once: nobody has it open
        if site.kind == "ceph":
            await site.storage.extend_volume(agent.volume, 2)
            status = site.cluster.rbd("status", f"rbd/volume-{agent.volume}")  # type: ignore[attr-defined]
            assert status["watchers"] == []
        await agent.remove()
