"""Hosts join the lockspaces of the data domains, and are looked after.

Each host has a host id in each domain, which the engine gives out once and keeps. A host that is
up and does not say that it has joined is told to activate the domain. From then on it joins again
by itself, so that is done once, and again when something went wrong.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio
from sqlalchemy import Connection

from engine.db import domains, host_ids
from engine.db.database import Database
from engine.db.domains import Domain
from engine.fleet import Fleet, FleetEvent, HostChanged
from engine.host_view import HostView
from engine.names import with_id
from protocol.errors import AcquireHostIdFailure, Error, StorageDomainDoesNotExist
from protocol.reported import Reported

log = logging.getLogger(__name__)

JOIN_TIME = 300.0  # seconds; joining takes 21 with the usual io_timeout, more after a crash
LEAVE_TIME = 60.0
LOOK = 30.0  # seconds between two looks at who has joined
PAUSES = (5.0, 10.0, 30.0, 60.0)  # seconds after the first failure of a pair, the second ...


@dataclass(frozen=True)
class Pair:
    """A host in a data domain, by their ids."""

    host: str
    domain: str


@dataclass
class _Trouble:
    """Of a pair that could not join. domain: its name. due: when it is tried again."""

    domain: str
    reason: str
    failures: int
    due: float


@dataclass
class _Try:
    """One that is under way. hurried: should it fail, another one follows at once."""

    hurried: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)


def missing(rows: Iterable[Domain], views: Sequence[HostView]) -> dict[Pair, Domain]:
    """Who is to join what: hosts that are up, data domains that are active. Pure.

    A host in maintenance stays where it is, and joins nothing new.
    """
    ready = [view for view in views if view.up and not view.maintenance]
    return {
        Pair(view.id, row.id): row
        for row in rows
        for view in ready
        if row.kind == "data" and row.state == "active" and row.path is not None
        if view.capabilities is not None and not view.capabilities.sees(row.id)
    }


def joined(rows: Iterable[Domain], views: Sequence[HostView]) -> dict[Pair, int]:
    """Who says that it has joined what, with which host id. Pure."""
    return {
        Pair(view.id, row.id): membership.host_id
        for row in rows
        for view in views
        if view.capabilities is not None
        if (membership := view.capabilities.domains.get(row.id)) is not None
        if membership.joined and membership.host_id is not None
    }


def _known(c: Connection) -> tuple[list[Domain], dict[Pair, int]]:
    """The data domains, and the host ids that were given out."""
    rows = [row for row in domains.all_domains(c) if row.kind == "data"]
    ids = {row.id: host_ids.of_domain(c, row.id) for row in rows}
    return rows, {Pair(host, sd_id): n for sd_id, of in ids.items() for host, n in of.items()}


class Joining:
    """`run` has hosts join as long as it runs. It belongs to the trio thread."""

    def __init__(
        self,
        database: Database,
        fleet: Fleet,
        *,
        look: float = LOOK,
        pauses: Sequence[float] = PAUSES,
    ) -> None:
        self._database = database
        self._fleet = fleet
        self._time = look
        self._pauses = pauses
        self._tries: dict[Pair, _Try] = {}
        self._troubles: dict[Pair, _Trouble] = {}
        self._looking = trio.Lock()
        self._changed = trio.Event()
        fleet.watch(self._heard)

    @property
    def problems(self) -> Mapping[Pair, str]:
        """Why hosts have not joined, of those that were told to."""
        return {pair: trouble.reason for pair, trouble in self._troubles.items()}

    def problem(self, host: str) -> str:
        """Why a host has not joined all that it was told to, for people; "" when it has."""
        troubles = [(pair, one) for pair, one in self._troubles.items() if pair.host == host]
        return "; ".join(
            f"it has not joined domain {with_id(one.domain, pair.domain)}: {one.reason}"
            for pair, one in sorted(troubles, key=lambda found: found[1].domain)
        )

    def hurry(self) -> None:
        """Look now: a domain was added or activated. What failed is tried again at once, and so is
        what is just tried, should it fail: it may have begun too early to see the change."""
        for trouble in self._troubles.values():
            trouble.due = trio.current_time()
        for this in self._tries.values():
            this.hurried = True
        self._changed.set()

    async def run(self) -> None:
        """Until it is cancelled; raises nothing."""
        async with trio.open_nursery() as nursery:
            while True:
                self._changed = trio.Event()
                try:
                    await self._look(nursery)
                except Exception as e:  # of the database; the next look may find it back
                    known = isinstance(e, Error)
                    log.warning("nobody is told to join a domain: %s", e, exc_info=not known)
                with trio.move_on_at(self._next_look()):
                    await self._changed.wait()

    async def leave(self, domain: str, hosts: Iterable[str]) -> Mapping[str, str]:
        """Have hosts leave a domain that nothing uses any more; the reasons of those that did not.

        The row is not active any more. A process that holds a lease there is ended by the daemon of
        its host. A host that could not be told stays in it. The host ids stay given out.
        """
        failed: dict[str, str] = {}
        async with self._looking:
            pass  # a look that has read the old row begins nothing any more
        async with trio.open_nursery() as nursery:
            for host in hosts:
                nursery.start_soon(self._leave, Pair(host, domain), failed)
        return failed

    # --- inside ---------------------------------------------------------------------------------

    def _heard(self, event: FleetEvent) -> None:
        if isinstance(event, HostChanged) and event.view.up:
            self._changed.set()

    def _next_look(self) -> float:
        due = [one.due for pair, one in self._troubles.items() if pair not in self._tries]
        return min([trio.current_time() + self._time, *due])

    async def _look(self, nursery: trio.Nursery) -> None:
        """Write down who has joined, and begin what is due. Raises DatabaseGone."""
        async with self._looking:
            await self._begin(nursery)

    async def _begin(self, nursery: trio.Nursery) -> None:
        rows, given = await self._database.read(_known)
        views = self._fleet.views()
        await self._keep(joined(rows, views), given)
        wanted, now = missing(rows, views), trio.current_time()
        self._troubles = {pair: one for pair, one in self._troubles.items() if pair in wanted}
        for pair, row in wanted.items():
            trouble = self._troubles.get(pair)
            if pair not in self._tries and (trouble is None or trouble.due <= now):
                self._tries[pair] = _Try()
                nursery.start_soon(self._try, pair, row)

    async def _keep(self, found: Mapping[Pair, int], given: Mapping[Pair, int]) -> None:
        """What hosts say counts, whatever was given out."""
        new = {pair: number for pair, number in found.items() if given.get(pair) != number}

        def work(c: Connection) -> None:
            for pair, number in new.items():
                host_ids.joined(c, pair.domain, pair.host, number)

        if new:
            await self._database.write(work)

    async def _try(self, pair: Pair, row: Domain) -> None:
        this = self._tries[pair]
        try:
            with this.scope:
                await self._join(pair, row)
                self._troubles.pop(pair, None)
        except Exception as e:  # of one pair; the others go on
            self._note(pair, row, e, hurried=this.hurried)
        finally:
            del self._tries[pair]
            this.over.set()
            self._changed.set()

    async def _join(self, pair: Pair, row: Domain) -> None:
        if (told := await self._fleet.refresh(pair.host)).sees(row.id):
            return
        params: dict[str, Any] = {"storagedomainID": row.id, "path": row.path}
        # One that is known and is no domain for the host alone needs it, whatever the host has.
        if "sanlock" in told.stores or row.id in told.domains:
            params["host_id"] = await self._database.write(
                lambda c: host_ids.allocated(c, row.id, pair.host)
            )
        await self._fleet.call(pair.host, "StorageDomain.activate", params, timeout=JOIN_TIME)
        if not (await self._fleet.refresh(pair.host)).sees(row.id):
            raise AcquireHostIdFailure(
                row.id, "join", "the host was told to join and does not say so"
            )
        log.info("host %s has joined domain %s", pair.host, row.name)

    def _note(self, pair: Pair, row: Domain, error: Exception, *, hurried: bool) -> None:
        known = isinstance(error, Error)
        log.warning(
            "host %s has not joined domain %s: %s",
            pair.host,
            pair.domain,
            error,
            exc_info=not known,
        )
        failures = self._troubles[pair].failures if pair in self._troubles else 0
        pause = 0.0 if hurried else self._pauses[min(failures, len(self._pauses) - 1)]
        due = trio.current_time() + pause
        self._troubles[pair] = _Trouble(row.name, str(error), failures + 1, due)

    async def _leave(self, pair: Pair, failed: dict[str, str]) -> None:
        if this := self._tries.get(pair):
            this.scope.cancel()
            await this.over.wait()
        params = {"storagedomainID": pair.domain}
        try:
            await self._fleet.call(
                pair.host, "StorageDomain.deactivate", params, timeout=LEAVE_TIME
            )
            await self._fleet.refresh(pair.host)
        except Error as e:
            if not (isinstance(e, Reported) and e.number == StorageDomainDoesNotExist.code):
                log.warning("host %s has not left domain %s: %s", pair.host, pair.domain, e)
                failed[pair.host] = str(e)
