"""A whole host for tests of its verbs: agent, journal, domains, and a client of them."""

import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from host.agent import agent
from host.config import Config, Endpoints, Folders, Jobs, Managed, Storage
from host.dispatch import Dispatcher
from host.journal import Journal
from host.this_host import ThisHost, this_host
from host.wire.call import Call, Peer, Role
from tests.servers import LOOK, WAIT

HARDWARE_ID = "00000000-0000-4000-8000-000000000001"
SD = "99999999-aaaa-4bbb-8ccc-dddddddddddd"
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
MIB = 1 << 20


@dataclass
class AHost:
    """folder: what clients may name is in `disks` there, and domains in `mnt`."""

    host: ThisHost
    folder: Path
    role: Role = "engine"
    dispatch: Dispatcher = field(init=False)

    def __post_init__(self) -> None:
        self.dispatch = Dispatcher(self.host)

    @property
    def disks(self) -> Path:
        return self.folder / "disks"

    @property
    def mount(self) -> Path:
        return self.folder / "mnt"

    async def call(self, method: str, /, **params: Any) -> Any:
        """The result of a verb; params: also some that nobody knows, which are skipped."""
        params = {**params, "legal_": True}
        return await self.dispatch(Call(method, params, "flow-1", Peer(self.role, "test")))

    async def task(self, method: str, /, **params: Any) -> dict[str, Any]:
        """The status of the task of a verb that returns one."""
        task_id = await self.call(method, **params)
        status: dict[str, Any] = await self.call("Task.getStatus", taskID=task_id)
        assert status["taskState"] == "finished"
        return status

    async def done(self, method: str, /, **params: Any) -> Any:
        """The result of the task of a verb, which succeeds."""
        status = await self.task(method, **params)
        assert (status["taskResult"], status["code"]) == ("success", 0), status
        return status["result"]

    async def domain(self, **options: Any) -> str:
        """A new domain, small."""
        self.mount.mkdir(exist_ok=True)
        wanted = {"storagedomainID": SD, "path": str(self.mount), "leases": 3, **options}
        made = await self.call("StorageDomain.create", **wanted)
        assert made == {"id": wanted["storagedomainID"]}
        return str(made["id"])

    async def volume(self, **options: Any) -> str:
        """A new raw volume of 1 MiB in the domain SD."""
        usual = {"volumeID": VOL, "imageID": IMG, "volFormat": "RAW", "size": str(MIB)}
        made = await self.done("Volume.create", **{**usual, "storagedomainID": SD, **options})
        return str(made["uuid"])

    async def lease(self, job_id: str | None = None) -> str:
        """A new lease in the domain SD, PENDING, with the id of a new job."""
        job_id = job_id or str(uuid.uuid4())
        await self.done("Lease.create", lease=lease(job_id), metadata=metadata(job_id))
        return job_id

    async def ended(self, job_id: str) -> dict[str, Any]:
        """What is known of a job, once it has ended."""
        with trio.fail_after(WAIT):
            while True:
                info: dict[str, Any] = await self.call("Job.info", job_id=job_id)
                if info["status"] in ("done", "failed", "aborted"):
                    return info
                await trio.sleep(LOOK)


def lease(lease_id: str) -> dict[str, str]:
    return {"sd_id": SD, "lease_id": lease_id}


def metadata(job_id: str, /, **other: Any) -> dict[str, Any]:
    usual = {"type": "JOB", "job_id": job_id, "generation": 0, "job_status": "PENDING"}
    return {**usual, **other}


def external(url: Path | str, job_id: str | None = None, **other: Any) -> dict[str, Any]:
    """An endpoint; job_id: of a destination, whose lease has that id."""
    made = {"endpoint_type": "external", "url": str(url), "format": "raw", **other}
    return made if job_id is None else {**made, "lease": lease(job_id), "generation": 0}


def div(**other: Any) -> dict[str, Any]:
    return {"endpoint_type": "div", "sd_id": SD, "img_id": IMG, "vol_id": VOL, **other}


def config(folder: Path, **endpoints: Any) -> Config:
    return Config(
        folders=Folders(state=str(folder / "state")),
        jobs=Jobs(concurrency=2),
        endpoints=Endpoints(**{"directories": (str(folder / "disks"),), **endpoints}),
        storage=Storage(directories=(str(folder / "mnt"),), require_watchdog=False),
        managed=Managed(run=str(folder / "run")),
    )


@asynccontextmanager
async def a_host(folder: Path, wanted: Config | None = None) -> AsyncGenerator[AHost]:
    (folder / "disks").mkdir(exist_ok=True)
    chosen = wanted or config(folder)
    journal = Journal(chosen.journal)
    jobs = chosen.jobs
    async with (
        agent(
            journal, concurrency=jobs.concurrency, total=jobs.rate, autodelete=jobs.autodelete
        ) as made,
        this_host(made, journal, chosen, HARDWARE_ID) as found,
    ):
        yield AHost(found, folder)
