"""An agent in a process of its own, which does what it is told. Its commands: COMMANDS.

Run as `python -m tests.faults.agent_process JOBS CONCURRENCY [TOTAL]`. Each line on stdin is a
JSON list, a command and its arguments, each line on stdout its answer: {"answer": ...} or {"error":
KIND, "text": ...}; the first one says `ready`. It stops in good order at the end of stdin. What
clients may name lies in the folder that JOBS is in. Also:
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
from host import memberships
from host.agent import agent
from host.background import background
from host.config import Config, Endpoints, Folders, Storage
from host.dispatch import Dispatcher
from host.folder import Spec
from host.journal import Journal
from host.talk import Lines
from host.this_host import ThisHost, this_host
from host.wire.call import Call, Peer
from leases.joining import join
from protocol.errors import Error
from storage import domain
from tests.faults.copies import HARDWARE_ID


async def submit(host: ThisHost, spec: dict[str, Any]) -> None:
    await host.agent.submit(msgspec.convert(spec, Spec))


async def abort(host: ThisHost, job_id: str) -> None:
    await host.agent.abort(job_id)


async def delete(host: ThisHost, job_id: str) -> None:
    await host.agent.delete(job_id)


async def infos(host: ThisHost) -> dict[str, Any]:
    """By id."""
    return {job.id: job.info() for job in host.agent.registry.list()}


async def wait(host: ThisHost, job_id: str) -> dict[str, Any]:
    """For the end of a job."""
    job = host.agent.registry.get(job_id)
    await job.wait()
    return job.info()


async def pause(host: ThisHost, paused: bool) -> None:
    host.agent.queue.paused = paused


async def call(host: ThisHost, method: str, params: dict[str, Any]) -> Any:
    """A verb."""
    return await Dispatcher(host)(Call(method, params, "", Peer("engine", "test")))


COMMANDS: dict[str, Callable[..., Awaitable[Any]]] = {
    c.__name__: c for c in (submit, abort, delete, infos, wait, pause, call)
}


async def main(*arguments: str) -> None:
    jobs, concurrency, total = [*arguments, ""][:3]
    limit = int(total) if total else None
    journal = Journal(Path(jobs))
    async with (
        agent(journal, concurrency=int(concurrency), total=limit, autodelete=3600) as made,
        this_host(made, journal, configured(Path(jobs).parent), HARDWARE_ID) as host,
        background() as nursery,
    ):
        memberships.LOOK = memberships.FIRST_WAIT = 0.2
        nursery.start_soon(memberships.keep_joined, host)
        answer("ready")
        async for line in Lines(trio.lowlevel.FdStream(0)):
            command, *arguments = json.loads(line)
            try:
                answer(await COMMANDS[command](host, *arguments))
            except (Error, OSError) as e:
                print(json.dumps({"error": type(e).__name__, "text": str(e)}), flush=True)


def configured(folder: Path) -> Config:
    return Config(
        folders=Folders(state=str(folder / "state")),
        endpoints=Endpoints(directories=(str(folder),)),
        storage=Storage(directories=(str(folder),), require_watchdog=False),
    )


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
