"""`leasehold job watch`: bars, lines or objects for the jobs of a host, while they run."""

import os
import select
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import trio

from cli import answers, exits
from cli.answers import Info, Page
from cli.interrupt import Interrupt
from cli.job_following import polled
from cli.job_text import moment
from cli.output import STDERR, STDOUT, Output
from cli.progress import FAREWELL, LINE_EVERY, Bars
from cli.remote import Remote
from jobs.status import NEXT, Status
from protocol.client import Client
from protocol.errors import ActionStopped, NoSuchJob

LIST_EVERY = 5.0  # seconds between two looks for jobs of which no event told
MOST = 1000  # jobs that are watched at once
REMEMBERED = 10_000  # jobs of which an event may still come after their end was told
ACTIVE = [status.value for status in Status if NEXT[status]]


class View(Protocol):
    """Where jobs are shown. Its calls may block, for as long as nobody reads."""

    def show(self, changed: Sequence[Info], gone: Sequence[str]) -> None:
        """changed: since the last time. gone: jobs that their host has forgotten."""
        ...

    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


async def watched(remote: Remote, job_ids: Sequence[str], out: Output, interrupt: Interrupt) -> int:
    """Show these jobs until all have ended; none: every job, until a signal. The exit code.

    0: all are done; 1: one failed; 4: one was aborted, or we were stopped.
    Raises NoSuchJob (66): the host does not know one of them; and as cli.job_following.polled.
    """
    watching = Watching(remote, job_ids)
    view = _view(out)

    async def look(client: Client, moved: set[str]) -> bool:
        changed, gone = await watching.look(client, moved)
        await trio.to_thread.run_sync(view.show, changed, gone, abandon_on_cancel=True)
        return watching.over or _reader_is_gone()

    with trio.CancelScope() as scope:
        interrupt.then(scope.cancel)
        try:
            await polled(remote, look, view.say, met=False)
        finally:
            await _in_a_moment(view.close)
    if scope.cancelled_caught:
        await _in_a_moment(lambda: _stopped(out))
        return exits.ABORTED
    return watching.code


async def _in_a_moment(say: Callable[[], None]) -> None:
    """The last words; if nobody reads them, without."""
    with trio.move_on_after(FAREWELL, shield=True):
        await trio.to_thread.run_sync(say, abandon_on_cancel=True)


def _stopped(out: Output) -> None:
    if out.json:
        out.error(ActionStopped())
    else:
        out.warn("not watched any more; the jobs go on")


class Watching:
    """Which jobs are looked at, and what was told of them. No ids: those that are active."""

    def __init__(self, remote: Remote, job_ids: Sequence[str]) -> None:
        self.code = exits.OK
        self._remote = remote
        self._all = not job_ids
        self._open = dict.fromkeys(job_ids)  # in their order
        self._told: dict[str, Info] = {}  # of those
        self._ended: deque[str] = deque(maxlen=REMEMBERED)
        self._list_at = trio.current_time()

    @property
    def over(self) -> bool:
        return not self._all and not self._open

    async def look(self, client: Client, moved: set[str]) -> tuple[list[Info], list[str]]:
        """What changed, and the ids of jobs that are gone."""
        if self._all:
            await self._find(client, moved)
        found = await self._ask(client)
        gone = [job_id for job_id in self._open if job_id not in found]
        if gone and not self._all:
            raise NoSuchJob(gone[0])
        changed = [info for info in found.values() if info != self._told.get(info["id"])]
        for job_id in gone:
            self._close(job_id)
        for job_id, info in found.items():
            self._told[job_id] = info
            if (status := Status(info["status"])).ended:
                self._close(job_id)
                self._note(status)
        return changed, gone

    async def _find(self, client: Client, moved: set[str]) -> None:
        new = [job_id for job_id in moved if job_id not in self._ended]
        if trio.current_time() >= self._list_at:
            self._list_at = trio.current_time() + LIST_EVERY
            params = {"statuses": ACTIVE, "limit": MOST}
            answer = await self._remote.call(client, "Job.list", params)
            page = answers.read(answer, Page, self._remote.name)
            new += [answers.info(one, self._remote.name)["id"] for one in page.jobs]
        for job_id in new[: MOST - len(self._open)]:
            self._open.setdefault(job_id)

    async def _ask(self, client: Client) -> dict[str, Info]:
        if not self._open:  # without ids it would be all
            return {}
        answer = await self._remote.call(client, "Host.getJobs", {"job_ids": list(self._open)})
        found = answers.infos(answer, self._remote.name)
        return {job_id: found[job_id] for job_id in self._open if job_id in found}

    def _close(self, job_id: str) -> None:
        del self._open[job_id]
        self._told.pop(job_id, None)
        self._ended.append(job_id)

    def _note(self, status: Status) -> None:
        """Worse ends win over better ones."""
        if status is Status.FAILED:
            self.code = exits.FAILED
        elif status is Status.ABORTED and self.code == exits.OK:
            self.code = exits.ABORTED


class Objects:
    """One JSON object a line."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def show(self, changed: Sequence[Info], gone: Sequence[str]) -> None:
        for info in changed:
            self._out.result(info, "")

    def say(self, text: str) -> None:
        self._out.note(text)

    def close(self) -> None:
        pass


class Lines(Objects):
    """For logs: a line for each new stage of a job, else one every few seconds."""

    def __init__(self, out: Output) -> None:
        super().__init__(out)
        self._last: dict[str, tuple[object, float]] = {}
        self._clock = trio.lowlevel.current_clock().current_time

    def show(self, changed: Sequence[Info], gone: Sequence[str]) -> None:
        for info in changed:
            stage, now = (info["status"], info.get("stage")), self._clock()
            before, at = self._last.get(info["id"], (None, now))
            if stage != before or now >= at + LINE_EVERY:
                self._last[info["id"]] = stage, now
                self._out.result({}, moment(info))
            if Status(info["status"]).ended:
                self._last.pop(info["id"], None)


class LiveBars:
    """For a terminal: a bar for each job that is active, above them the ends of the others."""

    def __init__(self) -> None:
        self._bars = Bars(names=True)
        self._shown: set[str] = set()

    def show(self, changed: Sequence[Info], gone: Sequence[str]) -> None:
        for info in changed:
            if Status(info["status"]).ended:
                self._drop(info["id"])
                self.say(moment(info))
            else:
                self._shown.add(info["id"])
                self._bars.update(info["id"], info)
        for job_id in gone:
            self._drop(job_id)
        self._bars.draw()

    def say(self, text: str) -> None:
        self._bars.say(text)

    def close(self) -> None:
        self._bars.close()

    def _drop(self, job_id: str) -> None:
        if job_id in self._shown:
            self._shown.discard(job_id)
            self._bars.drop(job_id)


def _view(out: Output) -> View:
    if out.json:
        return Objects(out)
    terminal = os.isatty(STDOUT) and os.isatty(STDERR)
    return LiveBars() if terminal and not out.quiet else Lines(out)


def _reader_is_gone() -> bool:
    """Of our output: then nobody watches any more."""
    poller = select.poll()
    poller.register(STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLNVAL) for _, events in poller.poll(0))
