"""Notices a copy tool that has stopped moving: a server that is cut off keeps it waiting."""

from collections.abc import Callable

import trio

from protocol.errors import ToolStalled

STALL_TIME = 300.0  # seconds; storage that fails over to another path is silent for a minute or two


class Watchdog:
    """Raises when neither the percent nor the I/O counters of a tool moved for `seconds`.

    A slow copy is none that stalled: held back to 1 MiB/s it still moves all the time.
    clock: seconds, monotonic.
    """

    def __init__(
        self,
        tool: str,
        seconds: float = STALL_TIME,
        *,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._tool = tool
        self._seconds = seconds
        self._clock = clock
        self._last: tuple[float, int] = (0.0, 0)
        self._since = clock()

    def saw(self, percent: float | None, moved: int) -> None:
        """Take what was seen of the tool. Raises ToolStalled."""
        # Counters are gone (0) once the tool has ended: it is the end that counts then.
        now = max(self._last[0], percent or 0.0), max(self._last[1], moved)
        if now != self._last:
            self._last, self._since = now, self._clock()
        elif self._clock() - self._since > self._seconds:
            raise ToolStalled(self._tool, self._seconds)
