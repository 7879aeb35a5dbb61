"""A blocking call in a thread beside, which can be left behind, or cut short from outside."""

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, Generic

import trio

from leases.worker import T

_LOOK = 0.1  # seconds between looks whether the caller was cancelled
_PATIENCE = 0.5  # seconds that one who was waits all the same: most calls are just about to end
_KEPT = 8  # idle threads; one that is there saves a fifth of a millisecond a call


class Call(Generic[T]):
    """Made, it has begun. A process does not wait for it when it ends."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._ended = threading.Event()
        self._answer: list[T] = []
        self._error: Exception | None = None
        _begin(self)

    def run(self) -> None:
        """For the thread that does it."""
        try:
            self._answer.append(self._call())
        except Exception as e:
            self._error = e

    def end(self) -> None:
        """For the thread that did it."""
        self._ended.set()

    @property
    def running(self) -> bool:
        return not self._ended.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait for its end, as long as it takes. False: it has not come in `seconds`."""
        return self._ended.wait(seconds)

    def ends_in(self, seconds: float, *, cancellable: bool = True) -> bool:
        """Wait for its end. False: it has not come in that time.

        cancellable: Cancelled is raised when the task that waits for this worker thread was
        cancelled meanwhile.
        """
        deadline = time.monotonic() + seconds
        while (rest := deadline - time.monotonic()) > 0:
            if self.wait(min(rest, _LOOK)):
                return True
            if cancellable:
                self._check_cancelled()
        return not self.running

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
                if not self.wait(_PATIENCE):
                    raise


_idle: deque["SimpleQueue[Call[Any]]"] = deque()  # of threads that wait for a call
os.register_at_fork(after_in_child=_idle.clear)  # which has none of them


def _begin(call: Call[Any]) -> None:
    try:
        calls = _idle.pop()
    except IndexError:
        calls = SimpleQueue()
        threading.Thread(target=_serve, args=(calls,), daemon=True).start()
    calls.put(call)


def _serve(calls: "SimpleQueue[Call[Any]]") -> None:
    kept = True
    while kept:
        call = calls.get()
        call.run()
        if kept := len(_idle) < _KEPT:
            _idle.append(calls)  # before anybody is told: who asks next finds it
        call.end()
        del call  # it may keep much alive
