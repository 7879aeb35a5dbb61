"""Figures of local disks, measured in the guest: run there by tests/benchmark_local.py.

Each is measured in turn with its floor, which writes to a logical volume of the same kind. The last
line is the JSON of whether each ratio held.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from endpoints.copy_data import CopyRequest, copy
from endpoints.domain import open_store
from endpoints.external import CopyDataExternalEndpoint
from endpoints.local import CopyDataLocalDiskEndpoint
from host.config import Config, Folders, LocalDisk
from host.local_disks import Here, PrepareRequest, in_foreground, prepared
from leases import verbs
from leases.store import Store
from processes.lvm import Lvm
from processes.lvm_operation import Operation
from protocol.messages import ExternalEndpoint, JobMetadata, LeaseRef, LocalEndpoint
from protocol.record import JobStatus
from storage.local_disk import Backend
from storage.local_disks import LocalDisks
from tests.figure import HARDWARE, Figure, measured
from tests.guest.inside.conftest import POOL, SPARE, VG, lvm, make_group

SOURCE = "/dev/guest/source"  # a qcow2 image
PACKED = "/dev/guest/packed"  # likewise, of LARGE bytes, compressed
SCRATCH = Path("/srv/scratch")  # a file system on SPARE, for the old way
LINEAR = ["-W", "-m", "8"]
THIN = ["--target-is-zero", *LINEAR]
SIZE = 2 << 30
LARGE = 8 << 30
IMAGE = str(uuid.uuid4())


@dataclass(frozen=True)
class CountingLvm(Lvm):
    """How often LVM was run."""

    counted: tuple[list[str], ...] = ([],)

    async def do(self, operation: Operation) -> bytes:
        self.counted[0].append(operation.verb)
        return await super().do(operation)


class Bench:
    def __init__(self, here: Here, store: Store, sd_id: str, data: int, rounds: int) -> None:
        self.here = here
        self.store = store
        self.sd_id = sd_id
        self.data = data
        self.rounds = rounds
        self.job_id = ""
        self.vol_id = ""

    @property
    def path(self) -> str:
        return self.here.disks.path(self.vol_id)

    async def removed(self) -> None:
        if self.vol_id:
            await trio.to_thread.run_sync(lvm, "lvremove", "-qq", "-f", f"{VG}/{self.vol_id}")
        self.vol_id, self.job_id = str(uuid.uuid4()), str(uuid.uuid4())

    async def made(self, backend: Backend, number: int) -> None:
        """A new local disk, to be filled by a new job."""
        await self.removed()
        await self.here.disks.create(
            self.vol_id, LARGE, backend, image_id=IMAGE, job_id=self.job_id, now=int(time.time())
        )

    async def job(self, backend: Backend, number: int) -> None:
        """The copy to it, with its lease."""
        metadata = JobMetadata(uuid.UUID(self.job_id), 0, JobStatus.PENDING)
        await verbs.create(self.store, self.job_id, metadata, now=0, hardware_id=HARDWARE)
        lease = LeaseRef(uuid.UUID(self.sd_id), self.job_id)
        target = LocalEndpoint(backend, uuid.UUID(self.vol_id), lease, 0)
        request = CopyRequest(
            self.job_id,
            CopyDataExternalEndpoint.read(ExternalEndpoint(PACKED, "qcow2")),
            CopyDataLocalDiskEndpoint(target, self.here.disks, self.job_id),
        )
        await copy(request, self.store, lambda p: None, now=time.time, hardware_id=HARDWARE)
        await verbs.delete(self.store, self.job_id)

    async def bare(self, flags: list[str], number: int) -> None:
        await trio.to_thread.run_sync(convert, self.path, flags)

    async def before(self, number: int) -> None:
        await self.removed()
        await trio.to_thread.run_sync(os.sync)

    async def whole(self, number: int) -> None:
        """All that a start of a VM waits for."""
        await prepared(self.here, self.request, lambda p: None)

    @property
    def request(self) -> PrepareRequest:
        source = {"endpoint_type": "external", "url": SOURCE, "format": "qcow2"}
        return PrepareRequest(self.vol_id, IMAGE, "lvmthin", source)

    async def old_way(self, number: int) -> None:
        await trio.to_thread.run_sync(two_steps, self.vol_id)

    def figures(self) -> list[Figure]:
        linear: tuple[Backend, list[str]] = ("lvm", LINEAR)
        thin: tuple[Backend, list[str]] = ("lvmthin", THIN)
        copies = [
            Figure(
                f"copy to a local disk, {backend}",
                "bare qemu-img and fsync, same LV",
                partial(self.job, backend),
                partial(self.bare, flags),
                1.05,
                2,  # a minute each
                before=partial(self.made, backend),
            )
            for backend, flags in (linear, thin)
        ]
        old = "lvcreate, qemu-img to a file, dd"
        name = "local disk prepared, lvmthin"
        return [
            *copies,
            Figure(name, old, self.whole, self.old_way, 0.6, self.rounds, before=self.before),
        ]

    async def allocation(self) -> bool:
        """Of the thin disk that was prepared last."""
        words = ("--noheadings", "--units", "b", "--nosuffix", "-o", "lv_size,data_percent")
        said = await trio.to_thread.run_sync(lvm, "lvs", *words, f"{VG}/{self.vol_id}")
        size, percent = map(float, said.split())
        ratio = size * percent / 100 / self.data
        return told("allocated by a thin copy, of the data", ratio, 1.05)

    async def reuse(self) -> bool:
        """Of the disk that was prepared last."""
        counting = CountingLvm(VG)
        here = replace(self.here, disks=LocalDisks(counting, POOL))
        made = await prepared(here, self.request, lambda p: None)
        assert made.reused, made
        return told("lvm commands of a reuse", len(counting.counted[0]), 3)


def told(name: str, value: float, limit: float) -> bool:
    held = value <= limit
    print(f"{name:39} {value:9.2f}, at most {limit:g}  {'ok' if held else 'MISSED'}", flush=True)
    return held


def convert(target: str, flags: list[str]) -> None:
    argv = ["qemu-img", "convert", "-p", "-n", "-t", "none", "-T", "none", *flags]
    run(*argv, "-f", "qcow2", "-O", "raw", PACKED, target)
    with open(target, "r+b") as device:
        os.fsync(device.fileno())


def two_steps(vol_id: str) -> None:
    """To a sparse file, and from there to the volume, whose holes are not written."""
    file = SCRATCH / vol_id
    target = f"/dev/{VG}/{vol_id}"
    lvm("lvcreate", "-qq", "-y", "-V", f"{SIZE}b", "-T", f"{VG}/{POOL}", "-n", vol_id)
    run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", SOURCE, str(file))
    run("dd", f"if={file}", f"of={target}", "bs=1M", "conv=sparse,fsync,notrunc", "status=none")
    file.unlink()


def run(*argv: str) -> None:
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def ready() -> None:
    make_group()
    run("mkfs.ext4", "-q", SPARE)
    SCRATCH.mkdir()
    run("mount", SPARE, str(SCRATCH))


async def main(data: int, rounds: int) -> list[bool]:
    ready()
    config = Config(folders=Folders(state="/srv/state"), localdisk=LocalDisk())
    here = await in_foreground(config, HARDWARE)
    domain = await here.leases.domain(None)
    bench = Bench(here, await open_store(domain), domain.id, data, rounds)
    held = [await measured(figure) for figure in bench.figures()]
    return [*held, await bench.allocation(), await bench.reuse()]


if __name__ == "__main__":
    print(json.dumps(trio.run(main, int(sys.argv[1]), int(sys.argv[2]))))
