"""Host.*: this host, its queue and its jobs."""

import os
from collections.abc import Collection
from contextlib import suppress
from typing import Annotated, Any

import msgspec
import trio

from endpoints.domain import lockspace_of
from host import domains, local, looking
from host.local_disk_here import in_agent
from host.local_disk_rights import may_ask, none_here
from host.this_host import ThisHost
from host.verbs.task import status_object
from host.verbs.verb import Nothing, Params, Verb
from leases import daemon, ids
from leases.daemon import Membership
from leases.delta import InvalidDelta
from leases.membership import asked
from protocol.errors import Error, NotDrained, SanlockUnavailable, ToolMissing

LVM_TIME = 10.0  # seconds
STORAGE_TIME = 5.0
SOCKET = "sanlock.sock"  # in the run directory of the daemon; most hosts of one store have none


class Drain(Params, frozen=True):
    """timeout: seconds; null: as long as it takes."""

    timeout: Annotated[float, msgspec.Meta(ge=0)] | None = None


class GetJobs(Params, frozen=True):
    """Both filters are applied; an empty one lets everything pass."""

    job_type: str | None = None
    job_ids: tuple[str, ...] | None = ()


async def ping2(host: ThisHost, params: Nothing, flow_id: str) -> None:
    """Answer."""


async def get_capabilities(host: ThisHost, params: Nothing, flow_id: str) -> dict[str, Any]:
    """Tell who this host is and what it can do."""
    members = await _memberships()
    rules = host.config.endpoints
    return {
        "uuid": host.hardware_id,
        "name": host.name,
        "version": host.version,
        "stores": ["embedded", *(["sanlock"] if members is not None else [])],
        "domains": await _domains(host, members or ()),
        "connector_info": await host.managed.connector.info(),
        "drivers": await host.managed.connector.drivers(),
        "endpoints": {
            "schemes": list(rules.schemes),
            "directories": list(rules.directories),
            "devices": list(rules.devices),
        },
        "limits": {
            "concurrency": host.agent.queue.concurrency,
            "rate": host.agent.queue.total,
            "autodelete": host.config.jobs.autodelete,
        },
        "local_disk": await _local_disk(host),
        "drained": host.agent.queue.paused,
    }


async def get_jobs(host: ThisHost, params: GetJobs, flow_id: str) -> dict[str, Any]:
    """Tell the state of jobs, by id. Ids that are not known are left out."""
    ids = [one.lower() for one in params.job_ids or ()]
    found = host.agent.registry.list(params.job_type, ids)
    return {job.id: job.info() for job in found}


async def drain(host: ThisHost, params: Drain, flow_id: str) -> None:
    """Start no new job, and wait for those that run. Neither the end of the time nor a restart of
    the agent changes anything of it: only Host.resume does."""
    queue = host.agent.queue
    await host.agent.drain()
    with trio.move_on_after(float("inf") if params.timeout is None else params.timeout):
        await queue.drained()
        return
    raise NotDrained(queue.running, params.timeout or 0.0)


async def resume(host: ThisHost, params: Nothing, flow_id: str) -> None:
    """Start jobs again after a drain."""
    await host.agent.resume()


async def get_all_tasks_statuses(host: ThisHost, params: Nothing, flow_id: str) -> dict[str, Any]:
    """Tell how the last tasks ended, by id."""
    return {task.id: status_object(task) for task in host.tasks.all()}


async def _memberships() -> list[Membership] | None:
    """The lockspaces of the sanlock daemon of this host; None: there is none that we may ask."""
    if await local.run(os.path.exists, os.path.join(daemon.run_dir(), SOCKET)):
        with suppress(SanlockUnavailable):
            return await asked(daemon.memberships)
    return None


async def _local_disk(host: ThisHost) -> dict[str, Any]:
    """Which kinds of local disks can be made here; null where LVM does not answer in time."""
    backends: list[str] | None = None
    with trio.move_on_after(LVM_TIME), suppress(Error, OSError):
        backends = await _backends(host)
    return {"backends": backends, "volume_group": host.config.localdisk.volume_group}


async def _backends(host: ThisHost) -> list[str] | None:
    wanted = host.config.localdisk
    if await none_here(wanted):
        return []
    if not may_ask(wanted):
        return None
    group, pool = in_agent(host).disks.lvm, wanted.thin_pool
    try:
        if await group.group() is None:
            return []
    except ToolMissing:
        return []
    return ["lvm"] if await group.pool(pool) is None else ["lvm", "lvmthin"]


async def _domains(host: ThisHost, members: Collection[Membership]) -> dict[str, dict[str, Any]]:
    """host_id and state of this host in each domain, by id."""
    told: dict[str, dict[str, Any]] = {}

    async def tell(sd_id: str) -> None:
        state = _membership(sd_id, members) or await _without(host, sd_id)
        told[sd_id] = state

    async with trio.open_nursery() as nursery:
        for sd_id in host.domains.folders:
            nursery.start_soon(tell, sd_id)
    return told


def _membership(sd_id: str, members: Collection[Membership]) -> dict[str, Any] | None:
    """Of this host in the lockspace of a domain; None: the daemon knows nothing of it."""
    found = next((one for one in members if one.sd_id == sd_id), None)
    if found is None:
        return None
    state = "joined" if found.joined else "joining or leaving"
    return {"host_id": found.host_id, "state": state}


async def _without(host: ThisHost, sd_id: str) -> dict[str, Any]:
    """Of a domain whose lockspace this host is not in: is there one, as its storage says? There may
    be one while that cannot be read."""
    folder = host.domains.folders[sd_id]
    state = "not joined"
    with trio.move_on_after(STORAGE_TIME), suppress(Error, OSError):
        # One look at a time: engines ask for ever, and one that hangs tells of all.
        if await looking.look(f"ids of {folder}", _is_alone, sd_id, folder, at_once=1):
            state = "alone"
    return {"host_id": None, "state": state}


def _is_alone(sd_id: str, folder: str) -> bool:
    """Has the domain no lockspace? Blocks. Raises as host.domains.read; InvalidDomain, OSError."""
    space = lockspace_of(domains.read(sd_id, folder))
    try:
        return ids.lockspace(space.ids, space.geometry) is None
    except InvalidDelta:  # damaged, so there was one
        return False


JOBS = "a map of job id to the state of the job, as the event `|jobs|status|ID` tells it"

VERBS = (
    Verb("Host.ping2", Nothing, ping2, "true", reads=True, differs=""),
    Verb(
        "Host.getCapabilities",
        Nothing,
        get_capabilities,
        "uuid (hardware id), name, version, stores, domains (host_id and state of this host in"
        " each, by id; state: joined, joining or leaving, not joined, or alone: of the embedded"
        " store), connector_info, drivers, endpoints (schemes, directories, devices), limits"
        " (concurrency, rate in bytes/s, autodelete in seconds), local_disk (backends: lvm,"
        " lvmthin, those that can be used; null: not known just now; volume_group), drained (true:"
        " it starts no job until Host.resume)",
        reads=True,
        differs="of vdsm's fields only `uuid` and `connector_info`; the others are ours",
    ),
    Verb("Host.getJobs", GetJobs, get_jobs, JOBS, reads=True, differs=""),
    Verb("Host.get_jobs", GetJobs, get_jobs, JOBS, reads=True),
    Verb("Host.drain", Drain, drain, "true", errors=(NotDrained,)),
    Verb("Host.resume", Nothing, resume, "true"),
    Verb(
        "Host.getAllTasksStatuses",
        Nothing,
        get_all_tasks_statuses,
        "a map of task id to what Task.getStatus returns",
        reads=True,
        differs="",
    ),
)
