"""Disks: what users copy. The content is in volumes."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, delete, func, select, update

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import disks
from engine.names import with_id
from protocol.errors import DiskLocked, WrongState

Kind = Literal["managed", "image"]
Format = Literal["raw", "cow"]
State = Literal["ok", "locked", "illegal"]
_NOUN = Noun(disks, "disk")


@dataclass(frozen=True)
class Disk:
    """size: bytes. volume: the one that it uses. image: of a disk of a data domain.

    state: illegal: its content is not whole. locked_by: the command that works on it.
    """

    id: str
    name: str
    description: str
    size: int
    domain: str
    kind: Kind
    format: Format
    sparse: bool
    volume: str | None
    image: str | None
    state: State
    locked_by: str | None
    created: float

    @property
    def called(self) -> str:
        """For people."""
        return with_id(self.name, self.id)


def get(c: Connection, id: str) -> Disk:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Disk, id)


def find(c: Connection, id: str) -> Disk | None:
    return _NOUN.find(c, Disk, id)


def search(
    c: Connection,
    *,
    id: str | None = None,
    name: str | None = None,
    domain: str | None = None,
    state: str | None = None,
    kind: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Disk]:
    """The oldest first. name: may have `*`; several disks may have one name."""
    wanted = rows.where(disks, id=id, name=name, domain=domain, state=state, kind=kind)
    query = rows.columns(disks, Disk).where(*wanted).order_by(disks.c.created, disks.c.id)
    return rows.rows(c, Disk, rows.page(query, limit, offset))


def using(c: Connection, volume: str) -> list[Disk]:
    """Those whose content is in a volume: one at most."""
    return rows.rows(c, Disk, rows.columns(disks, Disk).where(disks.c.volume == volume))


def count(
    c: Connection,
    *,
    name: str | None = None,
    domain: str | None = None,
    state: str | None = None,
    kind: str | None = None,
) -> int:
    wanted = rows.where(disks, name=name, domain=domain, state=state, kind=kind)
    return rows.counted(c, disks, wanted)


def used(c: Connection) -> dict[str, int]:
    """{domain: bytes of all its disks}."""
    query = select(disks.c.domain, func.sum(disks.c.size)).group_by(disks.c.domain)
    return {domain: int(size) for domain, size in c.execute(query)}


def add(c: Connection, disk: Disk) -> None:
    """Raises NameTaken (4401): there is one of that id."""
    _NOUN.add(c, {**asdict(disk)})


def change(c: Connection, id: str, **values: Any) -> None:
    """values: fields that anybody may change: name, description. Raises NoSuchObject (4400)."""
    assert set(values) <= {"name", "description"}
    _NOUN.change(c, id, **values)


# --- for the command that has locked it ---------------------------------------------------------


def lock(c: Connection, id: str, command: str) -> None:
    """For one command, of a disk that is ok or illegal; the same again is no error.

    Raises NoSuchObject (4400); DiskLocked (4402), which names the command that has it.
    """
    free = update(disks).where(disks.c.id == id, disks.c.locked_by.is_(None))
    if c.execute(free.values(state="locked", locked_by=command)).rowcount:
        return
    found = get(c, id)
    if found.locked_by != command:
        raise DiskLocked(found.called, found.locked_by or "")


def unlock(c: Connection, id: str, command: str, status: State = "ok") -> None:
    """Of the command that locked it; the same again is no error. status: ok, illegal.

    Raises NoSuchObject (4400); DiskLocked (4402): another has it; WrongState (4403): nobody has,
    and it has another state.
    """
    held = update(disks).where(disks.c.id == id, disks.c.locked_by == command)
    if c.execute(held.values(state=status, locked_by=None)).rowcount:
        return
    found = get(c, id)
    if found.locked_by is not None:
        raise DiskLocked(found.called, found.locked_by)
    if found.state != status:
        raise WrongState("disk", found.called, found.state, status)


def locked_by(c: Connection, command: str) -> list[Disk]:
    """All that a command has locked."""
    query = rows.columns(disks, Disk).where(disks.c.locked_by == command).order_by(disks.c.id)
    return rows.rows(c, Disk, query)


def resize(c: Connection, id: str, size: int) -> None:
    """size: bytes. Raises NoSuchObject (4400); WrongState (4403): it is not locked."""
    _change_locked(c, id, size=size)


def use(c: Connection, id: str, volume: str, *, size: int) -> None:
    """Another volume, of the same domain. Raises NoSuchObject (4400), WrongState (4403)."""
    _change_locked(c, id, volume=volume, size=size)


def switch(c: Connection, id: str, **values: Any) -> None:
    """Another volume in another domain. values: domain, volume, kind, image, format, sparse, size.

    Raises NoSuchObject (4400); WrongState (4403): it is not locked.
    """
    _change_locked(c, id, **values)


def remove(c: Connection, id: str) -> None:
    """With its snapshots; its volumes stay, of no disk. Raises NoSuchObject (4400); WrongState
    (4403): it is not locked."""
    if not c.execute(delete(disks).where(disks.c.id == id, disks.c.state == "locked")).rowcount:
        raise _NOUN.wrong(c, id, ["locked"])


def _change_locked(c: Connection, id: str, **values: Any) -> None:
    guard = update(disks).where(disks.c.id == id, disks.c.state == "locked")
    if not c.execute(guard.values(**values)).rowcount:
        raise _NOUN.wrong(c, id, ["locked"])
