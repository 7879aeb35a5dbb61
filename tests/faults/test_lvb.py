"""A value block that is not the expected one: the job is refused and nothing is written.

Contract: type and job id (2009), status (912), generation (911), no readable record (703), a
lease that is held (651) or gone (936).
"""

import json
import subprocess
import sys
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from endpoints.disk import locks
from endpoints.domain import open_store
from endpoints.locks import Lock, Mode, held
from endpoints.url import parse
from jobs.job import Status
from leases import verbs
from protocol.errors import (
    AcquireLockFailure,
    Error,
    GenerationMismatch,
    JobStatusMismatch,
    NoSuchLease,
    SanlockLVBError,
    UnsupportedOperation,
)
from protocol.record import Expectation, JobStatus
from storage.domain import load
from tests.cli.run import ROOT, Cli, Ended, ended
from tests.faults.copies import HARDWARE_ID, LVB_SIZE, Copies
from tests.servers import LOOK, MIB, WAIT, pattern, raw_image, until

SIZE = MIB
ANOTHER = "99999999-aaaa-4bbb-8ccc-dddddddddddd"

Change = Callable[[bytes], bytes]


def with_keys(**keys: Any) -> Change:
    """The record with other values; None takes the key away."""

    def change(block: bytes) -> bytes:
        record = {**json.loads(block.rstrip(b"\0")), **keys}
        kept = {key: value for key, value in record.items() if value is not None}
        return json.dumps(kept).encode().ljust(LVB_SIZE, b"\0")

    return change


def replaced_by(data: bytes) -> Change:
    return lambda block: data.ljust(LVB_SIZE, b"\0")


WRONG: dict[str, tuple[Change, type[Error]]] = {
    "another type": (with_keys(type="VOLUME"), UnsupportedOperation),
    "no type": (with_keys(type=None), UnsupportedOperation),
    "another job": (with_keys(job_id=ANOTHER), UnsupportedOperation),
    "never written": (replaced_by(b""), UnsupportedOperation),
    "failed": (with_keys(job_status="FAILED"), JobStatusMismatch),
    "succeeded": (with_keys(job_status="SUCCEEDED", generation=1), JobStatusMismatch),
    "unknown status": (with_keys(job_status="pending"), JobStatusMismatch),
    "generation as text": (with_keys(generation="0"), GenerationMismatch),
    "generation out of range": (with_keys(generation=1000), GenerationMismatch),
    "no JSON": (replaced_by(pattern(LVB_SIZE)), SanlockLVBError),
    "cut off JSON": (lambda block: block[:40].ljust(LVB_SIZE, b"\0"), SanlockLVBError),
    "a list": (replaced_by(b"[]"), SanlockLVBError),
}
# What a command that takes up a job by its id cannot know to be wrong.
ANOTHER_GENERATION = (with_keys(generation=1), GenerationMismatch)
IN_A_JOB = {**WRONG, "another generation": ANOTHER_GENERATION}
FENCED = (with_keys(job_status="FENCED", generation=1), JobStatusMismatch)
CODES = {651: 6, 703: 6, 911: 6, 912: 6, 936: 3, 2009: 6}  # the exit code of each error


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "source.raw", SIZE, data=pattern(SIZE, seed=1))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return raw_image(tmp_path / "target.raw", SIZE, data=pattern(SIZE, seed=2))


@pytest.fixture
def untouched(target: Path) -> Callable[[], None]:
    """Asserts that the target is as it was."""
    content, status = target.read_bytes(), target.stat()

    def check() -> None:
        assert target.read_bytes() == content
        assert target.stat().st_mtime_ns == status.st_mtime_ns

    return check


# --- in this process --------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "kind"), IN_A_JOB.values(), ids=IN_A_JOB)
async def test_a_wrong_record_refuses_the_job_and_stays_as_it_is(
    copies: Copies,
    source: Path,
    target: Path,
    *,
    untouched: Callable[[], None],
    change: Change,
    kind: type[Error],
) -> None:
    job_id = await copies.lease()
    block = await copies.block(job_id)
    wrong = change(block.read())
    block.write(wrong)
    job = copies.job(source, target, job_id)
    await job.run()
    assert (job.status, type(job.error)) == (Status.FAILED, kind)
    assert block.read() == wrong
    untouched()
    assert await copies.store.owners(await verbs.info(copies.store, job_id)) == []


async def test_a_lease_that_another_process_holds_refuses_the_job(
    copies: Copies, source: Path, target: Path, untouched: Callable[[], None]
) -> None:
    job_id = await copies.lease()
    block = await copies.block(job_id)
    before = block.read()
    job = copies.job(source, target, job_id)
    with held_by_another_process(copies, job_id):
        await job.run()
        assert (await copies.status(job_id)).owners == [1]
    assert (job.status, type(job.error)) == (Status.FAILED, AcquireLockFailure)
    assert block.read() == before
    untouched()


async def test_a_lease_that_is_deleted_meanwhile_refuses_the_job(
    copies: Copies, source: Path, target: Path, untouched: Callable[[], None]
) -> None:
    job = copies.job(source, target, await copies.lease())
    async with trio.open_nursery() as nursery, held(locks_of(target)):
        nursery.start_soon(job.run)
        await until(lambda: job.progress.stage.startswith("waiting for another copy"))
        await verbs.delete(copies.store, job.id)
        volume = Path(copies.domain.xleases).read_bytes()
    assert (job.status, type(job.error)) == (Status.FAILED, NoSuchLease)
    assert Path(copies.domain.xleases).read_bytes() == volume
    untouched()


@pytest.mark.parametrize(
    "change",
    [FENCED[0], with_keys(job_id=ANOTHER), replaced_by(pattern(LVB_SIZE))],
    ids=["fenced", "another job", "no JSON"],
)
async def test_a_record_that_changes_under_the_copy_is_left_as_it_is(
    copies: Copies, source: Path, target: Path, change: Change
) -> None:
    """Nobody may do that while the lease is held; whoever did, it says more than ours would."""
    job_id = await copies.lease()
    block = await copies.block(job_id)
    changed = change(block.read())
    job = copies.job(source, target, job_id, seen=lambda progress: block.write(changed))
    await job.run()
    assert job.status is Status.FAILED
    assert block.read() == changed


# --- by the command ---------------------------------------------------------------------------


@pytest.mark.parametrize(("change", "kind"), WRONG.values(), ids=WRONG)
async def test_the_command_refuses_to_take_up_a_wrong_record(
    cli: Cli,
    source: Path,
    target: Path,
    tmp_path: Path,
    *,
    untouched: Callable[[], None],
    change: Change,
    kind: type[Error],
) -> None:
    copies = await known_domain(cli, tmp_path)
    job_id = await copies.lease()
    block = await copies.block(job_id)
    wrong = change(block.read())
    block.write(wrong)
    refused = cli(*copy_as(copies, job_id, source, target))
    assert (refused.code, refused.error["code"]) == (CODES[kind.code], kind.code)
    assert block.read() == wrong
    untouched()


async def test_the_command_refuses_to_take_up_a_lease_that_is_held(
    cli: Cli, source: Path, target: Path, tmp_path: Path, untouched: Callable[[], None]
) -> None:
    copies = await known_domain(cli, tmp_path)
    job_id = await copies.lease()
    block = await copies.block(job_id)
    before = block.read()
    with held_by_another_process(copies, job_id):
        refused = cli(*copy_as(copies, job_id, source, target))
    assert (refused.code, refused.error["code"]) == (6, 651)
    assert block.read() == before
    untouched()


@pytest.mark.parametrize(
    ("change", "code", "exit_code"),
    [
        (with_keys(type="VOLUME"), 2009, 6),
        (with_keys(job_status="FAILED"), 912, 6),
        (ANOTHER_GENERATION[0], 911, 6),
        (FENCED[0], 912, 4),
    ],
    ids=["2009", "912", "911", "fenced"],
)
async def test_a_record_that_changes_before_the_job_begins_refuses_it(
    cli: Cli,
    source: Path,
    target: Path,
    tmp_path: Path,
    *,
    untouched: Callable[[], None],
    change: Change,
    code: int,
    exit_code: int,
) -> None:
    copies = await known_domain(cli, tmp_path)
    job_id = str(uuid.uuid4())

    async def meddle() -> None:
        block = await copies.block(job_id)
        block.write(change(block.read()))

    refused = await meddled(cli, copies, copy_as(copies, job_id, source, target), meddle)
    assert (refused.code, refused.error["code"]) == (exit_code, code)
    untouched()


async def test_a_job_that_is_fenced_before_it_begins_ends_as_fenced(
    cli: Cli, source: Path, target: Path, tmp_path: Path, untouched: Callable[[], None]
) -> None:
    copies = await known_domain(cli, tmp_path)
    job_id = str(uuid.uuid4())

    async def fence() -> None:
        await verbs.fence(
            copies.store, job_id, Expectation(job_id, 0), now=1, hardware_id=HARDWARE_ID
        )

    ended_ = await meddled(cli, copies, copy_as(copies, job_id, source, target), fence)
    assert (ended_.code, ended_.error["code"]) == (4, 912)
    metadata = (await copies.status(job_id)).metadata
    assert metadata is not None
    assert (metadata["job_status"], metadata["generation"]) == (JobStatus.FENCED, 1)
    untouched()


async def test_a_lease_that_is_deleted_before_the_job_begins_is_not_found(
    cli: Cli, source: Path, target: Path, tmp_path: Path, untouched: Callable[[], None]
) -> None:
    copies = await known_domain(cli, tmp_path)
    job_id = str(uuid.uuid4())
    command = copy_as(copies, job_id, source, target)
    refused = await meddled(cli, copies, command, lambda: verbs.delete(copies.store, job_id))
    assert (refused.code, refused.error["code"]) == (3, 936)
    untouched()


# --- how --------------------------------------------------------------------------------------


def locks_of(target: Path) -> list[Lock]:
    return locks(parse(str(target)), Mode.EXCLUSIVE)


async def known_domain(cli: Cli, folder: Path) -> Copies:
    """A domain that the command knows, with its store."""
    mount = folder / "known"
    domain = load(str(mount / cli.domain(mount)))
    return Copies(domain, await open_store(domain))


def copy_as(copies: Copies, job_id: str, source: Path, target: Path) -> list[object]:
    return ["copy", source, target, "--domain", copies.domain.id, "--job-id", job_id, "--json"]


async def meddled(
    cli: Cli, copies: Copies, command: list[object], meddle: Callable[[], Awaitable[None]]
) -> Ended:
    """Run a copy, and do something to its lease between its making and its taking.

    The command waits in between: we hold the lock of its target.
    """
    target, job_id = Path(str(command[2])), str(command[6])
    with ExitStack() as stack:
        async with held(locks_of(target)):
            process = stack.enter_context(cli.started(*command))
            await made(copies, job_id)
            await meddle()
        return await trio.to_thread.run_sync(ended, process)


async def made(copies: Copies, job_id: str) -> None:
    """Wait until there is such a lease."""
    with trio.fail_after(WAIT):
        while True:
            with suppress(NoSuchLease):
                await verbs.info(copies.store, job_id)
                return
            await trio.sleep(LOOK)


@contextmanager
def held_by_another_process(copies: Copies, job_id: str) -> Iterator[None]:
    """Hold the lease in a process of its own for the body."""
    domain = copies.domain
    argv = [sys.executable, "-c", HOLD, domain.id, domain.xleases, domain.ids, job_id]
    holder = subprocess.Popen(
        argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.communicate("\n")


HOLD = """
import sys
from leases.embedded import EmbeddedStore
store = EmbeddedStore(*sys.argv[1:4])
with store.volume.open() as sectors:
    lease = store.volume.lookup(sectors, sys.argv[4])
grant = store.take(lease)
print("held", flush=True)
sys.stdin.readline()
store.give(grant)
"""
