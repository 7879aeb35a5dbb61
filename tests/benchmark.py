"""The benchmark: what leasehold costs over the bare work, as the median of interleaved pairs.

Each figure is measured in turn with its floor, in the same run and on the same files, so that a
noisy machine disturbs both alike. Only the ratio decides.
"""

import argparse
import os
import sys
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path

import trio

from endpoints.copy_data import CopyRequest, copy
from endpoints.domain import create_domain, open_store
from endpoints.external import CopyDataExternalEndpoint
from jobs.job import Job, Report
from jobs.registry import Registry
from leases import verbs
from leases.sector import Sectors
from leases.store import Store
from protocol.messages import ExternalEndpoint, Format, JobMetadata, LeaseRef
from protocol.record import Expectation, JobStatus
from tests.benchmark_agent import agent_figures
from tests.benchmark_engine import engine_figures
from tests.benchmark_local import local_figures
from tests.benchmark_managed import managed_figures
from tests.benchmark_sanlock import sanlock_figures
from tests.figure import HARDWARE, Figure, Work, bare, measured

MIB = 1 << 20


class Bench:
    """Everything in one temporary folder on one file system."""

    def __init__(self, folder: Path, store: Store, sd_id: str) -> None:
        self.folder = folder
        self.store = store
        self.sd_id = sd_id
        self.ids = [str(uuid.uuid4()) for _ in range(200)]

    def image(self, name: str, size: int, data: int) -> Path:
        """A raw image of `size` bytes whose first `data` bytes are random."""
        path = self.folder / name
        with path.open("wb") as file:
            for _ in range(0, data, MIB):
                file.write(os.urandom(min(data, MIB)))
            file.truncate(size)
        return path

    async def create(self, job_id: str) -> None:
        metadata = JobMetadata(uuid.UUID(job_id), 0, JobStatus.PENDING)
        await verbs.create(self.store, job_id, metadata, now=0, hardware_id=HARDWARE)

    async def tracked(self, source: Path, target: Path | str, format: Format = "raw") -> None:
        """One whole copy: lease created, taken up, copied, recorded, deleted."""
        job_id = str(uuid.uuid4())
        await self.create(job_id)
        lease = LeaseRef(uuid.UUID(self.sd_id), job_id)
        read = CopyDataExternalEndpoint.read
        request = CopyRequest(
            job_id,
            read(ExternalEndpoint(str(source), format)),
            read(ExternalEndpoint(str(target), "raw", lease=lease, generation=0)),
        )
        await copy(request, self.store, lambda p: None, now=time.time, hardware_id=HARDWARE)
        await verbs.delete(self.store, job_id)

    async def managed(self, source: Path, format: Format, url: str) -> None:
        """A copy to a volume on block storage."""
        await self.tracked(source, url, format)

    def copies(self, name: str, size: int, data: int, limit: float, rounds: int) -> Figure:
        source = self.image(f"{name}.source", size, data)
        target = self.image(f"{name}.target", size, 0)

        async def work(number: int) -> None:
            await self.tracked(source, target)

        async def floor(number: int) -> None:
            await trio.to_thread.run_sync(bare, source, target)

        title = f"tracked copy, {name}"
        return Figure(title, "bare qemu-img and fsync", work, floor, limit, rounds)

    def leases(self) -> list[Figure]:
        async def status(number: int) -> None:
            await verbs.status(self.store, self.ids[number])

        async def create(number: int) -> None:
            await self.create(self.ids[number])

        async def fence(number: int) -> None:
            expected = Expectation(self.ids[number], 0)
            await verbs.fence(self.store, self.ids[number], expected, now=0, hardware_id=HARDWARE)

        async def delete(number: int) -> None:
            await verbs.delete(self.store, self.ids[number])

        rounds = len(self.ids)
        floor = partial(one_write, str(self.image("sector", MIB, MIB)))
        return [
            Figure(f"lease {name}", "one 512-byte write", work, floor, limit, rounds)
            for name, work, limit in (
                ("create", create, 30.0),
                ("status", status, 5.0),
                ("fence", fence, 8.0),
                ("delete", delete, 30.0),
            )
        ]


def lookup(jobs: int) -> Work:
    """Thousand questions for one job by its id, among so many."""
    registry = Registry()
    ids = [str(number) for number in range(jobs)]
    for job_id in ids:
        registry.add(Job(job_id, nothing, description="a job"))

    async def work(number: int) -> None:
        for _ in range(1000):
            registry.list("storage", [ids[number % jobs]])

    return work


async def nothing(report: Report) -> None:
    """What the jobs of the registry do."""


async def one_write(path: str, number: int) -> None:
    """One 512-byte write, O_DIRECT and on disk when it returns."""

    def write() -> None:
        with Sectors.open(path, write=True) as sectors:
            sectors.write(0, bytes(512))

    await trio.to_thread.run_sync(write)


async def main(quick: bool) -> list[bool]:
    with tempfile.TemporaryDirectory(prefix="leasehold-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        domain = await create_domain(str(folder / "domains"), leases=250)
        bench = Bench(folder, await open_store(domain), domain.id)
        held = [await measured(figure) for figure in bench.leases()]
        among = "1000 look-ups among"
        few, many = f"{among} 100 jobs", f"{among} 100,000 jobs"
        held.append(await measured(Figure(many, few, lookup(100_000), lookup(100), 1.2, 200)))
        held.append(await measured(bench.copies("1 MiB", MIB, MIB, 3.5, 10 if quick else 200)))
        if not quick:
            held += await managed_figures(folder, bench.managed, 5)
            large = bench.copies("4 GiB with 2 GiB of data", 4096 * MIB, 2048 * MIB, 1.02, 5)
            held.append(await measured(large))
    return [*held, *await sanlock_figures()]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, no large image")
    quick = parser.parse_args().quick
    held = [*trio.run(main, quick), *agent_figures(quick), *local_figures(quick)]
    held += engine_figures(quick)
    sys.exit(0 if all(held) else 1)
