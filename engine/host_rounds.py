"""One call a host and round for all of its jobs."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import trio

from engine.answers import CallFailed, HostState, NotReported, Report, Told, brief, code_and_text
from engine.hosts import Hosts

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 4.0, 8.0, 10.0)  # seconds before the second round, the third ...; then the last
SOON = 0.1  # seconds from a round to the next, when the host tells that a job has ended


@dataclass(frozen=True)
class Heard:
    """What one round told of one job. info: of Host.getJobs, {} if the host told nothing."""

    host: HostState
    report: Report
    info: Mapping[str, Any]


class Place:
    """Of one job in the rounds of its host."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self._told, self._hears = trio.open_memory_channel[Heard](1)

    @property
    def waits(self) -> bool:
        return self._hears.statistics().tasks_waiting_receive > 0

    async def next(self) -> Heard:
        """What the next round tells. Raises trio.ClosedResourceError: there is none any more."""
        try:
            return await self._hears.receive()
        except trio.EndOfChannel:
            raise trio.ClosedResourceError("the poller was stopped") from None

    def tell(self, heard: Heard) -> None:
        """To be called when it waits. It may have left since."""
        self._told.send_nowait(heard)

    def close(self) -> None:
        """Nothing is told any more."""
        self._told.close()


class HostRounds:
    """Asks `host` in rounds, as long as there are jobs of it. host: None: there is none to ask.

    The cost grows with the hosts, not with their jobs. A job whose lease is being looked at is not
    asked about; the other jobs do not wait for it.
    """

    def __init__(
        self, host: str | None, hosts: Hosts, *, pauses: Sequence[float], call_time: float
    ) -> None:
        self._host = host
        self._hosts = hosts
        self._pauses = pauses
        self._call_time = call_time
        self._places: list[Place] = []
        self._round = 0  # of the pauses, the one after this round
        self._pause: trio.CancelScope | None = None  # while it lasts
        self._asked = -math.inf  # when the last round ended
        self._ended = False  # a job, since the last round began
        self._stopped = False

    @property
    def empty(self) -> bool:
        return not self._places

    @contextmanager
    def place(self, job_id: str) -> Iterator[Place]:
        """Take part in the rounds. Raises trio.ClosedResourceError: the poller was stopped."""
        if self._stopped:
            raise trio.ClosedResourceError("the poller was stopped")
        place = Place(job_id)
        self._places.append(place)
        self.hurry()
        try:
            yield place
        finally:
            self._places.remove(place)
            if self._pause and self.empty:
                self._pause.cancel()

    def hurry(self) -> None:
        """Begin with the short pauses again: something changed."""
        self._round = 0
        if self._pause:
            self._pause.deadline = min(self._pause.deadline, trio.current_time() + self._pauses[0])
            self._round = 1

    def job_ended(self) -> None:
        """As the host tells: ask it now, or SOON after the last round. Somebody waits for that end,
        and a job ends but once."""
        self.hurry()
        self._ended = True
        if self._pause:
            soon = max(trio.current_time(), self._asked + SOON)
            self._pause.deadline = min(self._pause.deadline, soon)

    async def run(self) -> None:
        """Until no job is left."""
        try:
            due = trio.current_time()
            while not self.empty:
                await self._wait(due)
                self._ended = False
                if waiting := [place for place in self._places if place.waits]:
                    await self._ask(waiting)
                self._asked = trio.current_time()
                pause = self._pauses[min(self._round, len(self._pauses) - 1)]
                due = self._asked + (min(pause, SOON) if self._ended else pause)
                self._round += 1
        except BaseException:
            self._stopped = True
            for place in self._places:
                place.close()
            raise

    async def _wait(self, due: float) -> None:
        with trio.CancelScope(deadline=due) as self._pause:
            await trio.sleep_forever()
        self._pause = None

    async def _ask(self, places: Sequence[Place]) -> None:
        state, answer = await self._call(list(dict.fromkeys(place.job_id for place in places)))
        for place in places:
            place.tell(_heard(state, answer, place.job_id))

    async def _call(self, job_ids: Sequence[str]) -> tuple[HostState, object]:
        """The state of the host, and what it answered: CallFailed, or the result of the call."""
        if self._host is None or self._hosts.state(self._host) is HostState.REMOVED:
            return HostState.REMOVED, CallFailed()
        try:
            with trio.fail_after(self._call_time):
                # Whatever its state is thought to be: the job's own host knows best.
                answer = await self._hosts.jobs(self._host, job_ids)
        except Exception as e:
            text = code_and_text(e)[1]
            log.info("host %s gave no answer about its jobs: %s", self._host, text)
            return self._hosts.state(self._host), CallFailed(text)
        return HostState.UP, answer


def _heard(state: HostState, answer: object, job_id: str) -> Heard:
    if isinstance(answer, CallFailed):
        return Heard(state, answer, {})
    if not isinstance(answer, Mapping):
        return Heard(state, CallFailed(f"answer is {brief(answer)}"), {})
    if job_id not in answer:
        return Heard(state, NotReported(), {})
    info = answer[job_id]
    if not isinstance(info, Mapping) or not isinstance(info.get("status"), str):
        return Heard(state, CallFailed(f"answer is {brief(info)}"), {})
    return Heard(state, Told(info["status"]), info)
