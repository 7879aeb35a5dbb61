"""What commands work with. There is one of it in an engine."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.commands.copy_limits import CopyLimits
from engine.commands.copy_times import CopyTimes
from engine.commands.following import Following
from engine.db.database import Database
from engine.fleet import Fleet
from engine.lease_poller import ExternalLeasePoller
from engine.managed_storage import ManagedStorage
from engine.volume_poller import VolumePoller


class Tell(Protocol):
    """Bus.tell of engine/events.py."""

    def __call__(
        self,
        kind: str,
        object: str,
        data: Mapping[str, Any] | None = None,
        *,
        id: int | None = None,
    ) -> object: ...


@dataclass(frozen=True)
class CommandTimes:
    """tries: of an undo or a clean-up, before it is given up. pauses: seconds before each but the
    first; the last one counts for the rest. database: seconds between two looks whether a database
    that was gone is back. progress: seconds between two writes of the progress of a job."""

    tries: int = 6
    pauses: tuple[float, ...] = (1.0, 2.0, 5.0, 10.0, 20.0)
    database: float = 1.0
    progress: float = 5.0


@dataclass(frozen=True)
class Services:
    """storage: of a managed domain, by its id; raises NoSuchObject. following: its `tell` must be
    that of both pollers. clock: seconds since the epoch.

    The pollers must outlive the commands: they are closed after those were stopped.
    """

    database: Database
    fleet: Fleet
    storage: Callable[[str], Awaitable[ManagedStorage]]
    poller: ExternalLeasePoller
    volumes: VolumePoller
    tell: Tell
    times: CommandTimes = field(default_factory=CommandTimes)
    copies: CopyTimes = field(default_factory=CopyTimes)
    limits: CopyLimits = field(default_factory=CopyLimits)
    following: Following = field(default_factory=Following)
    clock: Callable[[], float] = time.time
