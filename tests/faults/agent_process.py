"""An agent in a process of its own, which does what it is told. Its commands: COMMANDS.

Run as `python -m tests.faults.agent_process JOBS CONCURRENCY [TOTAL]`. Each line on stdin is a
JSON list, a command and its arguments, each line on stdout its answer: {"answer": ...} or {"error":
KIND, "text": ...}; the first one says `ready`. It stops in good order at the end of stdin. Also:
`python -m tests.faults.agent_process --join DOMAIN HOST_ID` joins the lockspace of a domain.
"""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog
import trio

from endpoints.domain import lockspace_of
from host.agent import Agent, agent
from host.folder import Spec
from host.journal import Journal
from host.talk import Lines
from leases.joining import join
from protocol.errors import Error
from storage import domain


async def submit(agent: Agent, spec: dict[str, Any]) -> None:
    await agent.submit(msgspec.convert(spec, Spec))


async def abort(agent: Agent, job_id: str) -> None:
    await agent.abort(job_id)


async def delete(agent: Agent, job_id: str) -> None:
    await agent.delete(job_id)


async def infos(agent: Agent) -> dict[str, Any]:
    """By id."""
    return {job.id: job.info() for job in agent.registry.list()}


async def wait(agent: Agent, job_id: str) -> dict[str, Any]:
    """For the end of a job."""
    job = agent.registry.get(job_id)
    await job.wait()
    return job.info()


async def pause(agent: Agent, paused: bool) -> None:
    agent.queue.paused = paused


COMMANDS: dict[str, Callable[..., Awaitable[Any]]] = {
    c.__name__: c for c in (submit, abort, delete, infos, wait, pause)
}


async def main(*arguments: str) -> None:
    jobs, concurrency, total = [*arguments, ""][:3]
    limit = int(total) if total else None
    async with agent(
        Journal(Path(jobs)), concurrency=int(concurrency), total=limit, autodelete=3600
    ) as made:
        answer("ready")
        async for line in Lines(trio.lowlevel.FdStream(0)):
            command, *arguments = json.loads(line)
            try:
                answer(await COMMANDS[command](made, *arguments))
            except (Error, OSError) as e:
                print(json.dumps({"error": type(e).__name__, "text": str(e)}), flush=True)


def answer(what: Any) -> None:
    print(json.dumps({"answer": what}), flush=True)


async def joined(path: str, host_id: str) -> None:
    space = lockspace_of(domain.load(path))
    await join(space, int(host_id), without_watchdog=True, wait=60)


if __name__ == "__main__":
    if sys.argv[1] == "--join":
        trio.run(joined, sys.argv[2], sys.argv[3])
    else:
        structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
        trio.run(main, *sys.argv[1:4])
