"""Every verb, called by a client that shares no code with the agent, through the real process.

Once over the unix socket and once over TLS with certificates on both sides. The shapes and codes
are those that clients of oVirt hosts know; what is on the disk afterwards is looked at as well.
"""

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.wire_client import (
    Certificate,
    Client,
    Refused,
    client,
    tls_socket,
    unix_socket,
)
from tests.local_disks import StandIn
from tests.served import Served, served
from tests.servers import pattern

pytestmark = pytest.mark.tools("qemu-img", "openssl")

DOCS = Path(__file__).parents[2] / "docs"
VERBS = set(re.findall(r"^## (\w+\.\w+)$", (DOCS / "verbs.md").read_text(), re.MULTILINE))
_FOR_MONITORS = re.compile(r"a monitor may call: (.*?)\.\n\n", re.DOTALL)
READING = set(re.findall(r"`(.*?)`", _FOR_MONITORS.findall((DOCS / "wire.md").read_text())[0]))
MIB = 1 << 20
SIZE = 8 * MIB
SLOW = MIB  # bytes per second: a copy of SIZE lasts until it is aborted
SLOT = MIB  # of a lease, with sectors of 512 bytes
BLOCK = 2002 * 512  # bytes from the start of a slot to its value block
NOWHERE = "00000000-0000-4000-8000-00000000dead"


def refused(code: int, ask: Callable[..., Any], *args: Any, **params: Any) -> Refused:
    with pytest.raises(Refused) as raised:
        ask(*args, **params)
    assert raised.value.code == code, raised.value
    return raised.value


def new() -> str:
    return str(uuid.uuid4())


class Flow:
    """One whole use of a host. called: the verbs that were called."""

    def __init__(self, agent: Served, host: Client) -> None:
        self.agent = agent
        self.host = host
        self.called: set[str] = set()
        self.sd_id, self.img_id, self.vol_id, self.other = new(), new(), new(), new()
        self.source = agent.disks / f"{self.sd_id}.source"
        self.source.write_bytes(pattern(SIZE))

    def call(self, method: str, /, **params: Any) -> Any:
        self.called.add(method)
        return self.host.call(method, **params, a_key_that_nobody_knows=[1])

    def task(self, method: str, /, **params: Any) -> dict[str, Any]:
        task_id = self.call(method, **params)
        assert str(uuid.UUID(task_id)) == task_id
        status: dict[str, Any] = self.call("Task.getStatus", taskID=task_id)
        assert (status["taskID"], status["taskState"]) == (task_id, "finished")
        return status

    def done(self, method: str, /, **params: Any) -> Any:
        status = self.task(method, **params)
        assert (status["taskResult"], status["code"]) == ("success", 0), status
        return status["result"]

    def failed(self, code: int, method: str, /, **params: Any) -> None:
        status = self.task(method, **params)
        assert (status["code"], status["error"]["code"]) == (code, code), status
        assert status["taskResult"] == "cleanSuccess"

    # --- what is often needed ---------------------------------------------------------------------

    def lease(self, lease_id: str) -> dict[str, str]:
        return {"sd_id": self.sd_id, "lease_id": lease_id}

    def pending(self, job_id: str, /, **other: Any) -> dict[str, Any]:
        usual = {"type": "JOB", "job_id": job_id, "job_status": "PENDING", "generation": 0}
        return {**usual, **other}

    def new_lease(self) -> str:
        """With the id of a new job."""
        job_id = new()
        self.done("Lease.create", lease=self.lease(job_id), metadata=self.pending(job_id))
        return job_id

    def record(self, job_id: str) -> dict[str, Any]:
        """What the free lease of a job says; and its value block says the same."""
        status = self.call("Lease.status", lease=self.lease(job_id))
        assert status["owners"] == []
        assert type(status["version"]) is int
        place = self.call("Lease.info", lease=self.lease(job_id))
        with Path(place["path"]).open("rb") as file:
            file.seek(place["offset"] + BLOCK)
            block = file.read(512)
        assert json.loads(block.rstrip(b"\0")) == status["metadata"]
        metadata: dict[str, Any] = status["metadata"]
        assert metadata["job_id"] == job_id
        return metadata

    def target(self, job_id: str) -> Path:
        return self.agent.disks / f"{job_id}.target"

    def to_file(self, job_id: str, **other: Any) -> dict[str, Any]:
        """A destination whose lease has the id of the job."""
        if not self.target(job_id).exists():
            self.target(job_id).write_bytes(bytes(SIZE))
        end = {"endpoint_type": "external", "url": str(self.target(job_id)), "format": "raw"}
        return {**end, "lease": self.lease(job_id), "generation": 0, **other}

    def from_file(self, **other: Any) -> dict[str, Any]:
        return {"endpoint_type": "external", "url": str(self.source), "format": "raw", **other}

    def volume(self, vol_id: str | None = None, **other: Any) -> dict[str, Any]:
        """An endpoint that is a volume."""
        ids = {"sd_id": self.sd_id, "img_id": self.img_id, "vol_id": vol_id or self.vol_id}
        return {"endpoint_type": "div", **ids, **other}

    def volume_info(self, vol_id: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = self.call("Volume.getInfo", **self.names(vol_id or self.vol_id))
        return found

    def names(self, vol_id: str) -> dict[str, str]:
        return {"storagedomainID": self.sd_id, "imageID": self.img_id, "volumeID": vol_id}

    def copied(self, job_id: str, source: Any, destination: Any, **other: Any) -> dict[str, Any]:
        """Copy to the end; the last state."""
        asked = {"source": source, "destination": destination, **other}
        assert self.call("SDM.copy_data", job_id=job_id, **asked) is True
        return self.ended(job_id)

    def ended(self, job_id: str) -> dict[str, Any]:
        self.called.add("Host.getJobs")
        state = self.host.ended(job_id)
        needed = {"id", "status", "description", "job_type"}
        assert needed <= set(state), state
        assert (state["id"], state["job_type"]) == (job_id, "storage")
        assert ("error" in state) == (state["status"] == "failed"), state
        return state

    def fails(self, code: int, job_id: str, source: Any, destination: Any) -> None:
        state = self.copied(job_id, source, destination)
        assert (state["status"], state["error"]["code"]) == ("failed", code), state
        assert set(state["error"]) >= {"code", "message"}

    # --- the flow ---------------------------------------------------------------------------------

    def all(self) -> None:
        for step in (
            self.greeting,
            self.domain,
            self.volumes,
            self.images,
            self.leases,
            self.copies_between_files,
            self.copies_of_volumes,
            self.changes_of_a_volume,
            self.jobs,
            self.an_abort,
            self.fencing,
            self.draining,
            self.managed_volumes,
            self.local_disks,
            self.end,
        ):
            step()

    def greeting(self) -> None:
        assert self.call("Host.ping2") is True
        refused(-32601, self.host.call, "Host.noSuchVerb")

    def domain(self) -> None:
        asked = {"storagedomainID": self.sd_id, "path": str(self.agent.mount)}
        missing = str(self.agent.mount / "missing")
        refused(358, self.call, "StorageDomain.create", **{**asked, "path": missing})
        refused(1000, self.call, "StorageDomain.create", **{**asked, "path": "/etc"})
        refused(1000, self.call, "StorageDomain.create", **asked, block_size=513)
        refused(358, self.call, "StorageDomain.getInfo", storagedomainID=self.sd_id)
        made = self.call(
            "StorageDomain.create", **asked, block_size=512, store="embedded", leases=20
        )
        assert made == {"id": self.sd_id}
        refused(365, self.call, "StorageDomain.create", **asked)
        for _ in range(2):
            assert self.call("StorageDomain.activate", **asked, host_id=None) is True
        found = self.call("StorageDomain.getInfo", storagedomainID=self.sd_id)
        fixed = {"uuid": self.sd_id, "class": "Data", "version": 5, "pool": [], "block_size": 512}
        assert found | fixed == found
        assert {"name", "type", "role", "alignment", "lver", "spm_id", "master_ver"} <= set(found)
        space = self.call("StorageDomain.getStats", storagedomainID=self.sd_id)
        assert space["disktotal"] >= space["diskfree"] > 0
        can = self.call("Host.getCapabilities")
        assert str(uuid.UUID(can["uuid"])) == can["uuid"]
        assert {"name", "version", "connector_info", "drivers", "limits"} <= set(can)
        assert "embedded" in can["stores"]
        assert set(can["domains"][self.sd_id]) == {"host_id", "state"}
        assert can["endpoints"]["directories"] == [str(self.agent.disks)]
        assert "path" in can["endpoints"]["schemes"]

    def volumes(self) -> None:
        asked = {"size": str(SIZE), "volFormat": "RAW", "diskType": "DATA", "desc": "a disk"}
        refused(254, self.call, "Volume.getInfo", **self.names(self.vol_id))
        made = self.done("Volume.create", **self.names(self.vol_id), **asked)
        assert made["uuid"] == self.vol_id
        # What older clients send: numbers for words.
        old = {"size": SIZE, "volFormat": 4, "preallocate": 2, "diskType": 2, "desc": ""}
        task_id = self.call("Volume.create", **self.names(self.other), **old, storagepoolID=new())
        status = self.call("Host.getAllTasksStatuses")[task_id]
        assert (status["taskState"], status["taskResult"]) == ("finished", "success"), status
        told = self.call("Task.getInfo", taskID=task_id)
        assert told == {"id": task_id, "verb": "Volume.create"}
        assert self.call("Task.clear", taskID=task_id) is True
        for verb in ("Task.getStatus", "Task.getInfo", "Task.clear"):
            refused(401, self.call, verb, taskID=task_id)
        assert task_id not in self.call("Host.getAllTasksStatuses")
        refused(201, self.call, "Volume.getInfo", **self.names(NOWHERE))
        refused(1000, self.call, "Volume.create", **self.names(new()), volFormat="VHD")
        assert self.task("Volume.create", **self.names(self.vol_id), **asked)["code"] != 0
        found = self.volume_info()
        fixed = {"uuid": self.vol_id, "image": self.img_id, "domain": self.sd_id, "generation": 0}
        words = {"format": "RAW", "legality": "LEGAL", "voltype": "LEAF", "description": "a disk"}
        assert found | fixed | words == found
        assert int(found["capacity"]) == SIZE
        assert found["lease"]["owners"] == []
        assert self.volume_info(self.other)["format"] == "COW"

    def images(self) -> None:
        image = {"storagedomainID": self.sd_id, "imageID": new()}
        names = {**image, "volumeID": new()}
        self.done("Volume.create", **names, size=str(SIZE), volFormat="RAW", diskType="DATA")
        refused(2009, self.call, "Image.delete", **image, postZero=True)
        refused(1000, self.call, "Image.delete", storagedomainID=self.sd_id, imageID="../..")
        for _ in range(2):  # the second time it is gone
            assert self.done("Image.delete", **image, storagepoolID=new()) is None
        refused(254, self.call, "Volume.getInfo", **names)

    def leases(self) -> None:
        job_id = new()
        refused(936, self.call, "Lease.info", lease=self.lease(job_id))
        refused(936, self.call, "Lease.status", lease=self.lease(job_id))
        refused(358, self.call, "Lease.info", lease={"sd_id": NOWHERE, "lease_id": job_id})
        wanted = {"lease": self.lease(job_id), "metadata": self.pending(job_id)}
        for _ in range(2):  # the second time it is there, as it was asked for
            self.done("Lease.create", **wanted)
        other = self.pending(job_id, generation=1)
        assert self.task("Lease.create", lease=self.lease(job_id), metadata=other)["code"] != 0
        place = self.call("Lease.info", lease=self.lease(job_id))
        assert set(place) == {"sd_id", "lease_id", "path", "offset"}
        assert (place["sd_id"], place["lease_id"]) == (self.sd_id, job_id)
        assert place["offset"] % SLOT == 0
        assert place["offset"] >= 3 * SLOT
        record = self.record(job_id)
        assert record | self.pending(job_id) == record
        assert record["created"] == record["modified"]
        assert type(record["created"]) is int
        hardware_id = self.call("Host.getCapabilities")["uuid"]
        assert record["host_hardware_id"] == hardware_id
        self.done("Lease.create", lease=self.lease("without-metadata"))
        assert self.call("Lease.status", lease=self.lease("without-metadata"))["metadata"] == {}
        self.done("Lease.delete", lease=self.lease("without-metadata"))

    def copies_between_files(self) -> None:
        job_id = self.new_lease()
        self.host.events.clear()
        state = self.copied(job_id, self.from_file(), self.to_file(job_id, legal=True))
        assert state["status"] == "done", state
        assert state["progress"] == 100
        assert self.target(job_id).read_bytes() == self.source.read_bytes()
        assert self.record(job_id)["job_status"] == "SUCCEEDED"
        assert self.record(job_id)["generation"] == 1
        event = self.host.event(lambda event: event["params"]["status"] == "done")
        assert event["method"] == f"|jobs|status|{job_id}"
        told = {k: v for k, v in event["params"].items() if k != "notify_time"}
        assert told == self.call("Host.get_jobs", job_type="storage", job_ids=[job_id])[job_id]
        # Again: this host knows the job; and once it has forgotten it, its lease does not.
        asked = {"source": self.from_file(), "destination": self.to_file(job_id)}
        refused(69, self.call, "SDM.copy_data", job_id=job_id, **asked)
        assert self.call("Job.delete", job_id=job_id) is True
        self.fails(912, job_id, **asked)
        self.fails(2009, new(), **asked)
        fresh = self.new_lease()
        self.fails(911, fresh, self.from_file(), self.to_file(fresh, generation=7))
        assert self.record(fresh)["job_status"] == "PENDING"  # a failed check leaves it untouched
        small = self.new_lease()
        self.target(small).write_bytes(b"small")
        state = self.copied(small, self.from_file(), self.to_file(small))
        assert (state["status"], self.record(small)["job_status"]) == ("failed", "FAILED")
        assert self.record(small)["generation"] == 0
        self.no_job_for_a_bad_call()

    def no_job_for_a_bad_call(self) -> None:
        job_id = new()
        good = self.to_file(job_id)
        without = {k: v for k, v in good.items() if k != "lease"}
        bad_ends = [
            (self.from_file(), without),
            (self.from_file(), self.to_file(job_id, generation=1000)),
            (self.from_file(), self.to_file(job_id, url="/etc/passwd")),
            (self.from_file(format="vhd"), good),
            ({**self.from_file(), "endpoint_type": "other"}, good),
            ({}, good),
        ]
        for source, destination in bad_ends:
            ends = {"source": source, "destination": destination}
            refused(1000, self.call, "SDM.copy_data", job_id=job_id, **ends)
        ends = {"source": self.from_file(), "destination": good}
        refused(1000, self.call, "SDM.copy_data", job_id="x", **ends)
        refused(2009, self.call, "SDM.copy_data", job_id=job_id, **ends, copy_bitmaps=True)
        ends["source"] = {**self.volume(), "sd_id": NOWHERE}
        refused(358, self.call, "SDM.copy_data", job_id=job_id, **ends)
        ends["source"] = self.volume(NOWHERE)
        refused(201, self.call, "SDM.copy_data", job_id=job_id, **ends)
        assert self.call("Host.getJobs", job_ids=[job_id]) == {}

    def copies_of_volumes(self) -> None:
        state = self.copied(new(), self.from_file(), self.volume(generation=0))
        assert state["status"] == "done", state
        found = self.volume_info()
        assert (found["generation"], found["legality"]) == (1, "LEGAL")
        assert Path(found["path"]).read_bytes() == self.source.read_bytes()
        self.fails(911, new(), self.from_file(), self.volume(generation=0))
        state = self.copied(new(), self.volume(), self.volume(self.other, generation=0))
        assert state["status"] == "done", state
        assert self.volume_info(self.other)["generation"] == 1
        job_id = self.new_lease()
        state = self.copied(job_id, self.volume(self.other), self.to_file(job_id))
        assert state["status"] == "done", state
        assert self.target(job_id).read_bytes() == self.source.read_bytes()

    def changes_of_a_volume(self) -> None:
        def update(code: int = 0, **wanted: Any) -> None:
            job_id = new()
            info = {"generation": 1, **self.volume(), **wanted.pop("info", {})}
            ends = {"job_id": job_id, "vol_info": info, "vol_attr": wanted}
            assert self.call("SDM.update_volume", **ends) is True
            state = self.ended(job_id)
            assert state.get("error", {"code": 0})["code"] == code, state

        ends = {"job_id": new(), "vol_info": self.volume()}
        both = {"generation": 1, "legality": "LEGAL"}
        refused(1000, self.call, "SDM.update_volume", **ends, vol_attr=both)
        update(911, legality="ILLEGAL", info={"generation": 5})
        update(legality="ILLEGAL")
        assert self.volume_info()["legality"] == "ILLEGAL"
        generation = self.volume_info()["generation"]
        update(generation=999, info={"generation": generation})
        assert self.volume_info()["generation"] == 999
        # The next one is 0: generations go round.
        update(legality="LEGAL", description="new words", info={"generation": 999})
        found = self.volume_info()
        assert (found["generation"], found["legality"]) == (0, "LEGAL")
        assert found["description"] == "new words"

    def jobs(self) -> None:
        everything = self.call("Host.getJobs")
        assert self.call("Host.getJobs", job_type="storage") == everything
        assert self.call("Host.getJobs", job_type="v2v") == {}
        some = next(iter(everything))
        assert self.call("Host.getJobs", job_ids=[some, NOWHERE]) == {some: everything[some]}
        assert self.call("Host.getJobs", job_type="v2v", job_ids=[some]) == {}
        facts = self.call("Job.info", job_id=some)
        assert facts | everything[some] == facts
        listed: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = self.call("Job.list", offset=offset, limit=2)
            listed += page["jobs"]
            offset = page["next"]
        assert {job["id"] for job in listed} == set(everything)
        failed = self.call("Job.list", statuses=["failed"])["jobs"]
        assert {job["id"] for job in failed} == {
            key for key, state in everything.items() if state["status"] == "failed"
        }
        for verb in ("Job.info", "Job.abort", "Job.delete"):
            refused(66, self.call, verb, job_id=NOWHERE)
        refused(84, self.call, "Job.abort", job_id=some)

    def an_abort(self) -> None:
        job_id = self.new_lease()
        ends = {"source": self.from_file(), "destination": self.to_file(job_id)}
        assert self.call("SDM.copy_data", job_id=job_id, **ends, limit=SLOW) is True
        self.host.reached(job_id, "running")
        self.while_it_runs(job_id)
        assert self.call("Job.abort", job_id=job_id) is True
        assert self.ended(job_id)["status"] == "aborted"
        assert (self.record(job_id)["job_status"], self.record(job_id)["generation"]) == (
            "FAILED",
            0,
        )
        seen = [e["params"]["status"] for e in self.events_of(job_id, "aborted")]
        order = ["pending", "running", "aborting", "aborted"]
        assert [status for status in order if status in seen] == order[order.index(seen[0]) :]

    def events_of(self, job_id: str, last: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while not found or found[-1]["params"]["status"] != last:
            found.append(self.host.event(lambda e: bool(e["method"] == f"|jobs|status|{job_id}")))
        return found

    def while_it_runs(self, job_id: str) -> None:
        """Nobody takes its lease away."""

        def owned() -> bool:
            return bool(self.call("Lease.status", lease=self.lease(job_id))["owners"])

        while not owned():
            assert self.call("Job.info", job_id=job_id)["status"] == "running"
        status = self.call("Lease.status", lease=self.lease(job_id))
        assert len(status["owners"]) == 1
        assert "metadata" not in status
        refused(68, self.call, "Job.delete", job_id=job_id)
        expected = {"lease": self.lease(job_id), "metadata": self.pending(job_id)}
        refused(651, self.call, "Lease.fence", **expected)
        self.failed(651, "Lease.delete", lease=self.lease(job_id))
        kept = self.done("Lease.rebuild_leases", sd_id=self.sd_id)
        assert job_id in json.dumps(kept)
        assert owned()

    def fencing(self) -> None:
        job_id = self.new_lease()

        def fence(**other: Any) -> Any:
            metadata = self.pending(job_id, **other)
            return self.call("Lease.fence", lease=self.lease(job_id), metadata=metadata)

        refused(2009, fence, job_id=NOWHERE)
        refused(912, fence, job_status="FAILED", generation=4)
        refused(911, fence, generation=4)
        assert self.record(job_id)["job_status"] == "PENDING"
        assert fence() is True
        record = self.record(job_id)
        assert (record["job_status"], record["generation"]) == ("FENCED", 1)
        refused(912, fence)
        self.fails(912, job_id, self.from_file(), self.to_file(job_id))  # a fence wins
        assert self.target(job_id).read_bytes() == bytes(SIZE)
        missing = {"lease": self.lease("missing"), "metadata": self.pending(job_id)}
        refused(936, self.call, "Lease.fence", **missing)

    def draining(self) -> None:
        running, waiting = self.new_lease(), self.new_lease()
        ends = {"source": self.from_file(), "destination": self.to_file(running), "limit": SLOW}
        self.call("SDM.copy_data", job_id=running, **ends)
        self.host.reached(running, "running")
        with pytest.raises(Refused, match="1"):  # one runs
            self.call("Host.drain", timeout=0.1)
        ends["destination"] = self.to_file(waiting)
        self.call("SDM.copy_data", job_id=waiting, **ends)
        self.call("Job.abort", job_id=running)
        assert self.call("Host.drain", timeout=60) is True
        assert self.ended(running)["status"] == "aborted"
        assert self.call("Host.getJobs", job_ids=[waiting])[waiting]["status"] == "pending"
        assert self.call("Job.abort", job_id=waiting) is True
        assert self.call("Host.getJobs", job_ids=[waiting])[waiting]["status"] == "aborted"
        assert self.record(waiting)["job_status"] == "PENDING"
        assert self.call("Host.resume") is True
        job_id = self.new_lease()
        state = self.copied(job_id, self.from_file(), self.to_file(job_id))
        assert state["status"] == "done", state

    def managed_volumes(self) -> None:
        connection = {"driver_volume_type": "no-such-driver", "data": {}}
        wanted = {"vol_id": self.vol_id, "connection_info": connection, "sd_id": self.sd_id}
        refused(2009, self.call, "ManagedVolume.attach_volume", **wanted)
        for ids in ([], [self.vol_id], None):
            assert self.call("ManagedVolume.volumes_info", vol_ids=ids) == []
        assert self.call("ManagedVolume.detach_volume", vol_id=self.vol_id) is True

    def local_disks(self) -> None:
        """On a volume group that is a stand-in: tests/local_disks.py."""
        vol_id = new()
        wanted = {"vol_id": vol_id, "img_id": new(), "backend": "lvm", "source": self.from_file()}
        made = self.call("LocalDisk.prepare", **wanted)
        assert (made["vol_id"], made["state"]) == (vol_id, "filling")
        assert self.ended(made["job_id"])["status"] == "done"
        made = self.call("LocalDisk.prepare", **wanted)
        assert (made["state"], made["reused"], made["changed"]) == ("ready", True, False)
        with Path(made["path"]).open("rb") as device:
            assert device.read(SIZE) == self.source.read_bytes()
        [disk] = self.call("LocalDisk.list")
        assert (disk["vol_id"], disk["state"], disk["started"]) == (vol_id, "ready", False)
        assert self.call("LocalDisk.gc") == []  # it was prepared just now
        assert self.call("LocalDisk.remove", vol_id=vol_id) == [vol_id]
        assert self.call("LocalDisk.list") == []

    def end(self) -> None:
        job_id = self.new_lease()
        for _ in range(2):  # the second time there is none
            self.done("Lease.delete", lease=self.lease(job_id), force=False)
        refused(936, self.call, "Lease.info", lease=self.lease(job_id))
        for _ in range(2):
            asked = {"storagedomainID": self.sd_id}
            assert self.call("StorageDomain.deactivate", **asked) is True


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of a site, made as an operator makes them."""
    folder = tmp_path_factory.mktemp("pki")
    command = [str(Path(sys.executable).with_name("leasehold")), "pki"]
    for arguments in (
        ["init", folder],
        ["issue", "host1", folder, "--host", "--address", "127.0.0.1"],
        ["issue", "engine1", folder, "--role", "engine"],
        ["issue", "monitor1", folder, "--role", "monitor"],
    ):
        subprocess.run([*command, *map(str, arguments)], check=True, capture_output=True)
    return folder


def certificate(pki: Path, name: str) -> Certificate:
    return Certificate(*(str(pki / name / file) for file in ("ca.pem", "cert.pem", "key.pem")))


@pytest.fixture(scope="module")
def agent(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    host = certificate(pki, "host1")
    group = StandIn.made(tmp_path_factory.mktemp("group"))
    with served(
        tmp_path_factory.mktemp("agent"),
        localdisk__helper=",".join(group.helper),
        localdisk__dev=group.folder / "dev",
        listen__tls="127.0.0.1:0",
        certificates__ca=host.ca,
        certificates__certificate=host.certificate,
        certificates__key=host.key,
    ) as made:
        yield made
        made.stop()


@pytest.fixture(params=["unix socket", "TLS"])
def host(request: pytest.FixtureRequest, agent: Served, pki: Path) -> Iterator[Client]:
    if request.param == "TLS":
        connection = tls_socket("127.0.0.1", agent.port, certificate(pki, "engine1"))
    else:
        connection = unix_socket(agent.socket)
    with client(connection) as made:
        yield made


def test_every_verb_answers_a_client_that_knows_only_the_description(
    agent: Served, host: Client
) -> None:
    flow = Flow(agent, host)
    flow.all()
    assert flow.called == VERBS


def test_a_monitor_may_call_what_reads_and_nothing_else(agent: Served, pki: Path) -> None:
    monitor = tls_socket("127.0.0.1", agent.port, certificate(pki, "monitor1"))
    with client(monitor) as made:
        for verb in sorted(VERBS):
            if verb in READING:
                with suppress(Refused):  # it was asked without parameters
                    made.call(verb)
            else:
                assert refused(4030, made.call, verb).kind == "Forbidden"
