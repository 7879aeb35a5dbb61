"""What a job says and what storage says are the same, whenever the lease is lost.

The lease is lost here as its volume is replaced; with a sanlock daemon that dies: tests/faults.
"""

import os
import threading
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
import trio

from endpoints.domain import create_domain, open_store
from endpoints.tracked import JobFacts, Tracked, TrackedLease
from endpoints.tracked_volume import TrackedVolume
from endpoints.volume import create_volume
from endpoints.volume_update import VolumeUpdate, update_volume
from leases import verbs
from leases.grant import Grant
from leases.sector import Sectors
from leases.store import Store
from protocol.errors import LeaseLost, SanlockLVBError
from protocol.messages import JobMetadata
from protocol.record import Expectation, JobRecord, JobStatus
from storage import volume
from storage.domain import Domain
from storage.volume_request import Request

JOB = str(uuid.UUID(int=1))
IMG = "66666666-7777-4888-8999-aaaaaaaaaaaa"
VOL = "77777777-8888-4999-8aaa-bbbbbbbbbbbb"
RAW = Request(format="raw", capacity=1 << 20, now=1700000000)
FACTS = JobFacts(JOB, time.time, "00000000-0000-4000-8000-000000000001")
NOTICED = 0.2  # seconds; the lease is looked at every 0.01 s


@pytest.fixture(autouse=True)
def quick_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leases.grant._WATCH_SECONDS", 0.01)


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    yield await create_domain(str(tmp_path / "mount"), leases=2)
    for path in tmp_path.glob("mount/*/dom_md/xleases*"):  # pytest would keep it
        path.unlink()


@pytest.fixture
async def store(domain: Domain) -> Store:
    return await open_store(domain)


@pytest.fixture
async def lease(store: Store) -> TrackedLease:
    metadata = JobMetadata(UUID(JOB), 0, JobStatus.PENDING)
    await verbs.create(store, JOB, metadata, now=1, hardware_id="h")
    return TrackedLease(store, JOB, Expectation(JOB, 0), FACTS)


@pytest.fixture
async def tracked_volume(domain: Domain, store: Store) -> TrackedVolume:
    await create_volume(domain, IMG, VOL, RAW)
    return TrackedVolume(store, domain, (IMG, VOL), None)


def lose(grant: Grant) -> None:
    os.rename(grant.sectors.path, grant.sectors.path + ".old")


def bring_back(path: str) -> None:
    os.rename(path + ".old", path)


async def said(store: Store) -> str:
    found = await verbs.status(store, JOB)
    assert found.owners == []
    return str((found.metadata or {})["job_status"])


def volume_said(domain: Domain) -> tuple[str, int]:
    found = volume.read(domain, IMG, VOL).metadata
    return found.legality, found.generation


async def succeed(tracked: Tracked) -> str:
    """A job that succeeds, and loses its lease just afterwards; its path."""
    async with tracked.taken_up() as grant:
        await tracked.succeed(grant)
        lose(grant)
        await trio.sleep(NOTICED)
    return grant.sectors.path


async def succeed_too_late(tracked: Tracked) -> None:
    """A job that loses its lease just before it succeeds, and looks before anybody else does."""
    async with tracked.taken_up() as grant:
        lose(grant)
        await tracked.succeed(grant)


async def test_a_lease_that_is_lost_after_success_has_succeeded(
    store: Store, lease: TrackedLease
) -> None:
    bring_back(await succeed(lease))
    assert await said(store) == "SUCCEEDED"


async def test_a_volume_whose_lease_is_lost_after_success_has_succeeded(
    domain: Domain, tracked_volume: TrackedVolume
) -> None:
    await succeed(tracked_volume)
    assert volume_said(domain) == ("LEGAL", 1)


async def test_a_lease_that_is_lost_before_success_stays_pending(
    store: Store, lease: TrackedLease
) -> None:
    with pytest.raises(LeaseLost) as caught:
        await succeed_too_late(lease)
    assert "may stand" not in str(caught.value)
    bring_back(store.volume.path)
    assert await said(store) == "PENDING"


async def test_a_volume_whose_lease_is_lost_before_success_stays_illegal(
    domain: Domain, tracked_volume: TrackedVolume
) -> None:
    with pytest.raises(LeaseLost) as caught:
        await succeed_too_late(tracked_volume)
    assert "may stand" not in str(caught.value)
    assert volume_said(domain) == ("ILLEGAL", 0)


async def test_a_lease_that_is_lost_while_success_is_written_may_have_succeeded(
    store: Store, lease: TrackedLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is not written again: it may be another's by then."""
    real = Sectors.write

    def last(self: Sectors, offset: int, data: bytes) -> None:
        real(self, offset, data)
        if b"SUCCEEDED" in data:
            os.rename(self.path, self.path + ".old")

    monkeypatch.setattr(Sectors, "write", last)
    with pytest.raises(LeaseLost, match="what was written may stand there"):
        async with lease.taken_up() as grant:
            await lease.succeed(grant)
    bring_back(store.volume.path)
    assert await said(store) == "SUCCEEDED"


async def test_a_volume_whose_lease_is_lost_while_success_is_written_may_have_succeeded(
    domain: Domain, tracked_volume: TrackedVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = TrackedVolume._update

    async def last(self: TrackedVolume, change: object) -> object:
        done = await real(self, change)  # type: ignore[arg-type]
        if done.metadata.legality == "LEGAL":
            os.rename(done.lease, done.lease + ".old")
        return done

    monkeypatch.setattr(TrackedVolume, "_update", last)
    with pytest.raises(LeaseLost, match="what was written may stand there"):
        async with tracked_volume.taken_up() as grant:
            await tracked_volume.succeed(grant)
    assert volume_said(domain) == ("LEGAL", 1)


async def test_a_success_that_is_read_from_storage_that_hangs_is_bounded(
    store: Store, lease: TrackedLease, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    load = Grant.load

    def hanging(self: Grant) -> JobRecord | None:
        answered.wait(20)
        return load(self)

    monkeypatch.setattr("endpoints.tracked.SUCCEED_TIME", 0.1)

    async def hung() -> None:
        async with lease.taken_up() as grant:
            monkeypatch.setattr(Grant, "load", hanging)
            await lease.succeed(grant)

    try:
        with trio.fail_after(10), pytest.raises(SanlockLVBError, match="not written within"):
            await hung()
    finally:
        answered.set()
    assert await said(store) == "FAILED"


async def test_an_update_of_a_volume_that_was_written_is_one_that_was_done(
    domain: Domain, store: Store, tracked_volume: TrackedVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even when the lease is lost then: it was the fence of a job, perhaps."""
    real = volume.update
    path = volume.read(domain, IMG, VOL).lease

    def last(*arguments: object) -> object:
        done = real(*arguments)  # type: ignore[arg-type]
        os.rename(path, path + ".old")
        time.sleep(NOTICED)
        return done

    monkeypatch.setattr(volume, "update", last)
    done = await update_volume(domain, store, IMG, VOL, VolumeUpdate(generation=3))
    assert done.metadata.generation == 3
    assert volume_said(domain) == ("LEGAL", 3)
