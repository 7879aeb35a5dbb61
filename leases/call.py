"""A blocking call in a thread of its own, which can be left behind, or cut short from outside."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Generic

import trio

from leases.worker import T

_LOOK = 0.1  # seconds between looks whether the caller was cancelled
_PATIENCE = 0.5  # seconds that one who was waits all the same: most calls are just about to end


class Call(threading.Thread, Generic[T]):
    """Made, it has begun. A process does not wait for it when it ends."""

    def __init__(self, call: Callable[[], T]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._answer: list[T] = []
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer.append(self._call())
        except Exception as e:
            self._error = e

    def ends_in(self, seconds: float, *, cancellable: bool = True) -> bool:
        """Wait for its end. False: it has not come in that time.

        cancellable: Cancelled is raised when the task that waits for this worker thread was
        cancelled meanwhile.
        """
        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0:
            self.join(min(rest, _LOOK))
            if not self.is_alive():
                return True
            if cancellable:
                self._check_cancelled()
        return not self.is_alive()

    def answer(self) -> T:
        """What the call returned, or raised; it has ended."""
        if self._error is not None:
            raise self._error
        return self._answer[0]

    def _check_cancelled(self) -> None:
        with suppress(RuntimeError):  # in no thread of trio: nobody can cancel
            try:
                trio.from_thread.check_cancelled()
            except trio.Cancelled:
                self.join(_PATIENCE)
                if self.is_alive():
                    raise
