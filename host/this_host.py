"""What the verbs of this host work on."""

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

from endpoints.domain import open_store
from host.agent import Agent
from host.allowed import Allowed
from host.config import Config
from host.domains import Domains
from host.journal import Journal
from host.tasks import Tasks
from host.updates import Updates, updates
from leases.store import Store


def _version() -> str:
    try:
        return version("leasehold")
    except PackageNotFoundError:
        return "unknown"


class Writer(TypedDict):
    """What a verb that writes a record is told about its writer."""

    now: int
    hardware_id: str


@dataclass(frozen=True)
class ThisHost:
    """journal: of the agent. version: of leasehold."""

    agent: Agent
    journal: Journal
    updates: Updates
    domains: Domains
    config: Config
    hardware_id: str
    name: str = field(default_factory=socket.gethostname)
    version: str = field(default_factory=_version)
    tasks: Tasks = field(default_factory=Tasks)

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.config.endpoints)

    @property
    def writer(self) -> Writer:
        return {"now": int(time.time()), "hardware_id": self.hardware_id}

    async def store(self, sd_id: str, *, change_index: bool = False) -> Store:
        """The lease store of a known domain. Raises as Domains.load and endpoints.domain."""
        domain = await self.domains.load(sd_id)
        return await open_store(domain, self.config.storage.store, change_index=change_index)


@asynccontextmanager
async def this_host(
    agent: Agent, journal: Journal, config: Config, hardware_id: str
) -> AsyncGenerator[ThisHost]:
    """For the body. Raises as Domains.opened."""
    domains = await Domains.opened(config.state, config.storage.mounts)
    async with updates(agent.registry) as small:
        yield ThisHost(agent, journal, small, domains, config, hardware_id)
