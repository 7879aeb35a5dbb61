"""Host.*: the host itself, and its jobs by id."""

import uuid
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.errors import BadParameter, NotDrained
from tests.host.verbs.a_host import HARDWARE_ID, MIB, SD, AHost, a_host, external
from tests.servers import LOOK, WAIT


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
