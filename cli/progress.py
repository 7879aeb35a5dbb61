"""The progress of a job on stderr: a bar on a terminal, a line now and then elsewhere."""

import io
import os
from collections import deque
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

import trio

from cli.output import STDERR, Output, printable, tell
from cli.sizes import format_duration, format_rate, format_size

if TYPE_CHECKING:
    from rich.progress import Task

EVERY = 0.1  # seconds between two looks at the job
LINE_EVERY = 3.0  # seconds between two lines
FAREWELL = 1.0  # seconds for the last picture


class View(Protocol):
    def show(self, info: dict[str, Any]) -> None: ...
    def say(self, text: str) -> None: ...
    def close(self) -> None: ...


class Followed(Protocol):
    """What is followed: a job, say."""

    @property
    def description(self) -> str: ...

    def info(self) -> dict[str, Any]:
        """As a job's: status, and where known stage, progress (percent), eta (seconds)."""


async def follow(job: Followed, said: deque[str], out: Output) -> None:
    """Show how `job` goes, and what is put into `said`, until cancelled. Nothing with --quiet.

    Pictures are made in a worker thread: a terminal that is held up (Ctrl-S), or a pipe that
    nobody reads, holds up the picture and not the job.
    """
    if out.quiet:
        return
    view: View = Bar(job) if os.isatty(STDERR) else Lines(out)

    def picture() -> None:
        while said:
            view.say(said.popleft())
        view.show(job.info())

    try:
        while True:
            await trio.to_thread.run_sync(picture, abandon_on_cancel=True)
            await trio.sleep(EVERY)
    finally:
        with trio.move_on_after(FAREWELL, shield=True):
            await trio.to_thread.run_sync(picture, abandon_on_cancel=True)
            await trio.to_thread.run_sync(view.close, abandon_on_cancel=True)


class Lines:
    """For logs: one line every few seconds, and none while there is nothing new to tell."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._next = trio.current_time() + LINE_EVERY
        self._last = ""
        self._clock = trio.lowlevel.current_clock().current_time

    def show(self, info: dict[str, Any]) -> None:
        now = self._clock()
        if now >= self._next and (text := line(info)) != self._last:
            self._next, self._last = now + LINE_EVERY, text
            self._out.note(text)

    def say(self, text: str) -> None:
        self._out.note(text)

    def close(self) -> None:
        pass


def line(info: dict[str, Any]) -> str:
    """`copying 42%, 1.26G of 3.00G, 120M/s, 0:00:15 left` with what is known of it."""
    stage = info.get("stage", info["status"])
    percent = f" {info['progress']}%" if "progress" in info else ""
    parts = [f"{stage}{percent}", amount(info), speed(info)]
    return ", ".join(part for part in parts if part)


def amount(info: dict[str, Any]) -> str:
    if "bytes" not in info:
        return ""
    of = f" of {format_size(info['total_bytes'])}" if "total_bytes" in info else ""
    return f"{format_size(info['bytes'])}{of}"


def speed(info: dict[str, Any]) -> str:
    rate = format_rate(info["rate"]) if "rate" in info else ""
    left = f"{format_duration(info['eta'])} left" if "eta" in info else ""
    return ", ".join(part for part in (rate, left) if part)


class Stderr(io.TextIOBase):
    """The terminal as rich wants it."""

    encoding = "utf-8"

    def write(self, text: str) -> int:
        tell(text)
        return len(text)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return STDERR


class Bars:
    """Bars that are drawn anew in their places, one for each job. names: each says whose it is."""

    def __init__(self, *, names: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

        class Steady(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False  # a process that is killed could not show a hidden cursor again

        name = [TextColumn("{task.description}", markup=False)] if names else []
        self._progress = Progress(
            *name,
            TextColumn("{task.fields[stage]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            console=Steady(file=cast(IO[str], Stderr())),
            auto_refresh=False,  # no thread of its own
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._tasks: dict[str, TaskID] = {}
        self._progress.start()

    def update(self, name: str, info: dict[str, Any]) -> None:
        """What is to be drawn of a job; the first time, below the others."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(
                printable(name), total=None, stage="", amount="", speed=""
            )
        self._of(name).total = 100 if "progress" in info else None
        self._progress.update(
            self._tasks[name],
            completed=info.get("progress", 0),
            stage=printable(info.get("stage", info["status"])),
            amount=amount(info),
            speed=speed(info),
        )

    def _of(self, name: str) -> "Task":
        """To set its total: `Progress.update` takes None for: as it was. But a job of an engine has
        no percent any more behind the stage that copies."""
        return self._progress.tasks[self._progress.task_ids.index(self._tasks[name])]

    def drop(self, name: str) -> None:
        self._progress.remove_task(self._tasks.pop(name))

    def draw(self) -> None:
        self._progress.refresh()

    def say(self, text: str) -> None:
        """A line that stays, above the bars."""
        self._progress.console.print(printable(text), markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


class Bar(Bars):
    """The bar of one job, which is not named."""

    def __init__(self, job: Followed) -> None:
        super().__init__()
        self._job = job

    def show(self, info: dict[str, Any]) -> None:
        self.update(self._job.description, info)
        self.draw()
