"""Signals that ask the command to stop: Ctrl-C, SIGTERM, and a terminal that hangs up.

They never raise KeyboardInterrupt somewhere in the handling of a lease: a body is told, and stops
where it can.
"""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from types import FrameType
from typing import TypeVar

import trio

from protocol.errors import ActionStopped
from protocol.groups import telling

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
T = TypeVar("T")


class Interrupt:
    """How often a stop was asked for, by which signals, and what to do about it."""

    def __init__(self) -> None:
        self.asked = 0
        self.by: set[int] = set()
        self._act: Callable[[], None] = lambda: None

    def ask(self, number: int = signal.SIGINT) -> None:
        self.asked += 1
        self.by.add(number)
        self._act()

    def then(self, act: Callable[[], None]) -> None:
        """From now on call `act` at every request; at once if there was one already."""
        self._act = act
        if self.asked:
            act()


def run(body: Callable[[Interrupt], Awaitable[T]]) -> T:
    """Run `body` in trio. It gets the Interrupt and decides what a signal does."""
    early: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        # Outside of the receiver below: before it, a request that is not lost.
        early.append(number)

    # A signal that our parent made us ignore (nohup) stays ignored.
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in heard:
        signal.signal(number, remember)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # what came before is remembered now

    async def main() -> T:
        interrupt = Interrupt()
        try:
            with trio.open_signal_receiver(*heard) as arrived:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_listen, arrived, interrupt)
                    for number in early:
                        interrupt.ask(number)
                    result = await body(interrupt)
                    nursery.cancel_scope.cancel()
        finally:
            for number in heard:
                # While trio can still be woken by one: it takes down the socket for that before
                # Python is told. Python itself gives the signals that it handles back to the
                # system before it is gone, and one that comes then would end us with another exit
                # code than that of the command.
                signal.signal(number, signal.SIG_IGN)
        return result

    try:
        return trio.run(main)
    except ExceptionGroup as e:
        raise telling(e) from None


def run_stoppable(body: Callable[[], Awaitable[T]]) -> T:
    """Run `body` and cancel it at the first signal; then ActionStopped (443) is raised.

    What must not be torn apart is shielded where it stands, or one call in a worker thread.
    """

    async def cancellable(interrupt: Interrupt) -> T:
        with trio.CancelScope() as scope:
            interrupt.then(scope.cancel)
            return await body()
        raise ActionStopped

    return run(cancellable)


async def _listen(arrived: AsyncIterator[int], interrupt: Interrupt) -> None:
    async for number in arrived:
        interrupt.ask(number)
