"""How far a copy is: bytes, rate and time left, from what the tool lets us see.

qemu-img prints its percent in steps of about one; between two steps its I/O counters tell how much
it has moved. Both are joined so that the figure never runs backwards and never runs ahead of the
next step. nbdcopy prints where it *begins* each 128 MiB, with several of them under way: there the
counters of the server that it reads from tell more.
"""

from collections import deque
from collections.abc import Callable

import trio

from jobs.progress import Progress
from processes.allocation import Allocation

STEP = 0.01  # of the whole, the tools' own step
WINDOW = 10.0  # seconds over which the rate is taken
ALMOST = 99.9  # percent; 100 is for a result that is on disk


class Meter:
    """Bytes of data copied so far.

    allocation: where the source holds data. of_data: whether the tool's percent counts data
    (qemu-img) or positions in the disk (nbdcopy). counted: whether the counters alone tell how
    much was copied, and of the percent only its end. clock: seconds, monotonic.
    """

    def __init__(
        self,
        allocation: Allocation,
        *,
        of_data: bool,
        counted: bool = False,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self.total = allocation.total
        self.bytes = 0
        self._allocation = allocation
        self._of_data = of_data
        self._counted = counted
        self._clock = clock
        self._step_bytes = 0  # at the last step that the tool printed
        self._step_moved = 0
        self._percent = 0.0
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def moved(self, percent: float | None, moved: int) -> None:
        """Take what was seen: the percent if one was printed, and the counters of the tool."""
        if percent is not None and percent > self._percent:
            self._percent = min(percent, 100.0)
            self._step_bytes = self._at(self._percent)
            self._step_moved = moved
        self.bytes = max(self.bytes, self._reached(moved))
        self._note()

    @property
    def rate(self) -> float | None:
        """Bytes per second over the last seconds; None until there is something to tell."""
        (start, before), (end, after) = self._seen[0], self._seen[-1]
        return (after - before) / (end - start) if end > start else None

    def progress(self, stage: str, part: tuple[float, float] = (0.0, 100.0)) -> Progress:
        """part: from which to which percent of the whole job this stage takes it."""
        rate = self.rate
        left = self.total - self.bytes
        own = 100 * self.bytes / self.total if self.total else self._percent
        begin, end = part
        return Progress(
            percent=min(begin + (end - begin) * own / 100, ALMOST),
            bytes=self.bytes,
            total_bytes=self.total,
            rate=rate,
            eta=left / rate if rate else None,
            stage=stage,
            stage_percent=own,
        )

    def _reached(self, moved: int) -> int:
        if self._counted:
            return self.total if self._percent == 100.0 else min(moved, self.total)
        ahead = self._at(min(self._percent + 100 * STEP, 100.0))
        return min(self._step_bytes + max(0, moved - self._step_moved), ahead)

    def _at(self, percent: float) -> int:
        if self._of_data:
            return int(self.total * percent / 100)
        return self._allocation.upto(self._allocation.size * percent / 100)

    def _note(self) -> None:
        now = self._clock()
        self._seen.append((now, self.bytes))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
