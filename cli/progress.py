"""The progress of a job on stderr: a bar on a terminal, a line now and then elsewhere."""

import sys
from typing import Any, Protocol

import trio

from cli.output import Output, close_for_good
from cli.sizes import format_duration, format_rate, format_size
from jobs.job import Job

EVERY = 0.1  # seconds between two looks at the job
LINE_EVERY = 3.0  # seconds between two lines
FAREWELL = 1.0  # seconds for the last picture


class View(Protocol):
    def show(self, info: dict[str, Any]) -> None: ...
    def close(self) -> None: ...


async def follow(job: Job, out: Output) -> None:
    """Show how `job` goes, until cancelled. Nothing with --quiet.

    Pictures are made in a worker thread: a terminal that is held up (Ctrl-S), or a pipe that
    nobody reads, holds up the picture and not the job.
    """
    if out.quiet or sys.stderr is None:
        return
    view: View = Bar(job) if sys.stderr.isatty() else Lines(out)
    try:
        while True:
            await _draw(view.show, job.info())
            await trio.sleep(EVERY)
    finally:
        with trio.move_on_after(FAREWELL) as scope:
            scope.shield = True
            await _draw(view.show, job.info())
            await _draw(view.close)


async def _draw(picture: Any, *arguments: Any) -> None:
    try:
        await trio.to_thread.run_sync(picture, *arguments, abandon_on_cancel=True)
    except (OSError, ValueError):  # the terminal is gone
        close_for_good(sys.stderr)


class Lines:
    """For logs: one line every few seconds, and only while there is something to tell."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._next = trio.current_time() + LINE_EVERY
        self._clock = trio.lowlevel.current_clock().current_time

    def show(self, info: dict[str, Any]) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + LINE_EVERY
            self._out.note(line(info))

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


class Bar:
    """A bar that is drawn anew in its place."""

    def __init__(self, job: Job) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        class Steady(Console):
            def show_cursor(self, show: bool = True) -> bool:
                return False  # a process that is killed could not show a hidden cursor again

        self._progress = Progress(
            TextColumn("{task.fields[stage]}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[amount]}", markup=False),
            TextColumn("{task.fields[speed]}", markup=False),
            console=Steady(file=sys.stderr),
            auto_refresh=False,  # no thread of its own
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(
            job.description, total=None, stage=job.status, amount="", speed=""
        )
        self._progress.start()

    def show(self, info: dict[str, Any]) -> None:
        self._progress.update(
            self._task,
            total=100 if "progress" in info else None,
            completed=info.get("progress", 0),
            stage=info.get("stage", info["status"]),
            amount=amount(info),
            speed=speed(info),
        )
        self._progress.refresh()

    def close(self) -> None:
        self._progress.stop()
