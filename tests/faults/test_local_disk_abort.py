"""A copy that waits in the queue of an agent is aborted by who works on that host without it."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from protocol.client import Client, connected
from tests.agent_service import Service, agent_folder, service
from tests.faults.command import Command, command
from tests.local_disk_host import IMG, MIB, OTHER_VOL, VM, VOL
from tests.local_disks import StandIn
from tests.servers import LOOK, WAIT

pytestmark = pytest.mark.tools("qemu-img")


@pytest.fixture
def group(tmp_path: Path) -> StandIn:
    return StandIn.made(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Command]:
    with command(tmp_path) as made:
        (tmp_path / "source.raw").write_bytes(os.urandom(32 * MIB))
        yield made


@pytest.fixture
def agent(run: Command, group: StandIn) -> Iterator[Service]:
    settings = [f"{name}={value}" for name, value in group.settings.items()]
    with agent_folder() as sockets, service(run, sockets, *settings, "jobs.concurrency=1") as made:
        yield made


@pytest.fixture
async def client(agent: Service) -> AsyncIterator[Client]:
    async with connected(agent.address) as found:
        yield found


async def prepare(client: Client, run: Command, **other: Any) -> str:
    end = {"endpoint_type": "external", "url": str(run.folder / "source.raw"), "format": "raw"}
    usual = {"vol_id": VOL, "img_id": IMG, "backend": "lvmthin", "source": end, "vm_id": VM}
    made = await client.call("LocalDisk.prepare", {**usual, **other}, timeout=WAIT)
    assert made["state"] == "filling"
    return str(made["job_id"])


async def until(client: Client, job_id: str, status: str) -> None:
    with trio.fail_after(WAIT):
        while True:
            found = await client.call("Host.getJobs", {"job_ids": [job_id]}, timeout=WAIT)
            if found[job_id]["status"] == status:
                return
            await trio.sleep(LOOK)


async def removed(run: Command, group: StandIn, *words: str) -> None:
    """By the command on this host, which asks no agent."""
    variables = {
        f"LEASEHOLD_{name.replace('.', '_').upper()}": value
        for name, value in group.settings.items()
    }
    done = await run("localdisk", "remove", *words, environment=variables)
    assert (done.code, done.out) == (0, f"removed local disk {VOL}\n"), done


async def test_a_copy_behind_another_is_aborted_and_never_begins(
    client: Client, run: Command, group: StandIn
) -> None:
    busy = await prepare(client, run, vol_id=OTHER_VOL, limit=MIB // 2)  # a minute
    await until(client, busy, "running")
    waiting = await prepare(client, run)
    await removed(run, group, VOL, "--abort")
    await until(client, waiting, "aborted")  # at once, not when its turn comes
    await until(client, busy, "running")
    assert set(group.volumes()) == {OTHER_VOL}
    await client.call("Job.abort", {"job_id": busy}, timeout=WAIT)
    await until(client, busy, "aborted")


async def test_a_copy_of_an_agent_that_is_drained_is_aborted_and_stays_so(
    client: Client, run: Command, group: StandIn
) -> None:
    await client.call("Host.drain", {}, timeout=WAIT)
    waiting = await prepare(client, run)
    await removed(run, group, "--vm", VM, "--abort")
    await until(client, waiting, "aborted")
    await client.call("Host.resume", {}, timeout=WAIT)
    again = await prepare(client, run)
    await until(client, again, "done")
    await until(client, waiting, "aborted")
