"""Two copies to one target at once: the second waits, whatever name it knows the target by."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

from endpoints import copy_data, disk
from endpoints.locks import Mode, held
from endpoints.plan import Plan
from endpoints.url import NbdUnixUrl, PathUrl
from jobs.job import Job, Status
from protocol.errors import AcquireLockFailure
from protocol.record import JobStatus
from tests.cli.run import Cli, ended
from tests.faults.copies import Copies
from tests.servers import LOOK, MIB, WAIT, pattern, qcow2_image, qemu_nbd, raw_image, until

SIZE = 8 * MIB
LIMIT = 8 * MIB  # bytes/s: the first copy is still at work when it is looked for
NAMES = ["same name", "symbolic link", "hard link", "new file", "nbd", "nbd by a symbolic link"]

pytestmark = pytest.mark.tools("qemu-nbd", "qemu-img", "nbdcopy")


@dataclass(frozen=True)
class Target:
    """One target with two names, and the file that its content is in."""

    one: str
    other: str
    disk: Path


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "first.raw", SIZE, data=pattern(SIZE, seed=1))


@pytest.fixture
def second(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "second.raw", SIZE, data=pattern(SIZE, seed=2))


@pytest.fixture(params=NAMES)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Target]:
    disk, link = tmp_path / "disk.raw", tmp_path / "link"
    if request.param != "new file":
        raw_image(disk, SIZE)
    if request.param in ("same name", "new file"):
        yield Target(str(disk), str(disk), disk)
    elif request.param == "symbolic link":
        link.symlink_to(disk)
        yield Target(str(disk), str(link), disk)
    elif request.param == "hard link":
        link.hardlink_to(disk)
        yield Target(str(disk), str(link), disk)
    else:
        with qemu_nbd(disk, tmp_path) as server:
            link.symlink_to(server.socket)
            by_link = NbdUnixUrl(str(link), server.export).uri
            yield Target(server.url, server.url if request.param == "nbd" else by_link, disk)


async def test_the_second_copy_of_a_process_waits(
    copies: Copies, first: Path, second: Path, target: Target, tmp_path: Path
) -> None:
    one = copies.job(first, target.one, await copies.lease(), limit=LIMIT)
    other = copies.job(second, target.other, await copies.lease())
    writers = Writers(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writers.watch)
        nursery.start_soon(one.run)
        await until(writers.now)
        with stopped(writers.now()):
            nursery.start_soon(other.run)
            await until(lambda: waiting(other))
            # Its lease is left alone meanwhile: a host that looks sees a job that has not begun.
            await copies.assert_recorded(other, JobStatus.PENDING, generation=0)
            assert one.status is Status.RUNNING
        await one.wait()
        await other.wait()
        nursery.cancel_scope.cancel()
    await copies.assert_done(one)
    await copies.assert_done(other)
    assert target.disk.read_bytes() == second.read_bytes()
    assert writers.most == 1


@pytest.mark.sample(3)
async def test_the_second_copy_of_another_process_waits(
    cli: Cli, first: Path, second: Path, target: Target, tmp_path: Path
) -> None:
    writers = Writers(tmp_path)
    told = tmp_path / "stderr"
    with (
        told.open("wb") as stderr,
        cli.started("copy", first, target.one, "--json", "--limit", LIMIT) as one,
    ):
        await until(writers.now)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writers.watch)
            with (
                stopped(writers.now()),
                cli.started("copy", second, target.other, "--json", stderr=stderr) as other,
            ):
                await until(
                    lambda: f"waiting for another copy that uses {target.other}" in told.read_text()
                )
                resume(writers.now())
                results = [await trio.to_thread.run_sync(ended, it) for it in (one, other)]
            nursery.cancel_scope.cancel()
    assert [result.code for result in results] == [0, 0], results
    assert target.disk.read_bytes() == second.read_bytes()
    assert writers.most == 1


async def test_two_copies_read_one_source_at_once(
    copies: Copies, first: Path, tmp_path: Path
) -> None:
    one = copies.job(first, tmp_path / "one.raw", await copies.lease(), limit=LIMIT)
    other = copies.job(first, tmp_path / "other.raw", await copies.lease())
    writers = Writers(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await until(writers.now)
        with stopped(writers.now()):
            await other.run()
            await copies.assert_done(other)
            assert one.status is Status.RUNNING
    await copies.assert_done(one)
    for target in ("one.raw", "other.raw"):
        assert (tmp_path / target).read_bytes() == first.read_bytes()


async def test_a_copy_from_a_disk_that_is_being_written_waits(
    copies: Copies, first: Path, second: Path, tmp_path: Path
) -> None:
    one = copies.job(first, second, await copies.lease(), limit=LIMIT)
    other = copies.job(second, tmp_path / "other.raw", await copies.lease())
    writers = Writers(tmp_path)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        await until(writers.now)
        with stopped(writers.now()):
            nursery.start_soon(other.run)
            await until(lambda: waiting(other))
    await copies.assert_done(one)
    await copies.assert_done(other)
    assert (tmp_path / "other.raw").read_bytes() == first.read_bytes()


@pytest.mark.parametrize("freed", [True, False])
async def test_a_file_that_a_source_is_read_through_is_waited_for_a_moment(
    copies: Copies, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, freed: bool
) -> None:
    async def looked(request: copy_data.CopyRequest) -> Plan:
        plan = await checked(request)
        seen.set()
        return plan

    seen, checked = trio.Event(), copy_data.checked
    monkeypatch.setattr(copy_data, "checked", looked)
    monkeypatch.setattr(copy_data, "CHAIN_TIME", WAIT if freed else 0.1)
    base = qcow2_image(tmp_path / "base", SIZE, data=pattern(MIB))
    source = qcow2_image(tmp_path / "top", SIZE, backing=base)
    job = copies.job(source, tmp_path / "new.raw", await copies.lease())
    locks = disk.file_locks(disk.files_of(PathUrl(str(base))), Mode.EXCLUSIVE)
    async with trio.open_nursery() as nursery, held(locks):
        nursery.start_soon(job.run)
        await seen.wait()
        await until(lambda: freed or job.status.ended)
    if freed:
        return await copies.assert_done(job)
    await copies.assert_failed(job, AcquireLockFailure)
    assert not (tmp_path / "new.raw").exists()


def waiting(job: Job) -> bool:
    assert not job.status.ended, repr(job.error)
    return job.progress.stage.startswith("waiting for another copy that uses ")


@dataclass
class Writers:
    """The copy tools that work for this test; `most` at one time."""

    folder: Path
    most: int = 0
    _before: set[int] = field(default_factory=set)

    def now(self) -> set[int]:
        pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
        return {pid for pid in pids if self._is_ours(pid)}

    async def watch(self) -> None:
        while True:
            pids = self.now()
            # Seen twice, together: one look is not of one moment.
            self.most = max(self.most, len(pids & self._before))
            self._before = pids
            await trio.sleep(LOOK)

    def _is_ours(self, pid: int) -> bool:
        with suppress(OSError):
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            tool = os.path.basename(argv[0])
            ours = any(os.fsencode(self.folder) in argument for argument in argv)
            return ours and (tool == b"nbdcopy" or (tool == b"qemu-img" and b"convert" in argv))
        return False


@contextmanager
def stopped(pids: set[int]) -> Iterator[None]:
    """Processes that stand still for the body."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        resume(pids)


def resume(pids: set[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
