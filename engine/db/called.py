"""What things are called at the time of a text, with their ids: `web (5b3ad4a8-...)`."""

from sqlalchemy import Connection, Table, select

from engine.db.schema import disks, domains, hosts
from engine.names import with_id


def host(c: Connection, id: str) -> str:
    """The id alone, where there is none: likewise below."""
    return _called(c, hosts, id)


def domain(c: Connection, id: str) -> str:
    return _called(c, domains, id)


def disk(c: Connection, id: str) -> str:
    return _called(c, disks, id)


def every_domain(c: Connection) -> dict[str, str]:
    """The names of all, by their ids."""
    return _names(c, domains)


def every_host(c: Connection) -> dict[str, str]:
    return _names(c, hosts)


def _names(c: Connection, table: Table) -> dict[str, str]:
    return {row.id: row.name for row in c.execute(select(table.c.id, table.c.name))}


def _called(c: Connection, table: Table, id: str) -> str:
    name = c.execute(select(table.c.name).where(table.c.id == id)).scalar()
    return id if name is None else with_id(name, id)
