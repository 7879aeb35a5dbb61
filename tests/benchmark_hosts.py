"""Stand-ins for the agents of many hosts, in a process of their own.

python -m tests.benchmark_hosts FOLDER HOSTS: each listens on FOLDER/NUMBER, and says of every job
that it is asked about that it runs.
"""

import sys
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import trio

from tests.engine.stand_in import capabilities, stand_in

RUNNING = {"status": "running", "description": "copy", "job_type": "storage", "progress": 50}


async def jobs(params: dict[str, Any]) -> dict[str, Any]:
    """Host.getJobs."""
    return {id: {"id": id, "bytes": 1 << 30, "rate": 1e8, **RUNNING} for id in params["job_ids"]}


async def main(folder: Path, hosts: int) -> None:
    async with AsyncExitStack() as stack:
        for number in range(hosts):
            told = capabilities(f"00000000-0000-4000-8000-{number:012}")
            answers = {"Host_getJobs": partial(jobs), "Host_getCapabilities": told}
            await stack.enter_async_context(stand_in(folder, str(number), **answers))
        print("ready", flush=True)
        await trio.sleep_forever()


if __name__ == "__main__":
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
