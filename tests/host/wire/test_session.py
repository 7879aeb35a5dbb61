"""Heart-beats and time-outs of a connection, by a clock of its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import MockClock, memory_stream_pair

from host.wire import dialect
from host.wire.budget import Budget
from host.wire.call import READING, Peer
from host.wire.calling import Caller
from host.wire.limits import DEFAULT
from host.wire.session import Session, Shared
from protocol.stomp import HEARTBEAT
from tests.host.wire.serving import ping

Stream = trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream]


@asynccontextmanager
async def session(heart_beat: str) -> AsyncGenerator[tuple[Session, Stream]]:
    ours, theirs = memory_stream_pair()
    async with trio.open_nursery() as nursery:
        caller = Caller(ping, READING, DEFAULT.outbox)
        shared = Shared(caller, nursery, trio.Semaphore(9), Budget(DEFAULT.memory), DEFAULT)
        one = Session(ours, Peer("engine", "test"), shared)

        async def run() -> None:
            await one.run()
            await ours.aclose()

        nursery.start_soon(run)
        await theirs.send_all(
            b"CONNECT\naccept-version:1.2\nheart-beat:%s\n\n\0" % heart_beat.encode()
        )
        await theirs.receive_some()
        yield one, theirs
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        ("", (0, 0)),
        ("abc", (0, 0)),
        ("0,0", (0, 0)),
        ("1", (0, 0)),
        ("1,1,1", (0, 0)),
        ("-1,5", (0, 0)),
        ("9" * 10 + ",0", (0, 0)),
        ("\u0661,0", (0, 0)),
        ("5,7", (1000, 1000)),
        ("0,24000", (0, 24000)),
        (" 1200 , 1600 ", (1200, 1600)),
    ],
)
def test_heart_beats_are_raised_to_a_second(sent: str, answered: tuple[int, int]) -> None:
    assert dialect.heart_beats(sent) == answered


async def test_a_heart_beat_is_sent_in_time_while_nothing_else_is(
    autojump_clock: MockClock,
) -> None:
    async with session("0,4000") as (_, client):
        for _ in range(5):
            with trio.fail_after(3.9):
                assert await client.receive_some() == HEARTBEAT


async def test_a_client_that_wants_no_heart_beat_gets_none(autojump_clock: MockClock) -> None:
    async with session("0,0") as (_, client):
        with trio.move_on_after(10_000) as scope:
            await client.receive_some()
        assert scope.cancelled_caught


async def test_a_client_that_keeps_its_promise_stays(autojump_clock: MockClock) -> None:
    async with session("2000,0") as (one, client):
        for _ in range(10):
            await trio.sleep(2.5)
            await client.send_all(HEARTBEAT)
        assert not one.reason


async def test_a_client_that_breaks_its_promise_is_dropped(autojump_clock: MockClock) -> None:
    async with session("2000,0") as (one, client):
        start = trio.current_time()
        with trio.fail_after(100):
            assert bytes(await client.receive_some()).startswith(b"ERROR")
        assert trio.current_time() - start == pytest.approx(4)
        assert await client.receive_some() == b""
        assert one.reason == "no heart-beat came"


async def test_a_client_that_promised_nothing_may_be_silent(autojump_clock: MockClock) -> None:
    async with session("0,0") as (one, _):
        await trio.sleep(80_000)
        assert not one.reason
