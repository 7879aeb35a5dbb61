"""Volumes of managed domains, made and deleted by commands, so that both can be repeated."""

from contextlib import suppress
from functools import partial

from sqlalchemy import Connection

from engine.commands.run import Run
from engine.db import attachments, called, snapshots, volumes
from engine.managed_storage import ManagedStorage
from protocol.errors import (
    InQuarantine,
    NoRoom,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
    StillUsed,
)
from protocol.managed import GIB, gib_of

ASKED = "asked_volume"  # the fact: the id of the volume that storage was asked to make


def was_asked(run: Run, volume: str) -> bool:
    """May the volume be there? A command that failed before has nothing to delete."""
    return run.facts.get(ASKED) == volume


async def must_have_room(run: Run, domain: str, size: int) -> None:
    """Raises NoRoom (4405). An array that does not tell, or is thin, is believed to have some."""
    stats = await (await run.services.storage(domain)).storage_stats()
    free = stats.free_capacity_gb
    if isinstance(free, int | float) and free < gib_of(size):
        name = await run.read(partial(called.domain, id=domain))
        raise NoRoom(name, gib_of(size) * GIB, int(free * GIB))


async def created(run: Run, domain: str, volume: str, size: int) -> bool:
    """Make a volume with an id of ours; whether it is known to read as zeros. It is adopted when it
    is there already: nobody else knows the id."""
    storage = await run.services.storage(domain)
    await run.note(**{ASKED: volume})
    return await storage.create_volume(volume, gib_of(size))


async def deleted(run: Run, domain: str, volume: str) -> None:
    """Delete a volume to which no host has access; one that is not there is deleted.

    Raises StillUsed (4406), InQuarantine (4412): an attachment of it is there, in whatever state;
    nothing was done. And what adapters raise.
    """
    await run.read(lambda c: must_be_unattached(c, volume))
    storage = await run.services.storage(domain)
    with suppress(NoSuchManagedVolume):
        await storage.delete_volume(volume)


def must_be_unattached(c: Connection, volume: str) -> None:
    """Raises StillUsed (4406), InQuarantine (4412): then it is not known whether it still is."""
    for one in attachments.of_volume(c, volume):
        if one.shut_out:  # by the storage: only the host itself does not know yet
            continue
        if one.state == "kept":
            raise InQuarantine("volume", volume)
        raise StillUsed("volume", volume, f"host {called.host(c, one.host)}")


def forget(c: Connection, volume: str) -> None:
    """It is gone; the same again is no error."""
    if volumes.find(c, volume) is not None:
        volumes.remove(c, volume)


def forget_snapshot(c: Connection, snapshot: str) -> None:
    """It is gone; the same again is no error."""
    if snapshots.find(c, snapshot) is not None:
        snapshots.remove(c, snapshot)


async def snapshot_removed(run: Run, domain: str, volume: str, snapshot: str) -> None:
    """Remove a snapshot by the adapter's id; one that is not there is removed."""
    storage = await run.services.storage(domain)
    with suppress(NoSuchManagedSnapshot, NoSuchManagedVolume):
        await storage.remove_snapshot(volume, snapshot)


async def is_there(storage: ManagedStorage, volume: str) -> bool | None:
    """None: the adapter cannot tell."""
    if not storage.is_ours:
        return None
    try:
        await storage.volume_info(volume)
    except NoSuchManagedVolume:
        return False
    return True
