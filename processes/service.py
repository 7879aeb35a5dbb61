"""A service in the foreground: it runs until a signal asks it to stop."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import trio

from protocol.groups import telling

STOPPING = (signal.SIGTERM, signal.SIGINT)
RELOADING = signal.SIGHUP
SIGNALS = (*STOPPING, RELOADING)

Signals: TypeAlias = AsyncIterator[int]


async def signalled(body: Callable[[Signals], Awaitable[None]]) -> None:
    """Run `body`, which gets the SIGNALS; they may have been blocked until now.

    Raises what the body does; of a group the error that tells the most.
    """
    try:
        with trio.open_signal_receiver(*SIGNALS) as signals:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                await body(signals)
            finally:
                # One that comes from now on has nobody to hear it: it must not kill us either.
                signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    except ExceptionGroup as e:
        raise telling(e) from None


async def obey(
    signals: Signals,
    *,
    stop: Callable[[], object],
    read_again: Callable[[], object],
    scope: trio.CancelScope,
) -> None:
    """The first of STOPPING asks to stop; the second cancels. RELOADING has files read again."""
    asked = False
    async for number in signals:
        if number == RELOADING:
            read_again()
        elif asked:
            scope.cancel()
        else:
            asked = True
            stop()
