"""Faults while the content is compared."""

from pathlib import Path

import pytest
import trio

from jobs.job import Status
from jobs.progress import Progress
from protocol.errors import VerifyFailed
from protocol.record import JobStatus
from tests.faults.copies import Copies
from tests.servers import MIB, WAIT, pattern, qemu_nbd, raw_image

SIZE = 16 * MIB


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE))


async def test_an_abort_while_verifying_ends_aborted(copies: Copies, source: Path) -> None:
    target = raw_image(source.with_name("target.raw"), SIZE)
    compared: list[float] = []

    def seen(progress: Progress) -> None:
        if progress.stage == "verifying":
            compared.append(progress.stage_percent or 0.0)
            if job.status is Status.RUNNING:
                job.abort()

    job = copies.job(source, target, await copies.lease(), verify=True, limit=8 * MIB, seen=seen)
    with trio.fail_after(WAIT):
        await job.run()
    assert job.status is Status.ABORTED
    assert max(compared) < 90, "it was not stopped"
    await copies.assert_recorded(job, JobStatus.FAILED, generation=0)


async def test_a_byte_flipped_on_a_server_after_the_copy_fails_the_job(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    disk = raw_image(tmp_path / "disk.raw", 2 * SIZE)
    flipped = False

    def seen(progress: Progress) -> None:
        nonlocal flipped
        if progress.stage == "flushed" and not flipped:
            flipped = True
            with disk.open("r+b") as file:
                file.seek(SIZE - 1)
                byte = file.read(1)[0]
                file.seek(SIZE - 1)
                file.write(bytes([byte ^ 1]))

    with qemu_nbd(disk, tmp_path) as server:
        job = copies.job(source, server.url, await copies.lease(), verify=True, seen=seen)
        await job.run()
    assert flipped
    await copies.assert_failed(job, VerifyFailed)


async def test_what_lies_behind_the_copy_in_a_longer_target_is_not_compared(
    copies: Copies, source: Path, tmp_path: Path
) -> None:
    disk = raw_image(tmp_path / "disk.raw", 2 * SIZE, data=pattern(2 * SIZE, seed=2))
    with qemu_nbd(disk, tmp_path) as server:
        job = await copies.copied(source, server.url, verify=True)
    await copies.assert_done(job)
    assert disk.read_bytes()[:SIZE] == source.read_bytes()
    assert disk.read_bytes()[SIZE:] == pattern(2 * SIZE, seed=2)[SIZE:]


async def test_each_stage_has_its_own_progress_and_the_job_never_runs_backwards(
    copies: Copies, source: Path
) -> None:
    seen: list[tuple[str, float, int]] = []
    times: dict[str, float] = {}

    def look(progress: Progress) -> None:
        times.setdefault(progress.stage, trio.current_time())
        if progress.stage_percent is not None:
            info = job.info()
            seen.append((progress.stage, progress.stage_percent, info["progress"]))

    job = copies.job(
        source,
        source.with_name("new.raw"),
        await copies.lease(),
        verify=True,
        limit=SIZE,
        seen=look,
    )
    await job.run()
    ended = trio.current_time()
    await copies.assert_done(job)
    stages = {stage: [own for name, own, _ in seen if name == stage] for stage, *_ in seen}
    assert min(stages["verifying"]) < 50 < max(stages["verifying"])
    whole = [percent for *_, percent in seen]
    assert whole == sorted(whole)
    assert max(percent for stage, _, percent in seen if stage == "copying") <= 50
    for stage, own, percent in seen:
        assert abs(percent - (own / 2 + 50 * (stage == "verifying"))) <= 1, stage
    # A lower bound only: what is compared is held back as well, to a second for all of it.
    assert ended - times["verifying"] > 0.4
