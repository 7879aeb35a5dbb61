"""The agent, or the worker of a local disk, is killed at any step: the next start recovers."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from leases.steps import VARIABLE
from protocol.client import connected
from protocol.errors import ConnectionLost
from tests.agent_service import Service, agent_folder, service
from tests.faults.command import Command, command
from tests.local_disk_host import IMG, MIB, VM, VOL
from tests.local_disks import StandIn
from tests.servers import LOOK, WAIT

pytestmark = pytest.mark.tools("qemu-img")
OF_AGENT = (
    "prepare:looked",
    "prepare:created",
    "create:record",
    "prepare:lease",
    "prepare:begun",
    "prepare:used",
)
OF_WORKER = ("local:ready", "local:recorded")


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        source(made).write_bytes(os.urandom(2 * MIB) + bytes(6 * MIB))
        yield made


@pytest.fixture
def sockets() -> Iterator[Path]:
    with agent_folder() as folder:
        yield folder


def source(run: Command) -> Path:
    return run.folder / "source.raw"


def settings(group: StandIn) -> list[str]:
    helper = ",".join(group.helper)
    return [
        f"localdisk.helper={helper}",
        f"localdisk.dev={group.folder / 'dev'}",
        "localdisk.keep=0",
    ]


async def prepare(agent: Service, run: Command, **other: Any) -> dict[str, Any]:
    end = {"endpoint_type": "external", "url": str(source(run)), "format": "raw"}
    usual = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "source": end, "vm_id": VM}
    async with connected(agent.address) as client:
        made = await client.call("LocalDisk.prepare", {**usual, **other}, timeout=WAIT)
    assert isinstance(made, dict)
    return made


async def ended(agent: Service, job_id: str) -> str:
    with trio.fail_after(WAIT):
        async with connected(agent.address) as client:
            while True:
                found = await client.call("Host.getJobs", {"job_ids": [job_id]}, timeout=WAIT)
                status = found[job_id]["status"] if job_id in found else "unknown"
                if status not in ("pending", "running", "aborting"):
                    return str(status)
                await trio.sleep(LOOK)


async def until_ready(agent: Service, run: Command, **other: Any) -> dict[str, Any]:
    """As a hook does it; but a job that was lost is no reason to give up."""
    with trio.fail_after(WAIT):
        while (made := await prepare(agent, run, **other))["state"] != "ready":
            await ended(agent, made["job_id"])
            await trio.sleep(LOOK)
    return made


def check(run: Command, made: dict[str, Any], group: StandIn) -> None:
    assert Path(made["path"]).read_bytes() == source(run).read_bytes()
    assert "UPDATING" not in group.volumes()[VOL].tags


@pytest.mark.sample(2)
@pytest.mark.parametrize("step", OF_AGENT)
async def test_an_agent_that_is_killed_is_made_up_for_by_the_next(
    run: Command, sockets: Path, group: StandIn, step: str
) -> None:
    with service(run, sockets, *settings(group), environment={VARIABLE: step}) as agent:
        with pytest.raises(ConnectionLost):
            await until_ready(agent, run)
        agent.running.process.wait(WAIT)
    with service(run, sockets, *settings(group)) as agent:
        check(run, await until_ready(agent, run), group)


@pytest.mark.parametrize("step", OF_WORKER)
async def test_a_worker_that_is_killed_after_its_last_byte_has_done_its_job(
    run: Command, sockets: Path, group: StandIn, step: str
) -> None:
    with service(run, sockets, *settings(group), environment={VARIABLE: step}) as agent:
        made = await prepare(agent, run)
        assert await ended(agent, made["job_id"]) == "done"
        again = await prepare(agent, run)
        assert (again["state"], again["job_id"]) == ("ready", made["job_id"])
        check(run, again, group)


async def test_an_agent_that_is_killed_leaves_its_copy_to_the_next(
    run: Command, sockets: Path, group: StandIn
) -> None:
    with service(run, sockets, *settings(group)) as agent:
        made = await prepare(agent, run, limit=MIB)
        agent.kill()
    with service(run, sockets, *settings(group)) as agent:
        again = await prepare(agent, run)
        assert (again["state"], again["job_id"]) == ("filling", made["job_id"])
        assert await ended(agent, made["job_id"]) == "done"
        check(run, await until_ready(agent, run), group)
    assert sum(words[0] == "create" for words in group.calls()) == 1


async def test_the_next_agent_tells_of_a_disk_whose_copy_died(
    run: Command, sockets: Path, group: StandIn
) -> None:
    given = settings(group)
    with service(run, sockets, *given, environment={VARIABLE: "prepare:lease"}) as agent:
        with pytest.raises(ConnectionLost):
            await prepare(agent, run)
        agent.running.process.wait(WAIT)
    with service(run, sockets, *given, "log.format=json") as agent:
        with trio.fail_after(WAIT):
            while "local disk is not needed" not in agent.log:  # noqa: ASYNC110 - another process
                await trio.sleep(LOOK)
        [told] = [one for one in agent.records if one["event"] == "local disk is not needed"]
        assert (told["vol_id"], told["removed"]) == (VOL, False)
    assert VOL in group.volumes()
