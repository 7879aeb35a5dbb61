"""What is left of the commands of an engine, and is in none of its tables.

Everything is counted where it is: on the storage, on the hosts, in the lease volumes; and compared
with the rows of the database, which are read past the engine.
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy
import trio

from engine.managed_storage import ManagedStorage
from tests.engine_hosts import AgentHost

Row = Any


class Rows:
    """The tables as they are now. One is a list of rows."""

    def __init__(self, url: str) -> None:
        engine = sqlalchemy.create_engine(with_driver(url), poolclass=sqlalchemy.NullPool)
        with engine.connect() as connection:
            self._tables = {
                name: list(connection.execute(sqlalchemy.text(f'SELECT * FROM "{name}"')))
                for name in _TABLES
            }
        engine.dispose()

    def __getattr__(self, name: str) -> list[Row]:
        try:
            return self._tables[name]
        except KeyError:
            raise AttributeError(name) from None


def with_driver(url: str) -> str:
    """The url as SQLAlchemy finds the driver that is installed."""
    return url.replace("postgresql://", "postgresql+psycopg://", 1)


_TABLES = (
    *("disks", "volumes", "snapshots", "attachments", "leases", "commands", "jobs", "quarantine"),
    *("domains", "hosts"),
)
_KEPT = "kept"
# The states that rows may have while no command runs.
SETTLED = {
    "commands": {"succeeded", "failed", "aborted", "unresolved", "quarantined"},
    "volumes": {"ok", "gone", _KEPT},
    "snapshots": {"ok", "in_preview", _KEPT},
    "attachments": {_KEPT},
    "leases": {"gone", _KEPT},
    "jobs": {"done", "failed", "unresolved"},
}
WAITING = ("unresolved", "quarantined")  # for a person


def left(
    url: str, hosts: list[AgentHost], storages: dict[str, ManagedStorage], domains: Sequence[Path]
) -> list[str]:
    """What should not be there, in words. url: of the database, while no command runs.

    storages: of the managed domains, by id. domains: the folders of the data domains.
    """
    rows = Rows(url)
    away = {one.id for one in hosts if one.agent is None}
    found = [
        *_in_tables(rows, away),
        *_on_hosts(rows, hosts),
    ]
    for domain in domains:
        found += [*_on_leases(rows, hosts, domain.name), *_in_images(rows, domain)]
    for id, storage in storages.items():
        found += _on_storage(rows, id, storage)
    return found


def _in_tables(rows: Rows, away: set[str]) -> Iterator[str]:
    """What only a running command may have, and what is kept by no command that tells of it."""
    for table, settled in SETTLED.items():
        for one in getattr(rows, table):
            # A silent host may say "attached" until it is back: the storage has shut it out.
            silent = table == "attachments" and one.shut_out and one.host in away
            if one.state not in settled and not silent:
                yield f"{table}: {one.id if hasattr(one, 'id') else one.volume} is {one.state}"
    waiting = {one.id for one in rows.commands if one.state in WAITING}
    for one in rows.disks:
        if one.locked_by not in (None, *waiting):
            yield f"disk {one.name} is locked by {one.locked_by}"
        if one.state == "locked" and one.locked_by is None:
            yield f"disk {one.name} is locked by nobody"
    told = {(one.kind, one.object) for one in rows.quarantine if one.cleared is None}
    told |= {("volume", one.id) for one in rows.volumes if one.command in waiting}
    told |= {("lease", one.id) for one in rows.leases if one.command in waiting}
    told |= {("attachment", one.volume) for one in rows.attachments if one.command in waiting}
    kept = {("volume", one.id) for one in rows.volumes if one.state == _KEPT}
    kept |= {("lease", one.id) for one in rows.leases if one.state == _KEPT}
    kept |= {("attachment", one.volume) for one in rows.attachments if one.state == _KEPT}
    yield from (f"{kind} {one} is kept, and nobody is told" for kind, one in sorted(kept - told))


def _on_storage(rows: Rows, domain: str, storage: ManagedStorage) -> Iterator[str]:
    there = set(trio.run(storage.list_volumes))
    known = {one.id for one in rows.volumes if one.domain == domain and one.state != "gone"}
    kept = {one.id for one in rows.volumes if one.domain == domain and one.state == _KEPT}
    yield from (f"volume {one} is on storage and in no row" for one in sorted(there - known))
    yield from (f"volume {one} is not on storage" for one in sorted(known - kept - there))
    names = {one.id: _storage_name(one) for one in rows.hosts}
    may = {(one.volume, names[one.host]) for one in rows.attachments if not one.shut_out}
    for volume in sorted(there):
        info = trio.run(storage.volume_info, volume)
        for host in info.hosts:
            if (volume, host) not in may:
                yield f"volume {volume} is connected for {host}"
        wanted = {
            one.adapter_id or one.id
            for one in rows.snapshots
            if one.volume == volume and one.state != _KEPT
        }
        allowed = wanted | {
            one.adapter_id or one.id for one in rows.snapshots if one.volume == volume
        }
        yield from (
            f"snapshot {one} of {volume} is in no row" for one in set(info.snapshots) - allowed
        )
        yield from (
            f"snapshot {one} of {volume} is not on storage" for one in wanted - set(info.snapshots)
        )


def _storage_name(host: Row) -> str:
    """By which storage knows a host of the table."""
    return str(host.name)


def _on_hosts(rows: Rows, hosts: list[AgentHost]) -> Iterator[str]:
    for host in hosts:
        if host.agent is None:
            yield from (f"host {host.name}: {words} lives" for words in host.working())
            continue
        kept = {one.volume for one in rows.attachments if one.host == host.id}
        attached = set(host.attached())
        for volume in sorted(attached - kept):
            yield f"volume {volume} is attached on {host.name}"
        if not attached:
            yield from (f"host {host.name}: {name} in its run folder" for name in host.left())
        yield from (f"host {host.name}: {words} lives" for words in host.working())


def _on_leases(rows: Rows, hosts: list[AgentHost], domain: str) -> Iterator[str]:
    host = next(one for one in hosts if one.agent is not None)
    told = host.leasehold("lease", "list", domain)
    there = {one["lease_id"] if isinstance(one, dict) else one for one in told["leases"]}
    known = {one.id for one in rows.leases if one.state == _KEPT}
    yield from (f"lease {one} is in the lease volume" for one in sorted(there - known))


def _in_images(rows: Rows, domain: Path) -> Iterator[str]:
    images = domain / "images"
    known = {one.id for one in rows.volumes if one.state != "gone" and one.image}
    for image in sorted(os.listdir(images)) if images.is_dir() else []:
        there = {name for name in os.listdir(images / image) if "." not in name}
        yield from (f"volume {one} of image {image} is in no row" for one in sorted(there - known))
        if not there:
            yield f"the folder of image {image} is left"
