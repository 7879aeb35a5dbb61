"""Snapshots, and volumes of them, that are not left behind when nobody got to know their ids."""

import uuid

import trio

from cli.managed_making import UNDO_TIME, deleted_on_failure
from cli.managed_storage import Opened
from cli.output import Output, explained
from protocol.errors import NoSuchManagedSnapshot, NoSuchManagedVolume, UnsupportedOperation


async def made(opened: Opened, volume: str, wanted: str | None, out: Output) -> str:
    """The id of a new snapshot. Raises UnsupportedOperation (2009), and as adapters."""
    _check(opened, wanted)
    storage = opened.storage
    snapshot = wanted or str(uuid.uuid4())
    try:
        return await storage.create_snapshot(volume, snapshot)
    except NoSuchManagedVolume:
        raise
    except BaseException:
        if wanted is None and storage.is_ours:
            with trio.CancelScope(shield=True):
                await _removed(opened, volume, snapshot, out)
        raise


async def volume_made(
    opened: Opened, volume: str, snapshot: str, wanted: str | None, out: Output
) -> str:
    """The id of a new volume. Raises as `made`."""
    _check(opened, wanted)
    storage = opened.storage
    chosen = wanted or str(uuid.uuid4())
    new = wanted is None and storage.is_ours
    async with deleted_on_failure(opened, chosen, out, new=new):
        return await storage.create_volume_from_snapshot(volume, snapshot, chosen)


def _check(opened: Opened, wanted: str | None) -> None:
    if wanted is not None and not opened.storage.is_ours:
        raise UnsupportedOperation("the adapter of this domain takes no --id: it makes one up")


async def _removed(opened: Opened, volume: str, snapshot: str, out: Output) -> None:
    with trio.move_on_after(UNDO_TIME):
        try:
            await opened.storage.remove_snapshot(volume, snapshot)
        except (NoSuchManagedSnapshot, NoSuchManagedVolume):
            pass
        except Exception as e:
            out.warn(
                f"it is not known whether snapshot {snapshot} was made: {explained(e)}; `leasehold"
                f" managed snapshot delete {opened.name} {volume} {snapshot}` deletes it"
            )
