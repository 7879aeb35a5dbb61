"""What commands that make a managed volume have in common."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

from cli.managed_storage import Opened
from cli.output import Output, explained
from cli.sizes import parse_size
from protocol.errors import (
    BadParameter,
    ManagedVolumeExists,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
)
from protocol.managed import GIB
from protocol.managed import gib_of as rounded_up

UNDO_TIME = 120.0  # seconds


def gib_of(size: str, out: Output) -> int:
    """The GiB of a `--size`; says so when that is more than was asked for. Raises BadParameter."""
    wanted = parse_size(size, "--size")
    if not wanted:
        raise BadParameter("--size", "a volume has at least 1 GiB")
    gib = rounded_up(wanted)
    if gib * GIB != wanted:
        out.note(f"the size is rounded up to {gib} GiB: managed volumes have whole ones")
    return gib


@asynccontextmanager
async def deleted_on_failure(
    opened: Opened, volume: str, out: Output, *, new: bool
) -> AsyncGenerator[None]:
    """When the body fails, what it may have made is deleted. new: nobody else knows the id; if not,
    it may have been there before, and the user can repeat the command with the same id."""
    try:
        yield
    except (ManagedVolumeExists, NoSuchManagedSnapshot, NoSuchManagedVolume):
        raise  # nothing was made
    except BaseException:
        if new:
            with trio.CancelScope(shield=True):
                await _deleted(opened, volume, out)
        raise


async def _deleted(opened: Opened, volume: str, out: Output) -> None:
    with trio.move_on_after(UNDO_TIME):
        try:
            await opened.storage.delete_volume(volume)
        except NoSuchManagedVolume:
            pass
        except Exception as e:
            out.warn(
                f"it is not known whether volume {volume} was made: {explained(e)}; "
                f"`leasehold managed volume delete {opened.name} {volume}` deletes it"
            )
