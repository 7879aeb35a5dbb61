"""Hosts, leases and storage in memory, in which real commands, pollers and a real database copy.

A call may be made to fail: before it is done, or after it, so that only its answer is lost. What is
true in the end is counted on everything that there is.
"""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import trio

from engine.answers import HostState
from engine.capabilities import Capabilities, Limits, LocalDisks, Membership
from engine.commands.commands import Commands, commands
from engine.commands.copy_limits import CopyLimits
from engine.commands.copy_times import CopyTimes
from engine.commands.following import Following
from engine.commands.leftovers import keep_tidy
from engine.commands.services import CommandTimes, Services
from engine.db import disks, domains, hosts, volumes
from engine.db.database import Database
from engine.db.disks import Disk
from engine.db.domains import Domain
from engine.db.hosts import Host
from engine.db.secrets import Key
from engine.db.volumes import Volume
from engine.fleet import Fleet, HostChanged
from engine.heard import Bounds
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.lease_poller import ExternalLeasePoller
from engine.managed_storage import ManagedStorage, Stats
from engine.volume_poller import VolumePoller
from protocol.client import HostError, NoAnswer
from protocol.errors import (
    AcquireLockFailure,
    AdapterFailed,
    CannotConnect,
    Error,
    ImageDoesNotExistInSD,
    JobExists,
    JobNotActive,
    ManagedVolumeAlreadyAttached,
    ManagedVolumeInUse,
    NoSuchJob,
    NoSuchLease,
    NoSuchManagedVolume,
    NoSuchObject,
)
from protocol.managed import GIB, ConnectionInfo, Connector
from protocol.messages import LeaseRef
from protocol.record import Expectation, JobRecord, JobStatus

DATA = "11111111-1111-4111-8111-111111111111"  # a data domain
ARRAY = "22222222-2222-4222-8222-222222222222"  # managed ones
OTHER = "33333333-3333-4333-8333-333333333333"
DATA2 = "44444444-4444-4444-8444-444444444444"
HOSTS = ("a", "b")
LOST = "the answer is lost"
UNASKED = "not connected"


class Halt:
    """Where the engine is when it is killed: at a call, before it is done or after it."""

    def __init__(self, call: str = "", *, after: bool = False) -> None:
        self.reached = trio.Event()
        self._call, self._after = call, after

    async def pass_(self, call: str, *, after: bool = False) -> None:
        await trio.lowlevel.checkpoint()
        if (call, after) == (self._call, self._after) and not self.reached.is_set():
            self.reached.set()
            await trio.sleep_forever()


class Array:
    """A managed domain. broken: nothing can be done to it. hosts: let in, by volume."""

    is_ours = True

    def __init__(self) -> None:
        self.hosts: dict[str, set[str]] = {}
        self.sizes: dict[str, int] = {}
        self.broken = False
        self.did: list[tuple[str, str]] = []
        self.fails: dict[str, list[Exception]] = {}
        self.halt = Halt()

    def _do(self, what: str, volume: str) -> None:
        self.did.append((what, volume))
        if self.fails.get(what):
            raise self.fails[what].pop(0)
        if self.broken:
            raise AdapterFailed("array", what, "no power")

    def _there(self, volume: str) -> None:
        if volume not in self.hosts:
            raise NoSuchManagedVolume(volume)

    async def storage_stats(self) -> Stats:
        return Stats(1000, 900)

    async def create_volume(self, volume: str, gib: int) -> bool:
        self._do("create", volume)
        await self.halt.pass_("create")
        made = volume not in self.hosts
        self.hosts.setdefault(volume, set())
        self.sizes[volume] = gib
        await self.halt.pass_("create", after=True)
        return made

    async def delete_volume(self, volume: str) -> None:
        self._do("delete", volume)
        self._there(volume)
        if self.hosts[volume]:
            raise ManagedVolumeInUse(volume, "it is connected")
        await self.halt.pass_("delete")
        del self.hosts[volume]
        await self.halt.pass_("delete", after=True)

    async def connect_volume(self, volume: str, connector: Connector) -> ConnectionInfo:
        self._do("connect", volume)
        self._there(volume)
        await self.halt.pass_("connect")
        self.hosts[volume].add(connector.host)
        await self.halt.pass_("connect", after=True)
        return ConnectionInfo("file", {"url": f"nbd+unix:///{volume}"})

    async def disconnect_volume(self, volume: str, connector: Connector | None = None) -> None:
        self._do("disconnect", volume)
        self._there(volume)
        await self.halt.pass_("disconnect")
        if connector is None:
            self.hosts[volume].clear()
        else:
            self.hosts[volume].discard(connector.host)
        await self.halt.pass_("disconnect", after=True)


@dataclass
class FakeHost:
    """attached: urls by volume. jobs: as Host.getJobs tells of them. uses: volumes that something
    there holds open, so that they are not detached. local: image ids by local disk; None: it cannot
    have any. fogged: it could not tell whether."""

    up: bool = True
    limit: int = 2
    attached: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    uses: set[str] = field(default_factory=set)
    twin: str = ""
    local: dict[str, str] | None = None
    fogged: bool = False

    @property
    def backends(self) -> tuple[str, ...] | None:
        if self.fogged:
            return None
        return () if self.local is None else ("lvm",)


@dataclass
class Lease:
    record: dict[str, Any]
    owner: str | None = None


@dataclass
class World:
    """ends: what becomes of a job as soon as it is begun: "done", "failed", or "running" until
    `end` is called. fails: by verb, what happens at each call: an exception in the place of it,
    LOST, UNASKED, or None."""

    ends: str = "done"
    hosts: dict[str, FakeHost] = field(default_factory=lambda: {h: FakeHost() for h in HOSTS})
    arrays: dict[str, Array] = field(default_factory=lambda: {ARRAY: Array(), OTHER: Array()})
    leases: dict[str, Lease] = field(default_factory=dict)
    images: dict[tuple[str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    fails: dict[str, list[Any]] = field(default_factory=dict)
    before: dict[str, Callable[[], None]] = field(default_factory=dict)
    told: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    halt: Halt = field(default_factory=Halt)
    watchers: list[Callable[[Any], None]] = field(default_factory=list)
    looks: int = 0  # at all hosts, by those that need one

    def of(self, verb: str) -> list[tuple[str, dict[str, Any]]]:
        """(host, parameters) of each call."""
        return [(host, params) for host, asked, params in self.asked if asked == verb]

    def order(self) -> list[str]:
        return [verb for _, verb, _ in self.asked]

    # --- jobs -----------------------------------------------------------------------------------

    def end(self, job: str, how: str) -> None:
        """done, failed or aborted, as its worker writes it down and its host tells."""
        host = next(one for one in self.hosts.values() if job in one.jobs)
        host.jobs[job]["status"] = how
        if how != "done":
            host.jobs[job]["error"] = {"code": 4113, "message": "Input/output error"}
        if lease := self.leases.get(job):
            lease.owner = None
            if lease.record["job_status"] == "PENDING":
                status = JobStatus.SUCCEEDED if how == "done" else JobStatus.FAILED
                lease.record = _ended(lease.record, status)
        elif how == "done":
            volume = self._volume(host.jobs[job]["target"])
            volume |= {"generation": 1, "legality": "LEGAL"}

    def kill(self, host: str) -> None:
        """Power off: what it held is free after a while, and it is silent."""
        self.hosts[host].up = False
        for lease in self.leases.values():
            lease.owner = None if lease.owner == host else lease.owner

    def revive(self, host: str) -> None:
        """Its agent is started again, and knows what it had attached."""
        self.hosts[host].up = True
        for watcher in self.watchers:
            watcher(HostChanged(WorldFleet(self).view(host)))

    def stop_at(self, call: str, *, after: bool) -> trio.Event:
        """The engine comes no further than to this call."""
        self.halt = Halt(call, after=after)
        for array in self.arrays.values():
            array.halt = self.halt
        return self.halt.reached

    def _volume(self, target: Mapping[str, Any]) -> dict[str, Any]:
        return self.images[target["sd_id"], target["img_id"]][target["vol_id"]]

    # --- verbs ----------------------------------------------------------------------------------

    async def call(self, host: str, verb: str, params: Mapping[str, Any]) -> Any:
        if host not in self.hosts:
            raise NoSuchObject("host", host)
        await self.halt.pass_(verb)
        if before := self.before.pop(verb, None):
            before()
        plan = self.fails[verb].pop(0) if self.fails.get(verb) else None
        if not self.hosts[host].up or plan is UNASKED:
            raise CannotConnect(host, "no answer")
        if verb != "Host.getJobs":
            self.asked.append((host, verb, dict(params)))
        if isinstance(plan, Error):
            raise HostError(plan.to_rpc())
        try:
            answer = getattr(self, "_" + verb.replace(".", "_"))(host, params)
        except Error as e:
            raise HostError(e.to_rpc()) from None
        await self.halt.pass_(verb, after=True)
        if plan is LOST:
            raise NoAnswer(host, 0, verb)
        return answer

    def _ManagedVolume_attach_volume(self, host: str, params: Mapping[str, Any]) -> Any:
        volume, here = params["vol_id"], self.hosts[host]
        if volume in here.attached:
            raise ManagedVolumeAlreadyAttached(volume)
        here.attached[volume] = params["connection_info"]["data"]["url"]
        return {"vol_id": volume, "path": here.attached[volume], "managed_path": None}

    def _ManagedVolume_detach_volume(self, host: str, params: Mapping[str, Any]) -> Any:
        volume, here = params["vol_id"], self.hosts[host]
        if volume in here.uses:
            raise ManagedVolumeInUse(volume, "a copy to it has not ended")
        here.attached.pop(volume, None)
        return True

    def _ManagedVolume_volumes_info(self, host: str, params: Mapping[str, Any]) -> Any:
        attached = self.hosts[host].attached
        return [{"vol_id": id, "path": url, "managed_path": None} for id, url in attached.items()]

    def _LocalDisk_list(self, host: str, params: Mapping[str, Any]) -> Any:
        local = self.hosts[host].local
        assert local is not None
        return [{"vol_id": vol, "img_id": image, "size": GIB} for vol, image in local.items()]

    def _Lease_create(self, host: str, params: Mapping[str, Any]) -> Any:
        job, now = params["metadata"]["job_id"], {"created": 0, "modified": 0}
        self.leases.setdefault(job, Lease({**params["metadata"], **now, "host_hardware_id": host}))

    def _Lease_delete(self, host: str, params: Mapping[str, Any]) -> Any:
        lease = self.leases.get(params["lease"]["lease_id"])
        if lease is not None and lease.owner:
            raise AcquireLockFailure("lease", "it is held")
        self.leases.pop(params["lease"]["lease_id"], None)

    def _Lease_status(self, host: str, params: Mapping[str, Any]) -> Any:
        lease = self._lease(params["lease"]["lease_id"])
        if lease.owner:
            return {"owners": [HOSTS.index(lease.owner) + 1], "version": 1}
        return {"owners": [], "version": 1, "metadata": lease.record}

    def _Lease_fence(self, host: str, params: Mapping[str, Any]) -> Any:
        lease, wanted = self._lease(params["lease"]["lease_id"]), params["metadata"]
        if lease.owner:
            raise AcquireLockFailure("lease", "it is held")
        JobRecord(lease.record).check(Expectation(wanted["job_id"], wanted["generation"]))
        lease.record = _ended(lease.record, JobStatus.FENCED)

    def _lease(self, lease_id: str) -> Lease:
        if lease_id not in self.leases:
            raise NoSuchLease(lease_id)
        return self.leases[lease_id]

    def _SDM_copy_data(self, host: str, params: Mapping[str, Any]) -> Any:
        job, target = params["job_id"], params["destination"]
        if job in self.hosts[host].jobs:
            raise JobExists(job)
        self.hosts[host].jobs[job] = {
            **{"id": job, "status": "running", "progress": 25.0, "bytes": 1 << 20},
            "target": target,
        }
        if target["endpoint_type"] == "external":
            lease = self._lease(job)
            if lease.record["job_status"] != "PENDING":
                return self.end(job, "failed")
            lease.owner = host
        if self.ends != "running":
            self.end(job, self.ends)
        return True

    def _SDM_update_volume(self, host: str, params: Mapping[str, Any]) -> Any:
        volume = self._volume(params["vol_info"])
        assert volume["generation"] == params["vol_info"]["generation"]
        volume["generation"] = params["vol_attr"]["generation"]
        self.hosts[host].jobs[params["job_id"]] = {"id": params["job_id"], "status": "done"}
        return True

    def _Host_getJobs(self, host: str, params: Mapping[str, Any]) -> Any:
        jobs = self.hosts[host].jobs
        return {id: dict(jobs[id]) for id in params["job_ids"] if id in jobs}

    def _Job_abort(self, host: str, params: Mapping[str, Any]) -> Any:
        job = self.hosts[host].jobs.get(params["job_id"])
        if job is None:
            raise NoSuchJob(params["job_id"])
        if job["status"] != "running":
            raise JobNotActive(job["id"], job["status"])
        self.end(params["job_id"], "aborted")
        return True

    def _Volume_create(self, host: str, params: Mapping[str, Any]) -> Any:
        image = self.images.setdefault((params["storagedomainID"], params["imageID"]), {})
        image[params["volumeID"]] = {
            "generation": 0,
            "legality": "LEGAL" if params["legal"] else "ILLEGAL",
        }

    def _Volume_getInfo(self, host: str, params: Mapping[str, Any]) -> Any:
        image = self.images[params["storagedomainID"], params["imageID"]]
        return {**image[params["volumeID"]], "lease": {"owners": []}}

    def _Image_delete(self, host: str, params: Mapping[str, Any]) -> Any:
        key = params["storagedomainID"], params["imageID"]
        if key not in self.images:
            raise ImageDoesNotExistInSD(key[1], key[0])
        del self.images[key]


class WorldFleet:
    """Of the Fleet what commands and pollers use."""

    def __init__(self, world: World) -> None:
        self.world = world

    def views(self) -> list[HostView]:
        self.world.looks += 1
        return [self.view(host) for host in self.world.hosts]

    def view(self, host: str) -> HostView:
        up = self.world.hosts[host].up
        state = LinkState.UP if up else LinkState.NON_RESPONSIVE
        known = {id: Membership(HOSTS.index(host) + 1, "joined") for id in (DATA, DATA2)}
        told = Capabilities(
            host,
            name=host,
            stores=("sanlock",),
            domains=known,
            connector_info={"host": host},
            drivers=("file",),
            limits=Limits(self.world.hosts[host].limit),
            local_disk=LocalDisks(self.world.hosts[host].backends),
        )
        reason = "" if up else "it is silent"
        twin = self.world.hosts[host].twin
        return HostView(host, host, state, reason, up, False, told, twin)

    def up(self) -> list[HostView]:
        return [view for view in self.views() if view.up]

    def watch(self, watcher: Callable[[Any], None]) -> None:
        self.world.watchers.append(watcher)

    def state(self, host: str) -> HostState:
        if host not in self.world.hosts:
            return HostState.REMOVED
        return HostState.UP if self.world.hosts[host].up else HostState.NOT_UP

    def candidates(self, lease: LeaseRef) -> Sequence[str]:
        return [view.id for view in self.up()]

    async def owner(self, lease: LeaseRef, host_id: int) -> str | None:
        return HOSTS[host_id - 1]

    async def connector(self, host: str) -> Connector:
        return Connector(host)

    async def call(
        self, host: str, verb: str, params: Mapping[str, Any] | None = None, **times: float
    ) -> Any:
        return await self.world.call(host, verb, params or {})

    task = call

    async def jobs(self, host: str, job_ids: Sequence[str]) -> Mapping[str, Any]:
        told: Mapping[str, Any] = await self.call(host, "Host.getJobs", {"job_ids": job_ids})
        return told

    async def lease_status(self, host: str, lease: LeaseRef) -> Mapping[str, Any]:
        params = {"lease": {"sd_id": str(lease.sd_id), "lease_id": lease.lease_id}}
        told: Mapping[str, Any] = await self.call(host, "Lease.status", params)
        return told

    async def fence(self, host: str, lease: LeaseRef, expected: Expectation) -> None:
        params = {
            "lease": {"sd_id": str(lease.sd_id), "lease_id": lease.lease_id},
            "metadata": {"job_id": expected.job_id, "generation": expected.generation},
        }
        await self.call(host, "Lease.fence", params)


def _ended(record: dict[str, Any], status: JobStatus) -> dict[str, Any]:
    return dict(JobRecord(record).ended(status, now=1, hardware_id="x").keys)


# --- the engine over it -------------------------------------------------------------------------

QUICK = CommandTimes(tries=3, pauses=(0.01,), database=0.01)
COPIES = CopyTimes(
    attach=5, silent=0.01, calls=3, pause=0.01, room=20.0, look=0.01, met=0.1, leftovers=60.0
)
BOUNDS = Bounds(calls=2, looks=3, damaged_looks=2, fences=2, held=0.05, alarm=60, nobody=0.2)


@dataclass
class Estate:
    """An engine that runs over a world."""

    world: World
    database: Database
    services: Services
    commands: Commands

    async def disk(self, domain: str, id: str, size: int = GIB, format: Any = "raw") -> str:
        """One that is there already."""
        volume, image = f"{id[:-1]}f", None if domain in self.world.arrays else id
        if image is None:
            self.world.arrays[domain].hosts[volume] = set()
        else:
            self.world.images[domain, image] = {volume: {"generation": 3, "legality": "LEGAL"}}
        kind: Any = "managed" if image is None else "image"

        def add(c: Any) -> None:
            disk = Disk(
                *(id, f"disk-{id[:4]}", "", size, domain, kind, format, True, volume, image),
                *("ok", None, 0.0),
            )
            disks.add(c, disk)
            volumes.add(c, Volume(volume, id, domain, image, None, size, format, "ok", None))

        await self.database.write(add)
        return id

    async def ended(self, command: str) -> Any:
        """Its row, when it runs no more."""
        with trio.fail_after(30):
            return await self.commands.wait(command)

    async def read(self, work: Callable[[Any], Any]) -> Any:
        return await self.database.read(work)


@asynccontextmanager
async def opened(folder: Path) -> AsyncGenerator[Database]:
    """A database that knows the hosts and domains of a world; again: as it was left."""
    key_file = folder / "key"
    if not key_file.exists():
        key_file.write_bytes(b"k" * 32)
    key = Key(key_file.read_bytes())
    async with Database.opened(f"sqlite:///{folder / 'engine.db'}", key=key) as database:

        def add(c: Any) -> None:
            if hosts.all_hosts(c):
                return
            for host in HOSTS:
                hosts.add(c, Host(host, host, f"unix:/{host}"))
            for id, kind in ((DATA, "data"), (DATA2, "data"), (ARRAY, ""), (OTHER, "")):
                options = {} if kind else {"adapter": "file"}
                domains.add(c, Domain(id, id, kind or "managed_block_storage", options=options))  # type: ignore[arg-type]

        await database.write(add)
        yield database


@asynccontextmanager
async def estate(
    folder: Path, world: World, limits: CopyLimits | None = None
) -> AsyncGenerator[Estate]:
    """An engine; it may be left, and another one opened with the same folder and world."""
    async with opened(folder) as database, trio.open_nursery() as nursery:
        fleet = cast(Fleet, WorldFleet(world))
        following = Following()
        poller = ExternalLeasePoller(
            fleet, nursery, bounds=BOUNDS, tell=following.tell, pauses=(0.01,), call_time=5
        )

        async def storage(domain: str) -> ManagedStorage:
            return cast(ManagedStorage, world.arrays[domain])

        def tell(kind: str, object: str, data: Any = None, *, id: int | None = None) -> None:
            world.told.append((kind, object, data or {}))

        services = Services(
            database,
            fleet,
            storage,
            poller,
            VolumePoller(poller, fleet),
            tell,
            times=QUICK,
            copies=COPIES,
            limits=limits or CopyLimits(),
            following=following,
        )
        nursery.start_soon(keep_tidy, services)
        async with commands(services) as running:
            yield Estate(world, database, services, running)
        nursery.cancel_scope.cancel()
