"""All hosts of the engine: who is there, and calls of them by their id."""

import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec
import trio

from engine.answers import HostState
from engine.capabilities import Capabilities, Membership, read_connector
from engine.db import hosts
from engine.db.database import Database
from engine.host_files import HostFiles
from engine.host_tasks import task_result
from engine.host_view import HostView
from engine.links import WAIT, Times
from engine.members import Member, Members
from protocol.client import CALL_TIME, NoAnswer
from protocol.errors import Error, NoHostFits
from protocol.managed import Connector
from protocol.messages import LeaseRef
from protocol.record import JOB_TYPE, Expectation

log = logging.getLogger(__name__)

TASK_TIME = 300.0  # seconds for a verb that does its work before it answers
EMBEDDED_HOST = 1  # what the embedded store calls the one host that uses it
JOB_EVENT = "|jobs|status|"


@dataclass(frozen=True)
class HostChanged:
    """A host has another state, or another reason for it. row: the id of the row in the audit log
    that tells of it; None: there is none."""

    view: HostView
    row: int | None = None


@dataclass(frozen=True)
class JobEvent:
    """A host tells that a job has another status. info: as in Host.getJobs."""

    host: str
    job_id: str
    info: Mapping[str, Any]


FleetEvent = HostChanged | JobEvent


class Fleet:
    """Implements engine.hosts.Hosts. Hosts are named by their id in the database.

    Calls of a host that is not known raise NoSuchObject (4400). What it does by itself runs in
    `nursery`. Not thread safe: it belongs to the trio thread.
    """

    def __init__(
        self, database: Database, nursery: trio.Nursery, times: Times, files: HostFiles
    ) -> None:
        self._database = database
        self._watchers: list[Callable[[FleetEvent], None]] = []
        self._members = Members(
            database, nursery, times, files, changed=self._changed, heard=self._heard
        )

    # --- who is there ---------------------------------------------------------------------------

    def views(self) -> list[HostView]:
        """All hosts, by name."""
        views = [member.view for member in self._members]
        return sorted(views, key=lambda view: (view.name, view.id))

    def view(self, host: str) -> HostView:
        """Raises NoSuchObject."""
        return self._members[host].view

    def up(self) -> list[HostView]:
        """Those that are connected and not in maintenance."""
        return [view for view in self.views() if view.up and not view.maintenance]

    def watch(self, watcher: Callable[[FleetEvent], None]) -> None:
        """Have events told from now on; `watcher` neither blocks nor raises."""
        self._watchers.append(watcher)

    async def begin(self, wait: float) -> None:
        """Take up the hosts of the database, and wait `wait` seconds at most for those that do not
        answer. Raises DatabaseGone."""
        for row in await self._database.read(hosts.all_hosts):
            self._members.take(row)
        with trio.move_on_after(wait):
            for member in self._members:
                await member.link.tried.wait()

    async def add(self, host: str) -> None:
        """Take up a host whose row was just written, or has another address or name now.

        Raises NoSuchObject, DatabaseGone.
        """
        row = await self._database.read(lambda c: hosts.get(c, host))
        with trio.CancelScope(shield=True):  # else it might be given up and not taken
            await self._members.give_up(host)
            self._members.take(row)

    async def remove(self, host: str) -> None:
        """Ask this host nothing any more. Calls of it that are under way raise ConnectionLost."""
        await self._members.give_up(host)

    async def maintain(self, host: str, *, on: bool) -> None:
        """Begin or end the maintenance of a host: it is told to drain, or to resume; now, or as
        soon as it can be. The row is the caller's to write. Raises NoSuchObject.
        """
        await self._members.maintain(self._members[host], on=on)

    # --- calls ----------------------------------------------------------------------------------

    async def call(
        self,
        host: str,
        verb: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = CALL_TIME,
        wait: float = WAIT,
        flow_id: str = "",
    ) -> Any:
        """The result of a verb.

        timeout: seconds for all of it. wait: of them, for a connection that is just being made.
        Raises HostError: the host's own answer; CannotConnect: nothing was asked; NoAnswer and
        ConnectionLost: whether it was done is not known.
        """
        link = self._members[host].link
        return await link.call(verb, params, timeout=timeout, wait=wait, flow_id=flow_id)

    async def task(
        self,
        host: str,
        verb: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float = TASK_TIME,
        wait: float = WAIT,
        flow_id: str = "",
    ) -> Any:
        """The result of a verb that returns a task (Lease.create, Volume.create ...), which has
        ended by then. Raises as `call`; HostError with what the task tells; NoAnswer: how it ended
        is not known any more.
        """
        link = self._members[host].link
        task = await link.call(verb, params, timeout=timeout, wait=wait, flow_id=flow_id)
        try:
            told = await link.call("Task.getStatus", {"taskID": task}, flow_id=flow_id)
        except Error as e:
            # The agent that could say was started again, or is gone.
            raise NoAnswer(link.known.name, 0, f"{verb} has ended, but not how: {e}") from e
        return task_result(told, link.known.name, verb)

    async def connector(self, host: str) -> Connector:
        """What a volume is connected for. Raises as `call`; BadOutput (4118): the host does not
        tell it; NoHostFits (4404): storage would take it for another host."""
        member = self._members[host]
        link = member.link
        told = link.capabilities
        if told is None or not told.connector_info:
            told = await link.refresh()
        if member.twin:
            raise NoHostFits(f"{member.row.name}: it gets no managed volumes: {member.twin}")
        return read_connector(told, link.known.name)

    async def refresh(self, host: str) -> Capabilities:
        """Ask a host now what it can do. Raises as `call`; BadOutput (4118): nonsense."""
        return await self._members[host].link.refresh()

    # --- engine.hosts.Hosts ---------------------------------------------------------------------

    def state(self, host: str) -> HostState:
        """A host in maintenance is up as long as it is connected."""
        if host not in self._members:
            return HostState.REMOVED
        return HostState.UP if self._members[host].up else HostState.NOT_UP

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        """Those that have joined the domain first, and of them those in maintenance last."""
        sd_id = str(lease.sd_id)
        found = []
        for member in self._members:
            told = member.link.capabilities
            if member.up and told and sd_id in told.domains:
                rank = not told.sees(sd_id), member.maintenance, member.row.name
                found.append((*rank, member.row.id))
        return [host for *_, host in sorted(found)]

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        """None: nobody, or more than one, says that it has joined with this host id."""
        found = [
            host
            for host in self.candidates(lease)
            if (told := self._membership(host, str(lease.sd_id))) is not None
            if told.host_id == host_id or (told.alone and host_id == EMBEDDED_HOST)
        ]
        return found[0] if len(found) == 1 else None

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        params = {"job_ids": list(job_ids)}
        told: Mapping[str, Any] = await self.call(host, "Host.getJobs", params, wait=0.0)
        return told

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        params = {"lease": msgspec.to_builtins(lease)}
        told: Mapping[str, Any] = await self.call(host, "Lease.status", params, wait=0.0)
        return told

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        metadata = {
            "type": JOB_TYPE,
            "job_id": expected.job_id,
            "generation": expected.generation,
            "job_status": expected.status.value,
        }
        params = {"lease": msgspec.to_builtins(lease), "metadata": metadata}
        await self.call(host, "Lease.fence", params, wait=0.0)

    # --- inside ---------------------------------------------------------------------------------

    def _membership(self, host: str, sd_id: str) -> Membership | None:
        told = self._members[host].link.capabilities
        return told.domains.get(sd_id) if told else None

    def _changed(self, member: Member, row: int | None) -> None:
        self._tell(HostChanged(member.view, row))

    def _heard(self, host: str, method: str, info: Mapping[str, Any]) -> None:
        if method.startswith(JOB_EVENT):
            self._tell(JobEvent(host, method.removeprefix(JOB_EVENT), info))

    def _tell(self, event: FleetEvent) -> None:
        for watcher in self._watchers:
            watcher(event)


@asynccontextmanager
async def fleet(
    database: Database, *, times: Times | None = None, files: HostFiles | None = None
) -> AsyncGenerator[Fleet]:
    """The hosts of the database for the body, each of which was tried once, or did not answer soon.

    files: for TLS.
    Raises DatabaseGone.
    """
    times = times or Times()
    error: Exception | None = None
    async with trio.open_nursery() as nursery:
        made = Fleet(database, nursery, times, files or HostFiles())
        try:
            await made.begin(times.first)
            yield made
        except Exception as e:  # raised below, without the group that a nursery makes
            error = e
        nursery.cancel_scope.cancel()
    if error is not None:
        raise error
