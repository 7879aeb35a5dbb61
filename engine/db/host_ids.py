"""The host id of each host in the lockspace of each data domain. Source: sanlock(8), 1 to 2000."""

from sqlalchemy import Connection, delete, insert, select

from engine.db import called
from engine.db.schema import domain_hosts
from protocol.errors import NoRoom

LAST = 2000


def allocated(c: Connection, domain: str, host: str) -> int:
    """That of the host; at first the lowest free one, from then on always the same.

    Raises NoRoom (4405): all are given out.
    """
    given = of_domain(c, domain)
    if host in given:
        return given[host]
    free = next((n for n in range(1, LAST + 1) if n not in set(given.values())), None)
    if free is None:
        raise NoRoom(called.domain(c, domain), 1, 0)
    c.execute(insert(domain_hosts).values(domain=domain, host=host, host_id=free))
    return free


def joined(c: Connection, domain: str, host: str, host_id: int) -> None:
    """The host has joined with this id, whoever gave it: what is true counts. Another host that it
    was meant for gets another one."""
    table = domain_hosts
    if of_domain(c, domain).get(host) == host_id:
        return
    of_both = (table.c.host == host) | (table.c.host_id == host_id)
    c.execute(delete(table).where(table.c.domain == domain, of_both))
    c.execute(insert(table).values(domain=domain, host=host, host_id=host_id))


def of_domain(c: Connection, domain: str) -> dict[str, int]:
    """{host: host id}."""
    table = domain_hosts
    found = c.execute(select(table.c.host, table.c.host_id).where(table.c.domain == domain))
    return {host: number for host, number in found}  # noqa: C416 - mypy does not know Row as a pair


def host_of(c: Connection, domain: str, host_id: int) -> str | None:
    table = domain_hosts
    query = select(table.c.host).where(table.c.domain == domain, table.c.host_id == host_id)
    return c.execute(query).scalar()


def release(c: Connection, domain: str, host: str) -> None:
    """Another host may have the id. To be called when it has left the lockspace."""
    table = domain_hosts
    c.execute(delete(table).where(table.c.domain == domain, table.c.host == host))
