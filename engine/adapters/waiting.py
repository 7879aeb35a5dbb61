"""Runs a command of an adapter that waits, for tools mostly, by trio."""

import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

import trio

from protocol.errors import ManagedStorageFailed

_T = TypeVar("_T")


def finished(work: Coroutine[Any, Any, _T]) -> _T:
    """What it returns. Raises what it raises; ManagedStorageFailed: SIGTERM came.

    SIGTERM ends the tools first: nothing of a command goes on without it.
    """
    return trio.run(_until_terminated, work)


async def _until_terminated(work: Coroutine[Any, Any, _T]) -> _T:
    async def wait() -> None:
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    with trio.CancelScope() as scope:
        trio.lowlevel.spawn_system_task(wait)  # not in a nursery, which would wrap every error
        return await work
    raise ManagedStorageFailed("the command was ended by SIGTERM")
