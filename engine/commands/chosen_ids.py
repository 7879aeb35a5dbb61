"""Things whose id an adapter chooses: when its answer is lost, nobody knows what to look for.

An adapter of ours takes the id that we chose; then there is no such question, and a call can be
repeated. For the others it is written down before that they were asked, and what they answered.
"""

from collections.abc import Awaitable, Callable

from engine.commands.run import Run
from engine.commands.stage import Hopeless
from engine.managed_storage import ManagedStorage
from protocol.errors import (
    AdapterMissing,
    BadParameter,
    MayExist,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
)

# The answer of the adapter, or of who looked for it: nothing was made.
_NOTHING_DONE = (AdapterMissing, BadParameter, NoSuchManagedSnapshot, NoSuchManagedVolume)
ASKED, ADAPTER_ID = "asked", "adapter_id"  # facts


async def made(
    run: Run, storage: ManagedStorage, what: str, call: Callable[[], Awaitable[str]]
) -> str:
    """The id of what `call` makes, also in `run.facts` as "adapter_id". what: for people.

    Raises MayExist (4414): it was asked for before, and the answer is lost; and as adapters.
    """
    if storage.is_ours:
        return await call()
    if known := run.facts.get(ADAPTER_ID):
        return str(known)
    if run.facts.get(ASKED):
        raise MayExist(what)
    await run.note(**{ASKED: True})
    try:
        made = await call()
    except _NOTHING_DONE:
        await run.note(**{ASKED: False})
        raise
    await run.note(**{ADAPTER_ID: made})
    return made


def to_undo(run: Run, storage: ManagedStorage, chosen: str, what: str) -> str | None:
    """The id of what is to be removed again; None: nothing was made. chosen: our id.

    Raises Hopeless: something may be there, and nobody knows its id.
    """
    if storage.is_ours:
        return chosen
    if known := run.facts.get(ADAPTER_ID):
        return str(known)
    if run.facts.get(ASKED):
        raise Hopeless(
            str(MayExist(what)),
            action=f"look on the storage for {what} that the engine does not know, remove it there,"
            " then clear the command with --by-hand",
        )
    return None
