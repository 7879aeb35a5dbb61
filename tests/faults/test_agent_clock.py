"""A wall clock that jumps, in the agent and in all its workers: only the times are other ones."""

from pathlib import Path

import pytest
import trio

from protocol.record import JobStatus
from tests.cli.run import ROOT
from tests.faults.agents import agent_process
from tests.host.jobs import SLOW, Place
from tests.servers import WAIT

pytestmark = pytest.mark.tools("qemu-img")
# Another time whenever anybody looks at it, by eleven years and by millennia.
JUMPING = """
import itertools, os, time
real, jumps = time.time(), itertools.cycle([0, 3.5e8, -3.5e8, 1.7e6, 1e11, -1e9, 0.5])
time.time = lambda: real + next(jumps)
open(os.environ["JUMPED"], "a").write("x")
"""


async def test_jobs_end_in_order_and_as_their_leases_say(tmp_path: Path) -> None:
    place = await Place.made(tmp_path)
    python = tmp_path / "python"
    python.mkdir()
    (python / "sitecustomize.py").write_text(JUMPING)
    jumped = tmp_path / "jumped"
    environment = {"PYTHONPATH": f"{python}:{ROOT}", "JUMPED": str(jumped)}
    with agent_process(tmp_path, concurrency=1, environment=environment) as agent:
        await agent.start()
        await agent("pause", True)
        wanted = [await place.wanted(created=created) for created in (2e9, 5.0, 1e9)]
        slow = await place.wanted(limit=SLOW, created=-1e9)
        ids = [one["job_id"] for one in (*wanted, slow)]
        for one in (*wanted, slow):
            await agent("submit", one)
        await agent.kill()
        await agent.start()
        assert list(await agent("infos")) == ids
        with trio.fail_after(WAIT):
            for job_id in ids[:3]:
                assert (await agent("wait", job_id))["status"] == "done"
                await place.assert_recorded(job_id, JobStatus.SUCCEEDED)
        await agent.reached(slow["job_id"], "running")
        await agent.kill()
        await agent.start()
        await agent("abort", slow["job_id"])
        with trio.fail_after(WAIT):
            assert (await agent("wait", slow["job_id"]))["status"] == "aborted"
        assert list(await agent("infos")) == ids  # nothing is forgotten before its time
        assert jumped.stat().st_size >= 3  # the agents and the warm parents
