"""Snapshots of disks of managed domains."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy import Connection, select

from engine.db import kept, rows
from engine.db.rows import Noun
from engine.db.schema import snapshots, volumes
from protocol.errors import NoSuchObject

State = Literal["creating", "ok", "in_preview", "removing", "kept"]
MOVES = {
    "creating": ("kept",),
    "ok": ("creating", "in_preview", "removing", "kept"),
    "in_preview": ("ok", "kept"),
    "removing": ("creating", "ok", "kept"),
    "kept": ("creating", "ok", "in_preview", "removing"),
}
_NOUN = Noun(snapshots, "snapshot", MOVES)


@dataclass(frozen=True)
class Snapshot:
    """volume: that it was taken of. adapter_id: what the storage calls it; None: not made yet.

    preview_of: while the disk has its content for a trial: the volume that it had before.
    size: bytes of the disk when it was made.
    """

    id: str
    disk: str
    volume: str
    adapter_id: str | None
    description: str
    state: State
    created: float
    preview_of: str | None
    size: int


def get(c: Connection, id: str) -> Snapshot:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Snapshot, id)


def find(c: Connection, id: str) -> Snapshot | None:
    return _NOUN.find(c, Snapshot, id)


def of_disk(c: Connection, disk: str) -> list[Snapshot]:
    """The oldest first."""
    query = rows.columns(snapshots, Snapshot).where(snapshots.c.disk == disk)
    return rows.rows(c, Snapshot, query.order_by(snapshots.c.created, snapshots.c.id))


def with_domain(c: Connection, id: str) -> tuple[Snapshot, str]:
    """With the id of the domain that its volume is in. Raises NoSuchObject (4400)."""
    found = get(c, id)
    query = select(volumes.c.domain).where(volumes.c.id == found.volume)
    domain: str | None = c.execute(query).scalar()
    if domain is None:
        raise NoSuchObject("volume", found.volume)
    return found, domain


def add(c: Connection, snapshot: Snapshot) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(c, asdict(snapshot))


def made(c: Connection, id: str, adapter_id: str) -> None:
    """It is there. Raises NoSuchObject (4400), WrongState (4403)."""
    _NOUN.move(c, id, "ok", ("creating", "kept"), adapter_id=adapter_id, kept_from=None)


def preview(c: Connection, id: str, before: str | None) -> None:
    """The disk has its content, and had the volume `before`; None: no longer.

    Raises NoSuchObject (4400), WrongState (4403).
    """
    if before is None:
        _NOUN.move(c, id, "ok", ("in_preview",), preview_of=None)
    else:
        _NOUN.move(c, id, "in_preview", ("ok",), preview_of=before)


def move(c: Connection, id: str, state: State, expected: Iterable[str] = ()) -> None:
    """expected: none: any from which the state can be reached, see MOVES.

    Raises NoSuchObject (4400), WrongState (4403).
    """
    _NOUN.move(c, id, state, expected)


def keep(c: Connection, id: str) -> bool:
    """Nobody touches it any more; False: there is no such one. The same again is no error."""
    return kept.keep(c, snapshots, snapshots.c.id == id)


def free(c: Connection, id: str) -> bool:
    """Back to the state before `keep`; False: it is not kept."""
    return kept.free(c, snapshots, snapshots.c.id == id)


def remove(c: Connection, id: str) -> None:
    """Raises NoSuchObject (4400)."""
    _NOUN.remove(c, id)
