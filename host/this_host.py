"""What the verbs of this host work on."""

import socket
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TypedDict

import msgspec

from endpoints.domain import StoreKind, open_store
from host import local, own_domain
from host.agent import Agent
from host.allowed import Allowed
from host.config import Config
from host.domains import Domains
from host.folder import Folder
from host.journal import Journal
from host.managed import ManagedVolumes
from host.managed_use import Named
from host.tasks import Tasks
from host.turns import Turns
from host.updates import Updates, updates
from leases.store import Store
from storage.domain import Domain


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
    """journal: of the agent. version: of leasehold. turns: for memberships in lockspaces."""

    agent: Agent
    journal: Journal
    updates: Updates
    domains: Domains
    managed: ManagedVolumes
    config: Config
    hardware_id: str
    version: str = field(default_factory=_version)
    tasks: Tasks = field(default_factory=Tasks)
    turns: Turns = field(default_factory=Turns)

    @property
    def name(self) -> str:
        return self.config.identity.name or socket.gethostname()

    @property
    def allowed(self) -> Allowed:
        return Allowed(self.config.endpoints, self.managed.attached)

    @property
    def writer(self) -> Writer:
        return {"now": int(time.time()), "hardware_id": self.hardware_id}

    async def store(self, sd_id: str, *, change_index: bool = False) -> Store:
        """The lease store of a known domain. Raises as Domains.load and endpoints.domain."""
        domain = await self.domains.load(sd_id)
        return await self.store_in(domain, change_index=change_index)

    async def store_in(self, domain: Domain, *, change_index: bool = False) -> Store:
        """The lease store of a domain. Raises as endpoints.domain.open_store."""
        return await open_store(domain, self.store_kind(domain), change_index=change_index)

    def store_kind(self, domain: Domain) -> StoreKind:
        """Who keeps its leases: as configured, but for the domain of this host alone."""
        own = own_domain.mount(self.config.state)
        return own_domain.store_of(domain, own, self.config.storage.store)


@asynccontextmanager
async def this_host(
    agent: Agent, journal: Journal, config: Config, hardware_id: str
) -> AsyncGenerator[ThisHost]:
    """For the body. Raises as Domains.opened and ManagedVolumes.opened."""
    domains = await Domains.opened(config.state, mounts(config))
    managed = await ManagedVolumes.opened(config, hardware_id, partial(urls_in_use, agent, journal))
    async with updates(agent.registry) as small:
        yield ThisHost(agent, journal, small, domains, managed, config, hardware_id)


def mounts(config: Config) -> list[str]:
    """Folders with the storage domains that this host knows by itself."""
    own = own_domain.mount(config.state)
    return [*config.storage.mounts, *([str(own)] if own.is_dir() else [])]


async def urls_in_use(agent: Agent, journal: Journal) -> list[Named]:
    """The sources and destinations, if they have a url, of the copies that have not ended."""
    ids = [job.id for job in agent.registry.list() if not job.status.ended]
    return await local.run(_urls, [journal.folder(job_id) for job_id in ids])


def _urls(folders: list[Folder]) -> list[Named]:
    found = []
    for folder in folders:
        with suppress(OSError, msgspec.MsgspecError):  # no copy, or just forgotten
            spec = folder.spec()
            urls = [end["url"] for end in (spec.source, spec.destination) if "url" in end]
            found += [Named(url, str(spec.job_id), spec.real) for url in urls]
    return found
