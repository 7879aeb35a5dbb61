"""Storage domains: data domains, on folders of hosts, and those of managed block storage."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, select

from engine.db import called, rows, secrets
from engine.db.rows import Noun
from engine.db.schema import disks, domains, leases, volumes
from engine.names import with_id
from protocol.errors import StillUsed

Kind = Literal["data", "managed_block_storage"]
State = Literal["active", "maintenance"]
MOVES = {"active": ("maintenance",), "maintenance": ("active",)}
_NOUN = Noun(domains, "storage domain", MOVES)


@dataclass(frozen=True)
class Domain:
    """path: of a data domain, the folder on its hosts that holds it. options: of the driver of a
    managed one; those that are secret are not here. limits: {"copies": how many at once, or None}.
    """

    id: str
    name: str
    kind: Kind
    description: str = ""
    state: State = "active"
    path: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    added: float = 0.0


def get(c: Connection, id: str) -> Domain:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Domain, id)


def named(c: Connection, name: str) -> Domain:
    """Raises NoSuchObject (4400)."""
    return _NOUN.named(c, Domain, name)


def all_domains(c: Connection) -> list[Domain]:
    """In the order of their names."""
    return rows.rows(c, Domain, rows.columns(domains, Domain).order_by(domains.c.name))


def search(
    c: Connection,
    *,
    id: str | None = None,
    name: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Domain]:
    """In the order of their names. name: may have `*`."""
    wanted = rows.where(domains, id=id, name=name, kind=kind, state=state)
    query = rows.columns(domains, Domain).where(*wanted).order_by(domains.c.name)
    return rows.rows(c, Domain, rows.page(query, limit, offset))


def count(
    c: Connection,
    *,
    name: str | None = None,
    kind: str | None = None,
    state: str | None = None,
) -> int:
    return rows.counted(c, domains, rows.where(domains, name=name, kind=kind, state=state))


def add(c: Connection, domain: Domain, secret: Mapping[str, Any] | None = None) -> None:
    """secret: the options that nobody may read. Raises NameTaken (4401)."""
    sealed = secrets.seal(c, dict(secret) if secret else None, _place(domain.id))
    _NOUN.add(c, {**asdict(domain), "secret": sealed})


def secret(c: Connection, id: str) -> dict[str, Any]:
    """The options that nobody may read, for the driver. Raises NoSuchObject (4400)."""
    get(c, id)
    sealed = c.execute(select(domains.c.secret).where(domains.c.id == id)).scalar()
    return secrets.unseal(c, sealed, _place(id)) or {}


def set_secret(c: Connection, id: str, secret: Mapping[str, Any]) -> None:
    """Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, secret=secrets.seal(c, dict(secret) or None, _place(id)))


def change(c: Connection, id: str, **values: Any) -> None:
    """values: fields, but for id and state. Raises NoSuchObject (4400), NameTaken (4401)."""
    assert "state" not in values
    _NOUN.change(c, id, **values)


def move(c: Connection, id: str, state: State, expected: tuple[str, ...] = ()) -> None:
    """Raises NoSuchObject (4400), WrongState (4403)."""
    _NOUN.move(c, id, state, expected)


def remove(c: Connection, id: str) -> None:
    """With its host ids. Leases that are gone are forgotten. Raises NoSuchObject (4400);
    StillUsed (4406): by a disk, a volume or a lease."""
    domain = get(c, id)
    for table, kind in ((disks, "disk"), (volumes, "volume"), (leases, "lease")):
        query = select(table.c.id).where(table.c.domain == id)
        if table is not disks:
            query = query.where(table.c.state != "gone")
        if (found := c.execute(query.limit(1)).scalar()) is not None:
            by = called.disk(c, found) if table is disks else found
            raise StillUsed("storage domain", with_id(domain.name, id), f"{kind} {by}")
    for table in (volumes, leases):
        c.execute(table.delete().where(table.c.domain == id))
    _NOUN.remove(c, id)


def _place(id: str) -> str:
    return f"domains.secret of {id}"
