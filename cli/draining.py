"""`leasehold host drain`: waiting until a host runs no job."""

import math

import trio

from cli.output import Output
from cli.remote import Remote
from protocol.client import HostError
from protocol.errors import NotDrained

LOOK = 2.0  # seconds that the host waits before it says how many run still


async def drained(remote: Remote, out: Output, wait: float | None) -> None:
    """Have the host drained within `wait` seconds; None: however long it takes.

    Raises NotDrained (4123): jobs run still; no new one is started all the same.
    """
    deadline = trio.current_time() + (math.inf if wait is None else wait)
    told: int | None = None
    async with remote.connected() as client:
        while True:
            left = deadline - trio.current_time()
            try:
                params = {"timeout": max(0.0, min(LOOK, left))}
                await remote.call(client, "Host.drain", params)
                return
            except HostError as e:
                if e.number != NotDrained.code:
                    raise
                running = int(e.data.get("running", 0))
            if left <= LOOK:
                raise NotDrained(running, wait or 0.0)
            if running != told:
                told = running
                out.note(f"no new job starts; waiting for the {running} that run")
