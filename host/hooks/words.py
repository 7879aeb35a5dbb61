"""The progress of a copy in vdsm's log: some lines, however long it takes."""

import time
from collections.abc import Callable

from host.hooks.program import say
from jobs.progress import Progress
from protocol.sizes import format_duration, format_rate, format_size

PERCENT = 10.0  # between two lines
QUIET = 60.0  # seconds without a line at the most


class Words:
    """A jobs.progress.Report that tells of what is worth a line."""

    def __init__(self, about: str, now: Callable[[], float] = time.monotonic) -> None:
        self._about = about
        self._now = now
        self._known = Progress()
        self._told: tuple[str, float] | None = None  # stage and percent
        self._at = now()

    def __call__(self, new: Progress) -> None:
        self._known = self._known.followed_by(new)
        stage, percent = self._known.stage, self._known.percent or 0.0
        if not stage:
            return
        moved = self._told is None or stage != self._told[0] or percent - self._told[1] >= PERCENT
        if moved or self._now() - self._at >= QUIET:
            self._told, self._at = (stage, percent), self._now()
            say(f"{self._about}: {line(self._known)}")


def line(known: Progress) -> str:
    """`copying 42%, 1.26G of 3.00G, 120M/s, 0:00:15 left` with what is known of it."""
    percent = "" if known.percent is None else f" {known.percent:.0f}%"
    parts = [f"{known.stage}{percent}"]
    if known.bytes is not None:
        of = "" if known.total_bytes is None else f" of {format_size(known.total_bytes)}"
        parts.append(f"{format_size(known.bytes)}{of}")
    if known.rate is not None:
        parts.append(format_rate(known.rate))
    if known.eta is not None:
        parts.append(f"{format_duration(known.eta)} left")
    return ", ".join(parts)
