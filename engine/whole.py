"""The parts of an engine, put together: from a configuration to what REST serves."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from engine import state_folder
from engine.adapter_programs import AdapterPrograms, Driver
from engine.commands.commands import Commands, commands
from engine.commands.copy_limits import CopyLimits
from engine.commands.copy_times import CopyTimes
from engine.commands.following import Following
from engine.commands.leftovers import keep_tidy
from engine.commands.services import CommandTimes, Services
from engine.config import Config
from engine.db import domains
from engine.db.database import Database
from engine.events import Bus
from engine.failed_logins import FailedLogins
from engine.fleet import Fleet, FleetEvent, HostChanged, JobEvent, fleet
from engine.forgetting import keep_forgetting
from engine.heard import Bounds
from engine.host_files import HostFiles
from engine.joining import Joining
from engine.lease_poller import ExternalLeasePoller
from engine.links import Times as LinkTimes
from engine.managed_storage import ManagedStorage
from engine.managed_storage import Times as AdapterTimes
from engine.metrics import MeasuredHosts, Metrics
from engine.rest.api import Api
from engine.rest.settings import RestSettings
from engine.volume_poller import VolumePoller
from engine.webhook_urls import Rules

ADAPTER_DATABASE = "adapters.sqlite"  # of cinderlib; ours keep nothing
ENDED = ("done", "failed", "aborted")  # of a job, as its host tells


@dataclass(frozen=True)
class Engine:
    """What runs. metrics: of all of it."""

    config: Config
    database: Database
    fleet: Fleet
    bus: Bus
    commands: Commands
    metrics: Metrics
    api: Api


@asynccontextmanager
async def engine(config: Config, version: str) -> AsyncGenerator[Engine]:
    """An engine for the body; what was running goes on, and when the body is left it stops there.

    Raises BadParameter (1000): the key or the url of the database is no good; EngineBusy (4408);
    DatabaseGone (4407); WrongState (4403): the database is of a newer engine; OSError.
    """
    key = await trio.to_thread.run_sync(state_folder.key, config)
    place = config.database
    bus = Bus()
    async with (
        Database.opened(
            config.database_url, key=key, standby=place.standby, patience=place.patience
        ) as database,
        fleet(database, times=_link_times(config), files=host_files(config)) as hosts,
        trio.open_nursery() as nursery,
    ):
        metrics = Metrics(version, hosts, bus)
        following = Following()
        poller = _poller(config, MeasuredHosts(hosts, metrics), nursery, following)
        hosts.watch(_Heard(bus, poller))
        joining = Joining(database, hosts)
        storages = Storages(config, database)
        services = Services(
            database,
            hosts,
            storages.of,
            poller,
            VolumePoller(poller, hosts),
            bus.tell,
            following=following,
            times=CommandTimes(config.commands.tries, config.commands.pauses),
            copies=CopyTimes(room=config.commands.room),
            limits=copy_limits(config),
        )
        nursery.start_soon(joining.run)
        nursery.start_soon(keep_tidy, services)
        nursery.start_soon(metrics.listen)
        nursery.start_soon(keep_forgetting, database, config.database.keep)
        failed_logins = FailedLogins(database, bus)
        nursery.start_soon(failed_logins.run)
        async with commands(services) as running:
            api = Api(
                database,
                running,
                hosts,
                bus,
                storages.of,
                rest_settings(config),
                joining,
                storages.trial,
                login_failed=failed_logins.note,
            )
            yield Engine(config, database, hosts, bus, running, metrics, api)
        nursery.cancel_scope.cancel()


class Storages:
    """The managed domains, through their adapters."""

    def __init__(self, config: Config, database: Database) -> None:
        self._database = database
        work = config.commands
        self._times = AdapterTimes(work.adapter_time, work.adapter_data_time)
        self._programs = AdapterPrograms(
            managedblock=Path(config.adapters.managedblock),
            cinderlib=Path(config.adapters.cinderlib),
            database=f"sqlite:///{config.state / ADAPTER_DATABASE}",
        )

    async def of(self, domain: str) -> ManagedStorage:
        """Raises NoSuchObject (4400), DatabaseGone (4407)."""
        row, secret = await self._database.read(
            lambda c: (domains.get(c, domain), domains.secret(c, domain))
        )
        return self.trial(Driver(row.options, secret))

    def trial(self, driver: Driver) -> ManagedStorage:
        return ManagedStorage(driver, self._programs, self._times)


class _Heard:
    """What hosts tell: events for all, and a reason for the poller to ask."""

    def __init__(self, bus: Bus, poller: ExternalLeasePoller) -> None:
        self._bus = bus
        self._poller = poller

    def __call__(self, event: FleetEvent) -> None:
        if isinstance(event, JobEvent):
            if event.info.get("status") in ENDED:
                self._poller.job_ended(event.host)
            else:
                self._poller.hurry(event.host)
        elif isinstance(event, HostChanged):
            view = event.view
            facts = {"name": view.name, "state": view.state.value, "reason": view.problem}
            self._bus.tell("host.changed", view.id, facts, id=event.row)


def _poller(
    config: Config, hosts: MeasuredHosts, nursery: trio.Nursery, following: Following
) -> ExternalLeasePoller:
    polling = config.polling
    return ExternalLeasePoller(
        hosts,
        nursery,
        bounds=Bounds(
            calls=polling.calls,
            fences=polling.fences,
            held=polling.held,
            alarm=polling.alarm,
            nobody=polling.nobody,
        ),
        tell=following.tell,
        pauses=polling.pauses,
        call_time=config.hosts.call_time,
    )


def _link_times(config: Config) -> LinkTimes:
    calls = config.hosts
    return LinkTimes(
        grace=calls.grace, pauses=calls.pauses, refresh=calls.refresh, call=calls.call_time
    )


def copy_limits(config: Config) -> CopyLimits:
    limits = config.limits
    return CopyLimits(limits.copies_per_host or None, limits.copies_per_domain or None)


def host_files(config: Config) -> HostFiles:
    files = config.hosts
    return HostFiles(ca=files.ca or "", certificate=files.certificate or "", key=files.key or "")


def rest_settings(config: Config) -> RestSettings:
    limits = config.limits
    return RestSettings(
        body_limit=limits.body,
        token_seconds=limits.token_life,
        login_failures=limits.login_failures,
        rate=limits.requests,
        burst=limits.burst,
        webhooks=Rules(config.webhooks.plain, config.webhooks.private),
        hosts=host_files(config),
    )
