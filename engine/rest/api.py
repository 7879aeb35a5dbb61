"""What the REST interface is given: the parts of the engine that it shows and starts."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import trio

from engine.adapter_programs import Driver
from engine.admin import Admin, Store
from engine.commands.run import Progress
from engine.db.commands import Command
from engine.domain_admin import DomainAdmin, JoiningService
from engine.events import Bus
from engine.host_admin import HostAdmin
from engine.host_view import HostView
from engine.managed_storage import ManagedStorage
from engine.rest.settings import RestSettings
from engine.rest.space import Spaces

if TYPE_CHECKING:
    from engine.rest.operation import Call


class CommandService(Protocol):
    """engine/commands/commands.py: starts commands and steers them. Each raises errors of ours."""

    async def start(
        self, name: str, spec: msgspec.Struct, *, user: str, correlation: str = ""
    ) -> str: ...

    async def abort(self, id: str) -> None: ...

    async def resolve(self, id: str) -> None: ...

    async def clear(self, id: str, *, by_hand: bool = False) -> None: ...

    async def wait(self, id: str, timeout: float | None = None) -> Command: ...

    def progress(self, id: str) -> Progress | None: ...


class FleetService(Protocol):
    """engine/fleet.py: the links to the hosts, which come and go at run time."""

    def views(self) -> list[HostView]: ...

    def view(self, host: str) -> HostView: ...

    async def add(self, host: str) -> None: ...

    async def remove(self, host: str) -> None: ...

    async def maintain(self, host: str, *, on: bool) -> None: ...

    async def call(self, host: str, verb: str, params: Mapping[str, Any] | None = None) -> Any: ...


def plain_storage(driver: Driver) -> ManagedStorage:
    """A managed domain that no row tells of yet: its driver is tried before it is added."""
    return ManagedStorage(driver)


@dataclass(frozen=True)
class Api:
    """All that a handler of a request may use.

    storage: the volumes of a managed domain, by its id. trial: those behind driver options that no
    domain has yet. joining: None: nobody joins data domains. clock: seconds since the epoch. turn:
    held while a request with a correlation id begins a command. spaces: of managed domains.
    login_failed: told of each, with the name and the address.
    """

    database: Store
    commands: CommandService
    fleet: FleetService
    events: Bus
    storage: Callable[[str], Awaitable[ManagedStorage]]
    config: RestSettings = field(default_factory=RestSettings)
    joining: JoiningService | None = None
    trial: Callable[[Driver], ManagedStorage] = plain_storage
    clock: Callable[[], float] = time.time
    turn: trio.Lock = field(default_factory=trio.Lock)
    spaces: Spaces = field(default_factory=Spaces)
    login_failed: Callable[[str, str], None] = lambda name, address: None

    def admin(self, call: "Call") -> Admin:
        """For changes that are no commands."""
        return Admin(self.database, self.events, call.user.name, call.correlation, self.clock)

    def host_admin(self, call: "Call") -> HostAdmin:
        return HostAdmin(self.admin(call), self.fleet, self.config.hosts)

    def domain_admin(self, call: "Call") -> DomainAdmin:
        return DomainAdmin(self.admin(call), self.fleet, self.joining, self.trial)
