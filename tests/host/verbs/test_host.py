"""Host.*: the host itself, and its jobs by id."""

import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from host import looking
from host.verbs import host as module
from protocol.errors import BadParameter, NotDrained
from storage import domain as domain_module
from storage.domain import Domain
from tests.host.verbs.a_host import HARDWARE_ID, MIB, SD, AHost, a_host, external
from tests.servers import LOOK, WAIT

OTHER = "99999999-aaaa-4bbb-8ccc-eeeeeeeeeeee"


async def begun(host: AHost, **other: Any) -> str:
    """A new job that copies at 1 MiB a second; its id."""
    if not host.mount.exists():
        await host.domain()
        (host.disks / "source").write_bytes(b"x" * 64 * MIB)
    job_id = await host.lease()
    ends = {
        "source": external(host.disks / "source"),
        "destination": external(host.disks / job_id, job_id, create=True),
    }
    await host.call("SDM.copy_data", job_id=job_id, **ends, **{"limit": MIB, **other})
    return job_id


async def test_a_ping_is_answered(host: AHost) -> None:
    assert await host.call("Host.ping2") is True


async def test_the_host_tells_what_it_is(host: AHost) -> None:
    found = await host.call("Host.getCapabilities")
    assert found["uuid"] == HARDWARE_ID
    assert found["name"]
    assert found["stores"][0] == "embedded"
    assert found["domains"] == {}
    assert found["connector_info"]["uuid"] == HARDWARE_ID
    assert "local" in found["drivers"]
    assert found["endpoints"]["directories"] == [str(host.disks)]
    assert found["limits"] == {"concurrency": 2, "rate": None, "autodelete": 3600.0}


@pytest.mark.tools("sanlock")
async def test_a_domain_of_several_hosts_is_not_embedded_while_the_daemon_is_away(
    shared: AHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else this host would look as if it could make leases there, and be chosen for copies."""
    with monkeypatch.context() as away:
        away.setenv("SANLOCK_RUN_DIR", str(tmp_path / "nowhere"))
        found = await shared.call("Host.getCapabilities")
    assert found["domains"][SD]["state"] == "not joined"
    assert found["stores"] == ["embedded"]


async def test_a_damaged_lockspace_is_one_all_the_same(host: AHost) -> None:
    await host.domain()
    domain = await host.host.domains.load(SD)
    Path(domain.ids).write_bytes(b"x" * MIB)
    found = await host.call("Host.getCapabilities")
    assert found["domains"] == {SD: {"host_id": None, "state": "not joined"}}


async def test_a_domain_that_hangs_keeps_no_thread_from_the_others_however_often_it_is_asked(
    host: AHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Engines ask for the capabilities for ever, and clients for what is in the domain."""
    await host.domain()
    await host.domain(storagedomainID=OTHER)
    answers, begun, real = threading.Event(), list[str](), domain_module.load

    def load(path: str) -> Domain:
        if path.endswith(SD):
            begun.append(path)
            answers.wait()
        return real(path)

    async def stats() -> None:
        await host.call("StorageDomain.getStats", storagedomainID=SD)

    async def capabilities() -> None:
        told = await host.call("Host.getCapabilities")
        assert told["domains"][SD]["state"] == "not joined"

    async def all_of(ask: Callable[[], Awaitable[None]], until: int) -> None:
        """Ask as often as no limiter lets threads begin; leave them when so many have begun."""
        async with trio.open_nursery() as nursery:
            for _ in range(60):
                nursery.start_soon(ask)
            while len(begun) < until:  # noqa: ASYNC110 - threads have no events of trio
                await trio.sleep(LOOK)
            if ask is stats:
                nursery.cancel_scope.cancel()

    monkeypatch.setattr(domain_module, "load", load)
    monkeypatch.setattr(module, "STORAGE_TIME", 0.5)
    try:
        with trio.fail_after(WAIT):
            await all_of(capabilities, 1)
            await capabilities()
            assert len(begun) == 1
            await all_of(stats, 1 + looking.HANGING)
            assert len(begun) == 1 + looking.HANGING
            await capabilities()
            await host.call("StorageDomain.getInfo", storagedomainID=OTHER)
            await host.volume(storagedomainID=OTHER)
            await trio.to_thread.run_sync(begun.copy)
    finally:
        answers.set()
    with trio.fail_after(WAIT):
        await stats()


@pytest.mark.parametrize("method", ["Host.getJobs", "Host.get_jobs"])
async def test_jobs_are_told_by_id_and_type(host: AHost, method: str) -> None:
    host.host.agent.queue.paused = True
    one, other = await begun(host), await begun(host)
    assert set(await host.call(method)) == {one, other}
    assert set(await host.call(method, job_ids=None, job_type=None)) == {one, other}
    assert set(await host.call(method, job_ids=[one.upper(), str(uuid.uuid4())])) == {one}
    assert set(await host.call(method, job_ids=[one, other], job_type="storage")) == {one, other}
    assert await host.call(method, job_ids=[one], job_type="v2v") == {}
    info = (await host.call(method))[one]
    assert info["status"] == "pending"
    assert {"id", "status", "description", "job_type", "created"} == set(info)
    with pytest.raises(BadParameter):
        await host.call(method, job_ids="all")


@pytest.mark.tools("qemu-img")
async def test_a_drain_waits_for_running_jobs_and_starts_no_other(host: AHost) -> None:
    job_id = await begun(host)
    with trio.fail_after(WAIT):
        while (await host.call("Host.getJobs"))[job_id]["status"] == "pending":  # noqa: ASYNC110
            await trio.sleep(LOOK)
    with pytest.raises(NotDrained) as caught:
        await host.call("Host.drain", timeout=0.05)
    assert caught.value.running == 1
    late = await begun(host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(host.call, "Host.drain")
        await host.call("Job.abort", job_id=job_id)
    assert (await host.call("Host.getJobs"))[late]["status"] == "pending"
    await host.call("Job.abort", job_id=late)
    assert await host.call("Host.resume") is True
    last = await begun(host, limit=None)
    assert (await host.ended(last))["status"] == "done"


async def test_a_drain_outlives_the_agent_and_is_told(tmp_path: Path) -> None:
    async with a_host(tmp_path) as host:
        assert (await host.call("Host.getCapabilities"))["drained"] is False
        await host.call("Host.drain")
    async with a_host(tmp_path) as host:
        assert (await host.call("Host.getCapabilities"))["drained"] is True
        await host.call("Host.resume")
    async with a_host(tmp_path) as host:
        assert (await host.call("Host.getCapabilities"))["drained"] is False


async def test_an_idle_host_is_drained_at_once(host: AHost) -> None:
    assert await host.call("Host.drain", timeout=0) is True
    with pytest.raises(BadParameter):
        await host.call("Host.drain", timeout=-1)
