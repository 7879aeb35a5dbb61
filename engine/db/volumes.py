"""Volumes: where the content of disks is, by the id that storage knows."""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection

from engine.db import kept, rows
from engine.db.rows import Noun
from engine.db.schema import disks, snapshots, volumes

State = Literal["creating", "ok", "removing", "kept", "gone"]
# kept: in quarantine, or of a command whose end nobody knows: nobody touches it.
MOVES = {
    "creating": ("kept", "removing"),
    "ok": ("creating", "removing", "kept"),
    "removing": ("creating", "ok", "kept"),
    "kept": ("creating", "ok", "removing"),
    "gone": ("creating", "removing", "kept"),
}
REMOVING: State = "removing"
_NOUN = Noun(volumes, "volume", MOVES)


@dataclass(frozen=True)
class Volume:
    """size: bytes. image, parent: of a volume of a data domain. command: that made it."""

    id: str
    disk: str | None
    domain: str
    image: str | None
    parent: str | None
    size: int
    format: Literal["raw", "cow"]
    state: State
    command: str | None


def get(c: Connection, id: str) -> Volume:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Volume, id)


def find(c: Connection, id: str) -> Volume | None:
    return _NOUN.find(c, Volume, id)


def of_disk(c: Connection, disk: str) -> list[Volume]:
    query = rows.columns(volumes, Volume).where(volumes.c.disk == disk).order_by(volumes.c.id)
    return rows.rows(c, Volume, query)


def of_image(
    c: Connection, domain: str, image: str, *, but: Collection[str] = (), needed: bool = False
) -> list[Volume]:
    """All that lie in one folder of a data domain, in the order of their ids. but: not these.

    needed: without those of a former place of a disk, which are only still to be removed.
    """
    table = volumes
    wanted = [table.c.domain == domain, table.c.image == image, table.c.id.not_in(list(but))]
    if needed:
        before = table.c.kept_from.is_not_distinct_from(REMOVING)
        leaving = (table.c.state == REMOVING) | ((table.c.state == kept.KEPT) & before)
        wanted.append(~(table.c.disk.is_(None) & leaving))
    query = rows.columns(table, Volume).where(*wanted).order_by(table.c.id)
    return rows.rows(c, Volume, query)


def search(
    c: Connection,
    *,
    domain: str | None = None,
    state: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Volume]:
    """In the order of their ids."""
    wanted = rows.where(volumes, domain=domain, state=state)
    query = rows.columns(volumes, Volume).where(*wanted).order_by(volumes.c.id)
    return rows.rows(c, Volume, rows.page(query, limit, offset))


def add(c: Connection, volume: Volume) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(c, asdict(volume))


def move(c: Connection, id: str, state: State, expected: Iterable[str] = ()) -> None:
    """expected: none: any from which the state can be reached, see MOVES.

    Raises NoSuchObject (4400), WrongState (4403).
    """
    _NOUN.move(c, id, state, expected)


def keep(c: Connection, id: str) -> bool:
    """Nobody touches it any more; False: there is no such one. The same again is no error."""
    return kept.keep(c, volumes, volumes.c.id == id)


def free(c: Connection, id: str) -> bool:
    """Back to the state before `keep`; False: it is not kept."""
    return kept.free(c, volumes, volumes.c.id == id)


def resize(c: Connection, id: str, size: int) -> None:
    """size: bytes. Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, size=size)


def give(c: Connection, id: str, disk: str) -> None:
    """To another disk. Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, disk=disk)


def rename(c: Connection, id: str, new: str) -> None:
    """The storage has chosen an id of its own; disks and snapshots that name it follow.

    Raises NoSuchObject (4400), NameTaken (4401).
    """
    with rows.taken("volume", new):
        _NOUN.change(c, id, id=new)
    c.execute(disks.update().where(disks.c.volume == id).values(volume=new))
    for column in (snapshots.c.volume, snapshots.c.preview_of):
        c.execute(snapshots.update().where(column == id).values({column.name: new}))


def remove(c: Connection, id: str) -> None:
    """It is gone, and forgotten. Raises NoSuchObject (4400)."""
    _NOUN.remove(c, id)
