"""The hosts of a fleet: taken up and given up, known by their hardware, told to drain."""

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio
from sqlalchemy import Connection

from engine import met
from engine.capabilities import Capabilities
from engine.db.database import Database
from engine.db.hosts import Host
from engine.host_files import HostFiles
from engine.host_states import LinkState, shown
from engine.host_view import HostView
from engine.links import HostLink, Known, Times
from engine.met import Met
from engine.twins import held, twin
from protocol.client import HostError
from protocol.errors import Error, NoSuchObject, NotDrained

log = logging.getLogger(__name__)

ORDER_TIME = 60.0  # seconds for a host to take a drain or a resume
DRAIN, RESUME = "Host.drain", "Host.resume"


@dataclass(eq=False)
class Member:
    """A host. connector, twin: as in Met. told: its connector as it told it last, in this life of
    the engine. order: DRAIN or RESUME, that it has not taken yet.
    written: what stands of it in the database; None: nothing of this life of the engine. audited:
    the `twin` that stands in the audit log."""

    row: Host
    link: HostLink
    maintenance: bool
    hardware_id: str | None
    connector: Mapping[str, Any]
    told: Mapping[str, Any] = field(default_factory=dict)
    twin: str = ""
    order: str | None = None
    written: Met | None = None
    audited: str = ""
    ordering: trio.Lock = field(default_factory=trio.Lock)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    over: trio.Event = field(default_factory=trio.Event)

    @property
    def up(self) -> bool:
        return self.link.state is LinkState.UP

    @property
    def view(self) -> HostView:
        return HostView(
            self.row.id,
            self.row.name,
            shown(self.link.state, maintenance=self.maintenance),
            self.link.reason,
            up=self.up,
            maintenance=self.maintenance,
            capabilities=self.link.capabilities,
            twin=self.twin,
        )


class Members:
    """By id. changed: told of each that has another view, with the id of the row in the audit log,
    if there is one. heard: gets their events.

    What is done for them runs in `nursery`. Not thread safe: it belongs to the trio thread.
    """

    def __init__(
        self,
        database: Database,
        nursery: trio.Nursery,
        times: Times,
        files: HostFiles,
        *,
        changed: Callable[[Member, int | None], None],
        heard: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._database = database
        self._nursery = nursery
        self._times = times
        self._files = files
        self._changed = changed
        self._heard = heard
        self._members: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._members.values()))

    def __contains__(self, host: str) -> bool:
        return host in self._members

    def __getitem__(self, host: str) -> Member:
        """Raises NoSuchObject."""
        try:
            return self._members[host]
        except KeyError:
            raise NoSuchObject("host", host) from None

    def take(self, row: Host) -> Member:
        """Keep a connection to a host from now on."""
        address = partial(self._files.address, row.url)
        known = Known(row.id, row.name, address, seen=row.seen is not None)
        link = HostLink(
            known,
            meet=lambda told: self._meet(member, told),
            changed=lambda: self._tell(member),
            heard=lambda method, info: self._heard(row.id, method, info),
            times=self._times,
        )
        member = Member(row, link, row.maintenance, row.hardware_id, row.connector or {})
        member.order = DRAIN if row.maintenance else None
        self._members[row.id] = member
        self._nursery.start_soon(_run, member, name=f"link of host {row.name}")
        self._tell(member)
        return member

    async def give_up(self, host: str) -> None:
        """Ask it nothing any more. Nothing when there is none."""
        if member := self._members.pop(host, None):
            member.scope.cancel()
            await member.over.wait()

    async def maintain(self, member: Member, *, on: bool) -> None:
        """Drain, or resume: now, or as soon as the host can be told."""
        member.maintenance, member.order = on, DRAIN if on else RESUME
        self._tell(member)
        if member.link.connected:
            await _order(member)

    # --- who answers ----------------------------------------------------------------------------

    def _meet(self, member: Member, told: Capabilities) -> str:
        """Why the machine that answers is not the host, "" when it is; it is remembered then."""
        hardware_id = told.uuid.lower()
        if reason := self._stranger(member, hardware_id):
            return reason
        member.hardware_id = hardware_id
        self._identify(member, told.connector_info)
        now = Met(hardware_id, member.connector, member.twin)
        if member.written != now:
            member.written = now
            self._nursery.start_soon(self._write, member, now)
        if member.order is not None and not member.ordering.locked():
            self._nursery.start_soon(_order, member)
        return ""

    def _stranger(self, member: Member, hardware_id: str) -> str:
        name, url, known = member.row.name, member.row.url, member.hardware_id
        if known is not None and known.lower() != hardware_id:
            return (
                f"another machine answers at {url}: its hardware id is {hardware_id}, that of host"
                f" {name} is {known}; remove the host and add it again if it was replaced"
            )
        for other in self:
            if other is not member and (other.hardware_id or "").lower() == hardware_id:
                return (
                    f"the machine at {url} is host {other.row.name} already: its hardware id is"
                    f" {hardware_id}; if it is another machine, set `identity.hardware_id` of its"
                    " agent"
                )
        return ""

    def _identify(self, member: Member, connector: Mapping[str, Any]) -> None:
        """Who was known by an identity first, keeps it until it tells another one; over a restart
        of the engine, too."""
        if not connector:
            return  # it could not tell just now
        member.told = connector
        others = [
            (other.row.name, held(other.connector, other.told))
            for other in self
            if other is not member
        ]
        reason = twin(connector, others)
        if not reason:
            member.connector = connector
        if reason != member.twin:
            member.twin = reason
            self._tell(member)

    async def _write(self, member: Member, what: Met) -> None:
        """Remember who answered. A database that is gone is told when the host is met again."""
        is_news, at = what.twin != member.audited, time.time()

        def work(c: Connection) -> int | None:
            met.write(c, member.row, what, at=at)
            return met.audited(c, member.row, what.twin, at=at) if is_news else None

        try:
            row = await self._database.write(work)
        except NoSuchObject:
            pass  # removed meanwhile
        except Error as e:
            member.written = None
            log.warning("host %s: what it told is not written down: %s", member.row.name, e)
        else:
            member.audited = what.twin
            if row is not None:
                self._tell(member, row)

    def _tell(self, member: Member, row: int | None = None) -> None:
        if self._members.get(member.row.id) is member:
            self._changed(member, row)


async def _run(member: Member) -> None:
    try:
        with member.scope:
            await member.link.run()
    finally:
        member.over.set()


async def _order(member: Member) -> None:
    """Have a host drain or resume. What it does not take is told again when it is looked at."""
    async with member.ordering:
        while (order := member.order) is not None:
            params = {"timeout": 0} if order == DRAIN else {}
            try:
                await member.link.call(order, params, timeout=ORDER_TIME)
            except Error as e:
                # NotDrained: no more jobs are started, and some run still.
                if not (isinstance(e, HostError) and e.number == NotDrained.code):
                    log.warning("host %s: %s: %s", member.row.name, order, e)
                    return
            if member.order == order:
                member.order = None
        try:
            await member.link.refresh()
        except Exception as e:  # it tells in the next round
            log.info("host %s was not looked at: %s", member.row.name, e)
