"""Who does what a hook wants done: this user, or root by sudo."""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import trio

from host import config_file
from host.config import Config
from host.hooks import elevated
from host.hooks.doing import worked
from host.hooks.order import Answer, Order
from processes import logs
from protocol.errors import ActionStopped
from protocol.groups import telling

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def done(order: Order) -> Answer:
    """Have it done by who may. Raises Error; ActionStopped (443): a signal came."""
    logs.set_up(logs.Style("warning", "text"))
    if _unreadable(config_file.PATH):
        return elevated.done(order)
    config = config_file.load()
    if not _may(config):
        return elevated.done(order)
    return stoppable(lambda: worked(order, config))


def stoppable(body: Callable[[], Awaitable[T]]) -> T:
    """Run `body`, which a signal cancels; then ActionStopped (443) is raised."""

    async def main() -> T:
        with trio.open_signal_receiver(*SIGNALS) as arrived:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop, arrived, nursery.cancel_scope)
                result = await body()
                nursery.cancel_scope.cancel()
                return result
        raise ActionStopped

    try:
        return trio.run(main)
    except ExceptionGroup as e:
        raise telling(e) from None


async def _stop(arrived: AsyncIterator[int], scope: trio.CancelScope) -> None:
    async for _ in arrived:
        scope.cancel()


def _unreadable(path: Path) -> bool:
    """There is a configuration, and it is not for this user."""
    return path.exists() and not os.access(path, os.R_OK)


def _may(config: Config) -> bool:
    """Whether the agent does what this user asks, or this user could do without it."""
    return (
        os.geteuid() == 0
        or _own(config.listen.socket)
        or os.access(config.state, os.R_OK | os.W_OK)
    )


def _own(socket: str) -> bool:
    """The agent runs as this user. That one may connect says little: a monitor may, too."""
    try:
        return os.stat(socket).st_uid == os.geteuid()
    except OSError:
        return False
