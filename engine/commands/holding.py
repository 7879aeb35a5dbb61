"""The lock of a disk that moves, while nobody knows how its move will end.

A disk that others could change meanwhile could not take the volume any more that the move has
filled: what had been copied would be thrown away, or what was written since would be lost.
"""

from collections.abc import Collection

import msgspec
from sqlalchemy import Connection

from engine.commands.disk_checks import none_kept
from engine.commands.ends import Ends
from engine.commands.run import Run
from engine.commands.states import State
from engine.db import attachments, disks, snapshots
from engine.db.disks import Disk
from protocol.errors import WrongState


def held(c: Connection, run: Run, state: State) -> Collection[str]:
    """The disk, while the move is unresolved; also while it is in quarantine because a host may
    still write to the new volume."""
    access = attachments.find(c, run.spec.volume, run.id)
    if state is State.UNRESOLVED or (access is not None and not access.shut_out):
        return (run.spec.disk,)
    return ()


def taken_again(c: Connection, run: Run) -> None:
    """Lock the disk of a move that goes on, if it was freed: by an engine of an older version.

    Raises NoSuchObject (4400); DiskLocked (4402): another command has it; WrongState (4403): it is
    not as it was any more, so the move can only be cleared; InQuarantine (4412).
    """
    disk = disks.get(c, run.spec.disk)
    if disk.locked_by == run.id:
        return
    disks.lock(c, disk.id, run.id)
    none_kept(c, disk.id)
    if not _is_as_it_was(c, disk, msgspec.convert(run.facts["ends"], Ends)):
        way = f"as it was: the move can only be cleared, `leasehold engine job clear {run.id}`"
        raise WrongState("disk", disk.called, "changed since its move began", way)


def _is_as_it_was(c: Connection, disk: Disk, ends: Ends) -> bool:
    before = (ends.source.domain, ends.source.volume, ends.size)
    whole = disk.state != "illegal" and not snapshots.of_disk(c, disk.id)
    return whole and (disk.domain, disk.volume, disk.size) == before
