"""What has ended long ago is forgotten: commands with their steps, the audit log."""

import time
from collections.abc import Callable

import structlog
import trio
from sqlalchemy import Connection

from engine.db import audit, commands
from engine.db.database import Database
from protocol.errors import Error

log = structlog.get_logger()

EVERY = 3600.0  # seconds between two looks
AT_ONCE = 1000  # rows of one transaction: others wait for it


async def keep_forgetting(
    database: Database,
    keep: float,
    *,
    every: float = EVERY,
    at_once: int = AT_ONCE,
    clock: Callable[[], float] = time.time,
) -> None:
    """Forget what ended `keep` seconds ago, until cancelled. Not what a person has to look at."""

    def forget(c: Connection) -> int:
        before = clock() - keep
        return max(
            commands.forget(c, before, limit=at_once), audit.forget(c, before, limit=at_once)
        )

    while True:
        try:
            if await database.write(forget) >= at_once:
                continue
        except Error as e:
            log.warning("nothing was forgotten", reason=str(e))
        await trio.sleep(every)
