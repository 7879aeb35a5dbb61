"""Work that must succeed, tried again with pauses: undos, and what follows the final stage."""

import logging
from collections.abc import Awaitable, Callable

import trio

from engine.commands.run import Run
from engine.commands.stage import Hopeless
from protocol.errors import DatabaseGone, EngineBusy

log = logging.getLogger(__name__)


class GivenUp(Exception):
    """It did not succeed. action: as in Kept, "" if there is none."""

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.action = action


async def tried(work: Callable[[], Awaitable[None]], run: Run) -> None:
    """Do it as often as `times` of the services says. The database being gone does not count.

    Raises GivenUp.
    """
    times = run.services.times
    failed = 0
    while True:
        try:
            return await work()
        except DatabaseGone as e:
            log.warning("command %s waits: %s", run.id, e)
            await trio.sleep(times.database)
        except EngineBusy:
            raise
        except Hopeless as e:
            raise GivenUp(e.reason, e.action) from None
        except Exception as e:
            await trio.lowlevel.checkpoint_if_cancelled()  # the engine stops
            failed += 1
            log.warning("command %s: %s failed: %s", run.id, run.stage, e, exc_info=True)
            if failed >= times.tries:
                raise GivenUp(f"{e} (tried {failed} times)", "") from None
            run.resumed = True
            await trio.sleep(times.pauses[min(failed, len(times.pauses)) - 1])
