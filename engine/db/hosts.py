"""Hosts: machines with an agent."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, select

from engine.db import rows
from engine.db.rows import Noun
from engine.db.schema import attachments, hosts, jobs
from engine.names import with_id
from protocol.errors import StillUsed

_NOUN = Noun(hosts, "host")


@dataclass(frozen=True)
class Host:
    """url: of its agent. maintenance: gets no work.

    connector, hardware_id: what it told when it was first met; seen: when it last told them.
    """

    id: str
    name: str
    url: str
    maintenance: bool = False
    added: float = 0.0
    connector: Mapping[str, Any] | None = None
    hardware_id: str | None = None
    seen: float | None = None


def get(c: Connection, id: str) -> Host:
    """Raises NoSuchObject (4400)."""
    return _NOUN.get(c, Host, id)


def named(c: Connection, name: str) -> Host:
    """Raises NoSuchObject (4400)."""
    return _NOUN.named(c, Host, name)


def all_hosts(c: Connection) -> list[Host]:
    """In the order of their names."""
    return rows.rows(c, Host, rows.columns(hosts, Host).order_by(hosts.c.name))


def search(
    c: Connection,
    *,
    id: str | None = None,
    name: str | None = None,
    maintenance: bool | None = None,
    limit: int = rows.PAGE,
    offset: int = 0,
) -> list[Host]:
    """In the order of their names. name: may have `*`."""
    wanted = rows.where(hosts, id=id, name=name, maintenance=maintenance)
    query = rows.columns(hosts, Host).where(*wanted).order_by(hosts.c.name)
    return rows.rows(c, Host, rows.page(query, limit, offset))


def count(c: Connection, *, name: str | None = None, maintenance: bool | None = None) -> int:
    return rows.counted(c, hosts, rows.where(hosts, name=name, maintenance=maintenance))


def add(c: Connection, host: Host) -> None:
    """Raises NameTaken (4401)."""
    _NOUN.add(c, asdict(host))


def change(c: Connection, id: str, **values: Any) -> None:
    """values: fields, but for id. Raises NoSuchObject (4400), NameTaken (4401)."""
    _NOUN.change(c, id, **values)


def set_maintenance(c: Connection, id: str, maintenance: bool) -> None:
    """Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, maintenance=maintenance)


def met(
    c: Connection, id: str, *, hardware_id: str, connector: Mapping[str, Any] | None, at: float
) -> None:
    """It told who it is. Raises NoSuchObject (4400)."""
    _NOUN.change(c, id, hardware_id=hardware_id, connector=connector, seen=at)


def remove(c: Connection, id: str) -> None:
    """With its host ids. Raises NoSuchObject (4400); StillUsed (4406): by an attachment, or a job
    that runs or whose end nobody knows."""
    host = get(c, id)
    its, shut_out = attachments.c.host == id, attachments.c.shut_out.is_(True)
    volume = c.execute(select(attachments.c.volume).where(its, ~shut_out)).scalar()
    if volume is not None:
        raise StillUsed("host", with_id(host.name, id), f"volume {volume}, which is attached")
    open_jobs = select(jobs.c.id).where(jobs.c.host == id, jobs.c.state.in_(OPEN))
    if (job := c.execute(open_jobs).scalar()) is not None:
        raise StillUsed("host", with_id(host.name, id), f"job {job}")
    c.execute(attachments.delete().where(its, shut_out))  # the storage lets it in no more
    _NOUN.remove(c, id)


OPEN = ("running", "unresolved")  # jobs that may still write
