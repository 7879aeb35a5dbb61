"""What a hook wants done by the agent of this host, through restarts of it."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
import trio

from host.local_disk_request import Prepared
from host.local_disks import DEATHS
from jobs.progress import Progress, Report
from jobs.status import Status
from protocol.address import UnixAddress
from protocol.client import Client, connected
from protocol.errors import (
    ActionStopped,
    BadOutput,
    CannotConnect,
    ConnectionLost,
    WorkerDied,
)
from protocol.reported import Reported

T = TypeVar("T")

CALL_TIME = 120.0  # seconds; LVM may be busy
BACK_TIME = 10.0  # seconds; systemd starts an agent that died after one
RETRY = 0.5  # seconds
FIRST_LOOK, LAST_LOOK = 0.05, 1.0  # seconds between two looks at a job


class _Told(msgspec.Struct):
    """What is read of a job in Host.getJobs."""

    status: Status
    progress: float | None = None
    bytes: int | None = None
    total_bytes: int | None = None
    rate: float | None = None
    eta: float | None = None
    stage: str = ""
    error: dict[str, Any] | None = None


class Agent:
    """The agent behind a socket. Its calls raise CannotConnect: it does not run, or not any more;
    HostError: it refuses, or could not do it; BadOutput (4118): its answer is none."""

    def __init__(self, socket: str) -> None:
        self._address = UnixAddress(socket)
        self._deadline = math.inf  # until when an agent that was lost must have answered again

    async def prepared(self, params: Mapping[str, Any], report: Report) -> Prepared:
        """Call LocalDisk.prepare until the disk is ready; follow the job that fills it meanwhile.

        Raises what made that job fail, too. Cancelled, the job goes on: it may be shared.
        """
        copied, deaths = False, 0

        async def body(client: Client) -> Prepared:
            nonlocal copied, deaths
            while True:
                answer = await self._call(client, "LocalDisk.prepare", params)
                made: Prepared = self._read(answer, Prepared)
                if made.state == "ready":
                    return replace(made, reused=not copied)
                copied = True
                report(Progress(stage=f"waiting for job {made.job_id}"))
                try:
                    known = await self._ended(client, made.job_id, report)
                except Reported as e:
                    deaths += 1
                    if e.number != WorkerDied.code or deaths > DEATHS:
                        raise
                    continue
                if not known:
                    await trio.sleep(LAST_LOOK)  # another process does it: ask for the disk again

        return await self._connected(body)

    async def removed(self, vm_id: str) -> list[str]:
        async def body(client: Client) -> list[str]:
            answer = await self._call(client, "LocalDisk.remove", {"vm_id": vm_id, "abort": True})
            removed: list[str] = self._read(answer, list[str])
            return removed

        return await self._connected(body)

    async def _ended(self, client: Client, job_id: str | None, report: Report) -> bool:
        """Follow a job; False: the agent does not know it."""
        pause = FIRST_LOOK
        while job_id is not None:
            answer = await self._call(client, "Host.getJobs", {"job_ids": [job_id]})
            told = self._read(answer, dict[str, _Told]).get(job_id)
            if told is None:
                return False
            report(_progress(told))
            if told.status is Status.DONE:
                return True
            if told.status.ended:
                raise Reported(told.error) if told.error else ActionStopped()
            await trio.sleep(pause)
            pause = min(pause * 2, LAST_LOOK)
        return False

    async def _connected(self, body: Callable[[Client], Awaitable[T]]) -> T:
        """Do it by a connection; when that is lost from the beginning, by another one.

        All that hooks call may be called again.
        """
        met = False
        while True:
            try:
                async with connected(self._address) as client:
                    met = True
                    return await body(client)
            except (CannotConnect, ConnectionLost) as e:
                if not met:
                    raise
                self._deadline = min(self._deadline, trio.current_time() + BACK_TIME)
                if trio.current_time() >= self._deadline:
                    raise CannotConnect(str(self._address), str(e)) from None
            await trio.sleep(RETRY)

    async def _call(self, client: Client, method: str, params: Mapping[str, Any]) -> Any:
        answer = await client.call(method, params, timeout=CALL_TIME)
        self._deadline = math.inf
        return answer

    def _read(self, answer: Any, kind: Any) -> Any:
        try:
            return msgspec.convert(answer, kind)
        except (msgspec.ValidationError, RecursionError) as e:
            raise BadOutput(str(self._address), str(e)) from None


def _progress(told: _Told) -> Progress:
    return Progress(
        percent=told.progress,
        bytes=told.bytes,
        total_bytes=told.total_bytes,
        rate=told.rate,
        eta=told.eta,
        stage=told.stage or told.status.value,
    )
