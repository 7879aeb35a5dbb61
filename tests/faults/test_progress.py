"""Progress is real: of real copies, on both roads, over real holes."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path

import pytest
import trio

from endpoints.progress import Meter
from jobs.job import Job
from jobs.progress import Progress
from leases import lvb
from processes import nbd, qemu_img
from protocol.messages import Format
from tests.faults.copies import Copies
from tests.servers import MIB, WAIT, pattern, qcow2_image, qemu_nbd, raw_image, tool, until
from tests.volumes import Storage, storage

__all__ = ["storage"]  # the fixture
VIRTUAL = 256 * MIB
EXTENT = 64 << 10
ODD_SIZES = [0, 1, 1000, 512 * 3 + 1, 65537]

pytestmark = pytest.mark.tools("qemu-nbd", "qemu-img", "nbdcopy")


@dataclass
class Target:
    """Where a copy goes, and the raw file in which its content is then."""

    url: str
    disk: Path


@pytest.fixture(params=["qemu-img", "nbdcopy"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    """A new file, written by qemu-img, or an export, written by nbdcopy."""
    disk = tmp_path / "target.raw"
    if request.param == "qemu-img":
        yield Target(str(disk), disk)
        return
    with qemu_nbd(raw_image(disk, VIRTUAL), tmp_path) as server:
        yield Target(server.url, disk)


@dataclass
class Seen:
    """Everything that a copy reports, and what its job tells of it after each report."""

    reports: list[Progress] = field(default_factory=list)
    infos: list[dict[str, object]] = field(default_factory=list)
    job: Job | None = None

    def __call__(self, progress: Progress) -> None:
        self.reports.append(progress)
        if self.job is not None:
            self.infos.append(self.job.info())

    @property
    def copying(self) -> list[Progress]:
        return [one for one in self.reports if one.stage == "copying"]


def fragmented(path: Path, *, every: int) -> Path:
    """A raw image with 64 KiB of data at the start of each `every` bytes, and holes between."""
    data = pattern(EXTENT)
    with path.open("wb") as file:
        file.truncate(VIRTUAL)
        for start in range(0, VIRTUAL, every):
            file.seek(start)
            file.write(data)
    return path


def data_of(image: Path) -> int:
    """Bytes of data in an image, by qemu-img's own map."""
    extents = json.loads(tool(["qemu-img", "map", "--output=json", str(image)]))
    return sum(one["length"] for one in extents if one["data"] and not one["zero"])


async def test_progress_never_runs_backwards_and_ends_with_the_data(
    copies: Copies, target: Target, tmp_path: Path
) -> None:
    source = fragmented(tmp_path / "source.raw", every=MIB)
    limit = 8 * MIB
    seen = Seen()
    job = copies.job(source, target.url, await copies.lease(), limit=limit, seen=seen)
    seen.job = job
    block = await copies.block(job.id)
    at_the_whole: list[str] = []

    def moved(job: Job) -> None:
        if job.info().get("progress") == 100:
            record = lvb.decode(block.read())
            at_the_whole.append(record.keys["job_status"] if record else "")

    job.watch(moved)
    await job.run()
    await copies.assert_done(job)

    total = data_of(source)
    assert total == VIRTUAL // MIB * EXTENT
    assert {one.total_bytes for one in seen.copying} == {total}
    assert (job.progress.bytes, job.result and job.result["bytes"]) == (total, total)
    for figures in (
        [one.bytes for one in seen.copying],
        [one.percent for one in seen.reports if one.percent is not None],
        [info.get("bytes", 0) for info in seen.infos],
        [info.get("progress", 0) for info in seen.infos],
    ):
        assert figures == sorted(figures, key=lambda figure: float(str(figure)))
        assert len(set(figures)) >= 5, figures

    # 100 is for a result that is on disk.
    assert max(one.percent or 0 for one in seen.reports) < 100
    assert max(int(str(info.get("progress", 0))) for info in seen.infos) < 100
    assert at_the_whole == ["SUCCEEDED"]

    # A machine that is held up is slower than the limit, and never much faster.
    assert job.result
    assert limit / 10 < job.result["rate"] < limit * 2
    rates = [one.rate for one in seen.copying if one.rate is not None]
    assert limit / 10 < rates[-1] < limit * 2
    assert target.disk.read_bytes() == source.read_bytes()


async def test_bytes_move_between_the_steps_of_the_tool(
    copies: Copies, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One percent is 10 extents here, and takes a third of a second; we look more often."""
    for module in (qemu_img, nbd):
        monkeypatch.setattr(module, "TICK", 0.02)
    figures: list[tuple[float | None, int]] = []
    take = Meter.moved

    def spied(meter: Meter, percent: float | None, moved: int) -> None:
        take(meter, percent, moved)
        figures.append((percent, meter.bytes))

    monkeypatch.setattr(Meter, "moved", spied)
    source = fragmented(tmp_path / "source.raw", every=4 * EXTENT)
    job = copies.job(source, target.url, await copies.lease(), limit=2 * MIB)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(job.run)
        await until(lambda: most_between_steps(figures) >= 4 or job.status.ended)
        assert not job.status.ended, repr(job.error)
        job.abort()
    figures_of_bytes = [moved for _, moved in figures]
    assert figures_of_bytes == sorted(figures_of_bytes)


@pytest.mark.tools("tgtd", "tgtadm")
async def test_bytes_that_come_by_iscsi_are_seen_though_the_disk_is_one_step_of_the_tool(
    copies: Copies, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "TICK", 0.02)
    size, seen = 32 * MIB, Seen()
    target = raw_image(tmp_path / "target.raw", size)
    with (
        storage.volume("iscsi", size, old=pattern(size)) as source,
        qemu_nbd(target, tmp_path) as server,
    ):
        lease = await copies.lease()
        job = copies.job(source.url, server.url, lease, limit=size // 2, seen=seen)
        await job.run()
        await copies.assert_done(job)
    assert target.read_bytes() == pattern(size)
    figures = [one.bytes or 0 for one in seen.copying]
    assert figures == sorted(figures)
    assert len(set(figures)) >= 5, figures
    assert {one.total_bytes for one in seen.copying} == {size}


def most_between_steps(figures: list[tuple[float | None, int]]) -> int:
    """The most different figures of bytes that were told while the tool printed nothing."""
    silent = (list(run) for quiet, run in groupby(figures, lambda one: one[0] is None) if quiet)
    return max((len({moved for _, moved in run}) for run in silent), default=0)


@pytest.mark.parametrize("format", ["raw", "qcow2"])
async def test_an_image_without_data_is_copied(
    copies: Copies, target: Target, tmp_path: Path, format: Format
) -> None:
    make = raw_image if format == "raw" else qcow2_image
    source = make(tmp_path / "source", VIRTUAL)
    seen = Seen()
    job = copies.job(source, target.url, await copies.lease(), seen=seen)
    await job.run()
    await copies.assert_done(job)
    assert job.result
    assert (job.result["bytes"], job.result["virtual_size"]) == (0, VIRTUAL)
    assert job.info()["progress"] == 100
    percents = [one.percent for one in seen.reports if one.percent is not None]
    assert all(one <= other for one, other in pairwise(percents))
    assert max(percents) < 100
    assert target.disk.stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize("kind", ["new", "equal", "larger", "qcow2", "nbd"])
async def test_a_source_of_an_odd_size_is_copied_whole(
    copies: Copies, tmp_path: Path, size: int, kind: str
) -> None:
    """QEMU counts in sectors: what it reads beyond the end of the source are zeros. An existing
    file keeps its length, whatever the tool wrote behind it."""
    source, disk = tmp_path / "source.raw", tmp_path / "target"
    source.write_bytes(pattern(size))
    whole = -(-size // 512) * 512
    length = {"equal": size, "larger": MIB, "nbd": whole}
    if kind in length:
        disk.write_bytes(b"\xee" * length[kind])
    with ExitStack() as stack:
        url = stack.enter_context(qemu_nbd(disk, tmp_path)).url if kind == "nbd" else disk
        format = "qcow2" if kind == "qcow2" else "raw"
        with trio.fail_after(WAIT):
            job = await copies.copied(source, url, format=format)
    await copies.assert_done(job)
    assert job.result
    assert (job.result["bytes"], job.result["virtual_size"]) == (whole, whole)
    assert (job.info()["progress"], job.info()["bytes"]) == (100, whole)
    if kind == "qcow2":
        tool(["qemu-img", "compare", "-f", "raw", "-F", "qcow2", str(source), str(disk)])
        return
    content = disk.read_bytes()
    length["new"] = whole
    assert len(content) == length[kind]
    assert content[:whole] == source.read_bytes().ljust(whole, b"\0")[: length[kind]]
