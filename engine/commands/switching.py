"""The moment in which a disk moves: one transaction, in which all of it changes or nothing."""

from collections.abc import Sequence

from sqlalchemy import Connection, update

from engine.commands.copy_rows import IMAGE
from engine.commands.disk_checks import MANAGED
from engine.db import disks, schema, volumes
from engine.db.kept import KEPT
from protocol.errors import WrongState


def switched(
    c: Connection, disk: str, volume: str, *, old: Sequence[str], sparse: bool, command: str
) -> None:
    """The disk uses `volume`, which a copy has filled; the old ones are of no disk any more, and to
    be removed. Raises WrongState (4403): the command does not have the disk, or not the volume."""
    new = volumes.get(c, volume)
    rows, table = schema.volumes, schema.disks
    moved = update(rows).where(rows.c.id.in_(old), rows.c.disk == disk, rows.c.state != KEPT)
    c.execute(moved.values(disk=None, state="removing", command=command))
    filled = update(rows).where(rows.c.id == volume, rows.c.state == "creating")
    if c.execute(filled.values(disk=disk, state="ok")).rowcount != 1:
        raise WrongState("volume", volume, new.state, "creating")
    changed = update(table).where(table.c.id == disk, table.c.locked_by == command)
    done = c.execute(
        changed.values(
            domain=new.domain,
            kind=MANAGED if new.image is None else IMAGE,
            format=new.format,
            sparse=sparse,
            size=new.size,
            volume=new.id,
            image=new.image,
        )
    )
    if done.rowcount != 1:
        found = disks.get(c, disk)
        raise WrongState("disk", found.called, found.state, f"locked by {command}")
