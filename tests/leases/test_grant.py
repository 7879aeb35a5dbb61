"""A grant: writing the value block under it, and how its loss is seen."""

import errno
import os
import threading
from collections.abc import Iterator

import pytest
import trio

from leases import grant as grants
from leases import leader, verbs
from leases.embedded import EmbeddedStore
from leases.geometry import DEFAULT
from leases.grant import Grant
from leases.hold import hold
from leases.lease import Lease
from leases.sector import Sectors
from protocol.errors import LeaseLost, SanlockLVBError
from protocol.record import JobRecord


async def create(store: EmbeddedStore) -> Lease:
    return await verbs.create(store, "a", None, now=1, hardware_id="h")


async def test_a_write_error_is_an_error_of_the_value_block(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sectors, offset: int, data: bytes) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with hold(store, await create(store)) as grant:
        with monkeypatch.context() as patch:
            patch.setattr(Sectors, "write", broken)
            with pytest.raises(SanlockLVBError, match="Input/output error"):
                await grant.write(JobRecord({}))
        await grant.write(JobRecord({}))


async def test_a_write_that_reads_back_changed_is_an_error(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hold(store, await create(store)) as grant:
        monkeypatch.setattr(Sectors, "write", lambda self, offset, data: None)
        with pytest.raises(SanlockLVBError, match="reads back"):
            await grant.write(JobRecord({}))


async def test_a_lease_lost_during_the_write_is_lost(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = Sectors.write

    def overtaken(self: Sectors, offset: int, data: bytes) -> None:
        real(self, offset, data)
        found = self.read(lease.offset, store.geometry.sector)
        real(self, lease.offset, leader.acquired(found))

    async with hold(store, lease) as grant:
        with monkeypatch.context() as patch:
            patch.setattr(Sectors, "write", overtaken)
            with pytest.raises(LeaseLost, match="leader"):
                await grant.write(JobRecord({}))


async def test_a_leader_that_cannot_be_read_is_a_lost_lease(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Sectors, offset: int, count: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    async with hold(store, await create(store)) as grant:
        monkeypatch.setattr(Sectors, "read", broken)
        with pytest.raises(LeaseLost, match="Input/output error"):
            await grant.check()


async def test_a_loss_that_is_seen_after_the_write_says_that_something_was_written(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    lease = await create(store)
    real = Sectors.write

    def last(self: Sectors, offset: int, data: bytes) -> None:
        real(self, offset, data)
        os.rename(store.path, store.path + ".old")

    grant = await store.acquire(lease)
    with monkeypatch.context() as patch:
        patch.setattr(Sectors, "write", last)
        with pytest.raises(LeaseLost, match=r"removed; seen just after a write: .* may stand"):
            await grant.write(JobRecord({}))
    with pytest.raises(LeaseLost, match=r"removed$"):
        await grant.write(JobRecord({}))
    await store.release(grant)


async def test_a_read_that_hangs_can_be_left(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered = threading.Event()
    async with hold(store, await create(store)) as grant:
        monkeypatch.setattr(Grant, "load", lambda self: answered.wait(20))
        with trio.move_on_after(0.05) as scope:
            await grant.read()
        answered.set()
    assert scope.cancelled_caught


# --- looking after it ----------------------------------------------------------------------------

LONG = 20.0  # seconds; nothing here takes so long
QUICK = 0.05


class Watched:
    """A grant whose storage answers to a look as it is told. alarm: what rings, and what it rings
    at."""

    def __init__(self, alarm: tuple[int, int] | None) -> None:
        self.looking = threading.Event()
        self.answered = threading.Event()
        self.looks = 0
        self.reason: str | None = None
        self._bell = alarm[1] if alarm else None
        lease = Lease("sd", "a", "/nowhere", 0)
        none = Sectors("/nowhere", -1)
        self.grant = Grant(
            lease,
            none,
            DEFAULT,
            leader=None,
            lost=self._look,
            fds=(),
            alarm=alarm[0] if alarm else None,
        )

    def _look(self) -> str | None:
        self.looks += 1
        self.looking.set()
        self.answered.wait(LONG)
        return self.reason

    def ring(self) -> None:
        assert self._bell is not None
        os.close(self._bell)


@pytest.fixture(params=["with an alarm"])
def watched(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    monkeypatch.setattr("leases.grant._WATCH_SECONDS", QUICK)
    ends = os.pipe() if request.param == "with an alarm" else None
    made = Watched(ends)
    yield made
    made.answered.set()
    if ends:
        os.close(ends[0])


async def lost_within(grant: Grant, seconds: float) -> str | None:
    with trio.move_on_after(seconds):
        return (await grant.wait_lost()).reason
    return None


async def test_storage_that_does_not_answer_to_a_look_is_a_loss_in_time(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before others may have the lease."""
    monkeypatch.setattr("leases.grant._LOOK_SECONDS", 10 * QUICK)
    with trio.fail_after(LONG):
        began = trio.current_time()
        assert await lost_within(watched.grant, LONG) == "its storage does not answer"
        assert trio.current_time() - began >= 10 * QUICK
    assert watched.looks == 1  # none more that would hang as well


def test_a_look_has_less_time_than_a_silent_host_keeps_its_leases() -> None:
    """The 60 s that sanlock adds to 8 x io_timeout."""
    assert grants._LOOK_SECONDS < 60 - 2 * grants._WATCH_SECONDS


async def test_an_alarm_does_not_wait_for_a_look_that_hangs(watched: Watched) -> None:
    async with trio.open_nursery() as nursery:
        found: list[str | None] = []

        async def wait() -> None:
            found.append(await lost_within(watched.grant, LONG))

        nursery.start_soon(wait)
        await trio.to_thread.run_sync(watched.looking.wait, LONG)
        watched.ring()
    assert found == ["its storage does not answer"]


async def test_an_alarm_leaves_the_look_a_moment_to_say_why(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("leases.grant._WATCH_SECONDS", 10 * QUICK)
    watched.reason = "the daemon has ended"
    watched.ring()
    threading.Timer(QUICK, watched.answered.set).start()
    assert await lost_within(watched.grant, LONG) == "the daemon has ended"


@pytest.mark.parametrize("watched", ["without an alarm"], indirect=True)
async def test_without_an_alarm_storage_is_waited_for(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lock of the kernel is kept however long its disk takes."""
    monkeypatch.setattr("leases.grant._LOOK_SECONDS", QUICK)
    assert await lost_within(watched.grant, 10 * QUICK) is None
    assert watched.looks == 1


# --- the result and a loss -----------------------------------------------------------------------


async def test_a_loss_waits_for_a_result_that_is_being_recorded(watched: Watched) -> None:
    """Which sees it, or is on disk before."""
    watched.answered.set()
    watched.reason = "gone"
    with watched.grant.recording():
        assert await lost_within(watched.grant, 10 * QUICK) is None
    assert await lost_within(watched.grant, 10 * QUICK) is None


async def test_a_result_that_was_not_recorded_does_not_hide_a_loss(watched: Watched) -> None:
    watched.answered.set()
    watched.reason = "gone"
    with pytest.raises(ZeroDivisionError), watched.grant.recording():
        1 / 0  # noqa: B018
    assert await lost_within(watched.grant, LONG) == "gone"
