"""Storage domains come, go, and are maintained, at run time.

A managed domain is tried before it is added: who gives wrong options hears it at once. Its secret
options go into the database, encrypted, and never come out of the engine again.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal, Protocol, TypeVar
from uuid import uuid4

from sqlalchemy import Connection

from engine.adapter_programs import Driver
from engine.admin import Admin
from engine.db import called, disks, domains, host_ids, leases
from engine.db.domains import Domain, State
from engine.managed_storage import ManagedStorage
from engine.names import checked_name, checked_text, with_id
from protocol.errors import BadParameter, NameTaken, StillUsed, WrongState

T = TypeVar("T")
DATA: Literal["data"] = "data"
MANAGED: Literal["managed_block_storage"] = "managed_block_storage"
ACTIVE: Literal["active"] = "active"
MAINTENANCE: Literal["maintenance"] = "maintenance"
LARGEST = 64 << 10  # characters of one option
OPTIONS = 100
MOST_COPIES = 10_000
_OPTION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Caller(Protocol):
    """engine/fleet.py, as far as it is needed here."""

    async def call(self, host: str, verb: str, params: Mapping[str, Any] | None = None) -> Any: ...


class JoiningService(Protocol):
    """engine/joining.py: hosts join active data domains, and leave those in maintenance."""

    def hurry(self) -> None: ...

    def problem(self, host: str) -> str: ...

    async def leave(self, domain: str, hosts: Iterable[str]) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class DomainAdmin:
    """trial: the storage behind driver options that no domain has yet."""

    admin: Admin
    fleet: Caller
    joining: JoiningService | None
    trial: Callable[[Driver], ManagedStorage]

    async def add_managed(
        self,
        name: str,
        options: Mapping[str, str],
        secret: Mapping[str, str],
        *,
        description: str = "",
    ) -> str:
        """Its id. Raises BadParameter (1000), NameTaken (4401), what adapters raise."""
        _check(name, description)
        for one in (options, secret):
            checked_options(one)
        if twice := sorted(set(options) & set(secret)):
            raise BadParameter("driver_options", f"{twice[0]} is also among the sensitive ones")
        driver = Driver(options, secret)
        await self._is_free(name)
        await self.trial(driver).storage_stats()
        added, id = self.admin.clock(), str(uuid4())
        domain = Domain(id, name, MANAGED, description, options=dict(options), added=added)
        await self._add(domain, secret)
        return domain.id

    async def add_data(
        self, name: str, path: str, *, id: str | None, host: str | None, description: str = ""
    ) -> str:
        """Its id. path: the folder on the hosts that holds the domain.

        id: of a domain that is there; None: `host` makes a new one, with the sanlock store. Raises
        BadParameter (1000), NameTaken (4401), what the call of the host does.
        """
        _check(name, description)
        checked_path(path)
        if id is not None and not _UUID.fullmatch(id):
            raise BadParameter("id", "it is no UUID")
        added = self.admin.clock()
        domain = Domain(id or str(uuid4()), name, DATA, description, path=path, added=added)
        await self._is_free(name)
        if id is None:
            if host is None:
                raise BadParameter("host", "it is missing: the host that makes the domain")
            params = {"storagedomainID": domain.id, "path": path, "store": "sanlock"}
            await self.fleet.call(host, "StorageDomain.create", params)
        await self._add(domain, {})
        if self.joining is not None:
            self.joining.hurry()
        return domain.id

    async def _is_free(self, name: str) -> None:
        """Before anything is made for it. Raises NameTaken (4401)."""
        if await self.admin.database.read(lambda c: domains.search(c, name=name, limit=1)):
            raise NameTaken("storage domain", name)

    async def _add(self, domain: Domain, secret: Mapping[str, str]) -> None:
        text = f"added storage domain {with_id(domain.name, domain.id)}"
        await self.admin.change(
            "domain", domain.id, text, lambda c: domains.add(c, domain, secret=dict(secret))
        )

    async def rename(self, domain: str, *, name: str, description: str) -> None:
        """Raises NoSuchObject (4400), NameTaken (4401), BadParameter (1000)."""
        _check(name, description)

        def work(c: Connection) -> None:
            domains.change(c, domain, name=name, description=description)

        await self._change(domain, f"is named {name}", work)

    async def limit(self, domain: str, copies: int | None) -> None:
        """At most so many copies at once have an end in it; None: as the configuration has it.

        Raises NoSuchObject (4400), BadParameter (1000)."""
        if copies is not None and not 1 <= copies <= MOST_COPIES:
            raise BadParameter("copies", f"1 to {MOST_COPIES}, or null")

        def work(c: Connection) -> None:
            domains.change(c, domain, limits={"copies": copies})

        await self._change(domain, f"has so many copies at once: {copies or 'as configured'}", work)

    async def activate(self, domain: str) -> None:
        """Nothing, if it is active. Raises NoSuchObject (4400)."""
        await self._move(domain, ACTIVE, lambda c, row: None)
        if self.joining is not None:
            self.joining.hurry()

    async def deactivate(self, domain: str) -> None:
        """No command may begin with it from now on. Raises StillUsed (4406): one works with it."""

        def unused(c: Connection, row: Domain) -> None:
            if locked := disks.search(c, domain=domain, state="locked", limit=1):
                its = with_id(locked[0].name, locked[0].id)
                raise StillUsed("storage domain", row.name, f"disk {its}, which is locked")
            if held := leases.search(c, domain=domain, limit=1):
                raise StillUsed("storage domain", row.name, f"lease {held[0].id}")

        row = await self._move(domain, MAINTENANCE, unused)
        if self.joining is not None and row.kind == DATA:
            members = await self.admin.database.read(lambda c: host_ids.of_domain(c, domain))
            await self.joining.leave(domain, list(members))

    async def _move(
        self, domain: str, state: State, check: Callable[[Connection, Domain], None]
    ) -> Domain:
        def work(c: Connection) -> Domain:
            row = domains.get(c, domain)
            if row.state != state:
                check(c, row)
                domains.move(c, domain, state)
            return row

        what = "was activated" if state == ACTIVE else "is in maintenance"
        return await self._change(domain, what, work)

    async def remove(self, domain: str) -> None:
        """Forget it; its storage is left as it is. Raises NoSuchObject (4400), StillUsed (4406):
        it has disks, or a command or something in quarantine needs it; WrongState (4403): it is a
        data domain that is active."""

        def work(c: Connection) -> None:
            row = domains.get(c, domain)
            if row.kind == DATA and row.state == ACTIVE:
                raise WrongState("storage domain", row.name, row.state, MAINTENANCE)
            domains.remove(c, domain)

        await self._change(domain, "was removed", work)

    async def _change(self, domain: str, what: str, work: Callable[[Connection], T]) -> T:
        return await self.admin.change(
            "domain", domain, lambda c: f"storage domain {called.domain(c, domain)} {what}", work
        )


def _check(name: str, description: str) -> None:
    checked_name("name", name)
    checked_text("description", description)


def checked_options(options: Mapping[str, str]) -> None:
    """Raises BadParameter (1000). Its text has no value."""
    if len(options) > OPTIONS:
        raise BadParameter("driver_options", f"at most {OPTIONS}")
    for name, value in options.items():
        if not _OPTION.fullmatch(name):
            raise BadParameter("driver_options", "names have 1 to 100 letters, digits and . _ -")
        if len(value) > LARGEST or "\0" in value:
            raise BadParameter("driver_options", f"the value of {name} is too long, or has a NUL")


def checked_path(path: str) -> None:
    """Raises BadParameter (1000): not the absolute path of a folder, written plainly."""
    parts = PurePosixPath(path).parts
    plain = path.startswith("/") and not path.startswith("//") and path.isprintable()
    if not plain or ".." in parts or len(path) > 1024:
        raise BadParameter("path", "it is not the absolute path of a folder, without `..`")
