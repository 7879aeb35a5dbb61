"""How far a copy is: bytes, rate and time left, from what the tool lets us see.

qemu-img prints its percent in steps of about one, and counts what it has *begun*: with eight
requests of 2 MiB under way it is up to 16 MiB ahead. Its I/O counters tell what it has written,
but data that turns out to be zeros is not written. So the percent says between which two figures
the truth lies, and the counters where. nbdcopy prints where it begins each 128 MiB, with several
of them under way: there the counters of the server that it reads from tell more, where the kernel
counts what that reads (files, and iSCSI; not NBD and RBD).
"""

from collections import deque
from collections.abc import Callable

import trio

from jobs.progress import Progress
from processes.allocation import Allocation

STEP = 0.01  # of the whole, the tools' own step
IN_FLIGHT = 8 * (2 << 20)  # bytes that qemu-img has begun and not finished, at most
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
        self._percent = 0.0
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def moved(self, percent: float | None, moved: int) -> None:
        """Take what was seen: the percent if one was printed, and the counters of the tool."""
        if percent is not None:
            self._percent = max(self._percent, min(percent, 100.0))
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

    def finish(self) -> None:
        """The tool has ended well: all is copied."""
        self._percent = 100.0
        self.bytes = self.total
        self._note()

    def _reached(self, moved: int) -> int:
        if self._counted:
            return min(moved, self.total)
        begun = self._at(self._percent)
        if not self._of_data:
            return begun
        ahead = self._at(min(self._percent + 100 * STEP, 100.0))
        return min(max(moved, begun - IN_FLIGHT), ahead)

    def _at(self, percent: float) -> int:
        if self._of_data:
            return int(self.total * percent / 100)
        return self._allocation.upto(self._allocation.size * percent / 100)

    def _note(self) -> None:
        now = self._clock()
        self._seen.append((now, self.bytes))
        while len(self._seen) > 2 and self._seen[1][0] <= now - WINDOW:
            self._seen.popleft()
