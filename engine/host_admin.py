"""Hosts come, go, and are maintained, at run time.

A host that goes must be in maintenance and used by nothing: what only it can say or undo would be
lost with it.
"""

from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from sqlalchemy import Connection

from engine.admin import Admin
from engine.db import called, hosts
from engine.db.hosts import Host
from engine.host_files import HostFiles
from engine.names import checked_name, with_id
from protocol.address import PORT
from protocol.errors import WrongState


class FleetService(Protocol):
    """engine/fleet.py, as far as it is needed here."""

    async def add(self, host: str) -> None: ...

    async def remove(self, host: str) -> None: ...

    async def maintain(self, host: str, *, on: bool) -> None: ...


@dataclass(frozen=True)
class HostAdmin:
    admin: Admin
    fleet: FleetService
    files: HostFiles

    async def add(self, name: str, address: str) -> str:
        """Add a host; its id. address: a url (protocol/address.py), or a name to reach by TLS.

        It need not answer now. Raises BadParameter (1000), NameTaken (4401).
        """
        checked_name("name", name)
        url = url_of(address)
        self.files.address(url)
        host = Host(
            id=str(uuid4()),
            name=name,
            url=url,
            added=self.admin.clock(),
        )
        text = f"added host {with_id(name, host.id)} at {url}"
        await self.admin.change("host", host.id, text, lambda c: hosts.add(c, host))
        await self.fleet.add(host.id)
        return host.id

    async def maintain(self, host: str, *, on: bool) -> None:
        """Begin or end its maintenance: new copies go to others, those that run go on.

        Raises NoSuchObject (4400).
        """
        await self.admin.change(
            "host",
            host,
            lambda c: f"maintenance of host {called.host(c, host)} {'began' if on else 'ended'}",
            lambda c: hosts.set_maintenance(c, host, on),
        )
        await self.fleet.maintain(host, on=on)

    async def remove(self, host: str) -> None:
        """Raises NoSuchObject (4400), StillUsed (4406), WrongState (4403): not in maintenance."""

        def work(c: Connection) -> None:
            row = hosts.get(c, host)
            if not row.maintenance:
                raise WrongState("host", row.name, "in use", "in maintenance")
            hosts.remove(c, host)

        await self.admin.change(
            "host", host, lambda c: f"removed host {called.host(c, host)}", work
        )
        await self.fleet.remove(host)


def url_of(address: str) -> str:
    """A name or an address, with or without a port, is one with TLS."""
    if "://" in address or address.startswith("unix:"):
        return address
    if address.count(":") > 1 and not address.startswith("["):
        address = f"[{address}]"
    has_port = address.rpartition("]")[2].count(":") == 1
    return f"tls://{address}" if has_port else f"tls://{address}:{PORT}"
