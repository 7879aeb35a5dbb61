"""The server: what clients get, and what no client can do to it or to another."""

import json
import os
import random
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import trio
from structlog.testing import capture_logs

from host.wire.call import Call, Event, Peer
from host.wire.limits import DEFAULT
from host.wire.server import Server
from protocol.address import Address
from protocol.client import connected
from protocol.errors import NoSuchJob
from protocol.stomp import Frame, encode
from tests.host.wire.serving import (
    CONNECT,
    END,
    PING,
    PONG,
    SUBSCRIBE,
    WAIT,
    Raw,
    loopback,
    ping,
    raw,
    request,
    serving,
    talking,
)

MANY = 1 << 20  # bytes
EVENTS = b"SUBSCRIBE\ndestination:jms.queue.events\nack:auto\nid:e\n\n\0"


async def until(condition: Any) -> None:
    with trio.fail_after(WAIT):
        while not condition():  # noqa: ASYNC110 - of another task, which tells nobody
            await trio.sleep(0.005)


async def pong(client: Raw) -> None:
    await client.say(PING)
    frame = await client.frame()
    assert frame is not None
    assert frame.body == PONG


def said(frame: Frame | None) -> Any:
    assert frame is not None
    assert frame.command == "MESSAGE"
    return json.loads(frame.body)


@asynccontextmanager
async def watched(address: Address) -> AsyncGenerator[Raw]:
    """Another client, which must not notice anything of what the body does."""
    async with talking(address) as other:
        await pong(other)
        yield other
        await pong(other)


class Held:
    """A dispatcher whose calls wait until they are let go."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.go = trio.Event()

    async def __call__(self, call: Call) -> Any:
        if call.method == "Host.ping2":
            return True
        self.begun += 1
        await self.go.wait()
        self.ended += 1
        return self.ended


HOLD = request(b'{"jsonrpc":"2.0","method":"hold","id":1}')


async def test_a_call_has_its_method_parameters_flow_and_peer() -> None:
    calls = []

    async def dispatch(call: Call) -> Any:
        calls.append(call)

    body = b'{"jsonrpc":"2.0","method":"A.b","params":{"x":[1]},"id":7}'
    async with serving(dispatch) as (_, address), talking(address) as client:
        await client.say(request(body, ovirtCorrelationId="flow-1"))
        assert said(await client.frame()) == {"jsonrpc": "2.0", "id": 7, "result": True}
    assert calls == [Call("A.b", {"x": [1]}, "flow-1", Peer("engine", f"uid:{os.geteuid()}"))]


async def test_the_log_has_method_flow_peer_and_code_of_a_call() -> None:
    with capture_logs() as logs:
        async with serving() as (_, address), talking(address) as client:
            await client.say(
                request(b'{"jsonrpc":"2.0","method":"x","id":1}', ovirtCorrelationId="f" * 200)
            )
            await client.frame()
    (call,) = (entry for entry in logs if entry["event"] == "call")
    assert (call["method"], call["flow_id"], call["code"]) == ("x", "f" * 128, -32601)
    assert (call["role"], call["log_level"]) == ("engine", "info")


async def test_an_error_of_a_verb_reaches_the_client_and_nobody_else() -> None:
    async def dispatch(call: Call) -> Any:
        if call.method == "ours":
            raise NoSuchJob("j")
        if call.method == "odd":
            return {1, 2}
        if call.method == "huge":
            return "x" * 2000
        if call.method == "facts":
            raise NoSuchJob(object())  # type: ignore[arg-type]
        raise ZeroDivisionError("oh")

    codes = {"ours": 66, "odd": -32603, "huge": -32603, "facts": -32603, "bug": 100}
    limits = replace(DEFAULT, outbox=1000)
    async with serving(dispatch, limits=limits) as (_, address), talking(address) as client:
        for method, code in codes.items():
            await client.say(request(b'{"jsonrpc":"2.0","method":"%s","id":1}' % method.encode()))
            assert said(await client.frame())["error"]["code"] == code


async def test_a_notification_is_run_and_not_answered() -> None:
    ran = []

    async def dispatch(call: Call) -> Any:
        ran.append(call.method)
        raise NoSuchJob("j")

    note = b'{"jsonrpc":"2.0","method":"%s"}'
    async with serving(dispatch) as (_, address), talking(address) as client:
        assert await client.all_after(request(note % b"a"), request(b"[%s]" % (note % b"b"))) == []
    assert ran == ["a", "b"]


async def test_a_batch_is_answered_in_its_order_without_its_notifications() -> None:
    batch = [{"jsonrpc": "2.0", "method": "Host.ping2", "id": n} for n in range(3)]
    note = {"jsonrpc": "2.0", "method": "Host.ping2"}
    async with serving() as (_, address), talking(address) as client:
        await client.say(request(json.dumps([batch[0], note, *batch[1:]]).encode()))
        assert [one["id"] for one in said(await client.frame())] == [0, 1, 2]


async def test_frames_are_acknowledged_when_a_receipt_is_asked_for() -> None:
    frames = [
        Frame("SUBSCRIBE", {"id": "1", "destination": "R", "receipt": "a"}),
        Frame("UNSUBSCRIBE", {"id": "1", "receipt": "b"}),
        Frame("SEND", {"destination": "jms.topic.vdsm_requests", "receipt": "c"}, b"5"),
        Frame("DISCONNECT", {"receipt": "d"}),
    ]
    async with serving() as (_, address), raw(address, CONNECT) as client:
        await client.say(*map(encode, frames))
        receipts = [f.headers["receipt-id"] for f in await client.rest() if f.command == "RECEIPT"]
    assert receipts == ["a", "b", "c", "d"]


async def test_a_receipt_for_disconnect_comes_after_the_answers() -> None:
    held = Held()
    async with serving(held) as (_, address), talking(address) as client:
        await client.say(HOLD, END)
        await until(lambda: held.begun)
        held.go.set()
        assert [f.command for f in await client.rest()] == ["MESSAGE", "RECEIPT"]


async def test_answers_and_sent_messages_stay_on_the_connection() -> None:
    async with serving() as (_, address), talking(address, EVENTS) as other:
        async with talking(address, EVENTS) as client:
            await client.say(PING, b"SEND\ndestination:jms.queue.events\n\nforged\0")
            assert {f.body for f in [await client.frame(), await client.frame()] if f} == {
                PONG,
                b"forged",
            }
        assert await other.all_after() == []


async def test_events_reach_those_who_subscribed_with_the_time_of_the_host() -> None:
    send, receive = trio.open_memory_channel[Event](10)
    async with serving(events=receive) as (_, address), talking(address) as other:
        async with talking(address, EVENTS, PING) as client:
            await client.frame()
            await send.send(("|jobs|status|j", {"odd": {1}}))  # is left out
            await send.send(("|jobs|status|j", {"id": "j"}))
            frame = await client.frame()
            event = said(frame)
            assert type(event["params"].pop("notify_time")) is int
            assert event == {"jsonrpc": "2.0", "method": "|jobs|status|j", "params": {"id": "j"}}
            assert frame is not None
            assert frame.headers["destination"] == "jms.queue.events"
        assert await other.all_after() == []


async def test_a_monitor_may_only_read() -> None:
    doors = await loopback()
    body = b'{"jsonrpc":"2.0","method":"Job.abort","params":{},"id":1}'
    async with serving(ping, doors=doors) as (_, address), talking(address) as client:
        await pong(client)
        await client.say(request(body))
        assert said(await client.frame())["error"]["code"] == 4030


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\n\n\0",
        b"SEND\nbad header\n\n\0",
        b"SEND\n" + b"a" * (17 << 10),
        b"SEND\n" + b"a:1\n" * 65 + b"\n\0",
        b"SEND\ncontent-length:%d\n\n" % ((1 << 20) + 1),
        b"SEND\n\n" + b"x" * ((1 << 20) + 1),
        CONNECT,  # a second one
        b"COMMIT\n\n\0",
        b"SEND\n\nno destination\0",
        b"\xff" * 20_000,
    ],
    ids=["command", "header", "huge", "many", "length", "body", "connect", "commit", "to", "noise"],
)
async def test_a_broken_frame_gets_an_error_and_the_connection_is_closed(data: bytes) -> None:
    async with serving() as (server, address), watched(address):
        async with talking(address) as client:
            with suppress(trio.BrokenResourceError):
                await client.say(data)
            frames = await client.rest()
            assert [f.command for f in frames] == ["ERROR"]
            assert frames[0].body
        await until(lambda: len(server.sessions) == 1)


async def test_random_bytes_hurt_nobody() -> None:
    chosen = random.Random(5)
    parts = [CONNECT, SUBSCRIBE, PING, END, b"\0", b"\n\n", b"SEND\n", b"content-length:9\n"]
    async with serving() as (server, address), watched(address):
        for _ in range(300):
            pieces = chosen.choices([*parts, chosen.randbytes(40)], k=chosen.randint(1, 9))
            async with raw(address) as client:
                with suppress(trio.BrokenResourceError):
                    await client.say(*pieces)
        await until(lambda: len(server.sessions) == 1)
        assert server.memory == 0


async def test_no_client_has_more_subscriptions_than_the_limit() -> None:
    async with serving() as (server, address), watched(address), talking(address) as client:
        with suppress(trio.BrokenResourceError):
            await client.say(*(b"SUBSCRIBE\nid:%d\ndestination:R\n\n\0" % n for n in range(10_000)))
        assert [f.command for f in await client.rest()] == ["ERROR"]
        # That of the other client, and this one, which waits for the client to close.
        assert sorted(one.subscriptions for one in server.sessions) == [1, DEFAULT.subscriptions]


async def test_no_client_has_more_calls_in_flight_than_the_limit() -> None:
    held = Held()
    async with serving(held) as (_, address), watched(address), talking(address) as client:
        await client.say(HOLD * 200)
        await until(lambda: held.begun >= DEFAULT.in_flight)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert held.begun == DEFAULT.in_flight
        held.go.set()
        results = sorted([said(await client.frame())["result"] for _ in range(200)])
        assert results == list(range(1, 201))


async def test_all_clients_together_have_no_more_calls_in_flight_than_the_limit() -> None:
    held = Held()
    limits = replace(DEFAULT, in_flight_total=5)
    async with serving(held, limits=limits) as (_, address), AsyncExitStack() as stack:
        for _ in range(4):
            client = await stack.enter_async_context(talking(address))
            await client.say(HOLD * 4)
        await until(lambda: held.begun >= 5)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert held.begun == 5
        held.go.set()
        await until(lambda: held.ended == 16)


async def test_a_call_goes_on_when_its_client_has_left() -> None:
    held = Held()
    async with serving(held) as (server, address):
        async with talking(address) as client:
            await client.say(HOLD)
            await until(lambda: held.begun)
        await until(lambda: not server.sessions)
        held.go.set()
        await until(lambda: held.ended)
        assert server.memory == 0


async def test_1000_clients_are_served_and_one_more_is_told_why_not() -> None:
    limits = replace(DEFAULT, connections=1000)
    async with serving(limits=limits) as (server, address), AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(talking(address)) for _ in range(1000)]
        assert len(server.sessions) == 1000
        for client in clients:
            await client.say(PING)
        for client in clients:
            frame = await client.frame()
            assert frame is not None
            assert frame.body == PONG
        async with raw(address) as one_more:
            assert [f.headers["message"] for f in await one_more.rest()] == ["too many connections"]
        await clients[0].stream.aclose()
        await until(lambda: len(server.sessions) == 999)
        async with talking(address) as next_one:
            await pong(next_one)


async def test_a_slow_reader_is_dropped_and_the_others_get_all_events() -> None:
    send, receive = trio.open_memory_channel[Event](0)
    limits = replace(DEFAULT, outbox=200_000)
    most = 0
    async with serving(events=receive, limits=limits) as (server, address):
        async with talking(address, EVENTS, PING) as slow, talking(address, EVENTS, PING) as fast:
            await fast.frame()
            await slow.frame()
            for n in range(2000):
                await send.send(("e", {"n": n, "pad": "x" * 1000}))
                assert said(await fast.frame())["params"]["n"] == n
                most = max([most, *(one.outbox.size for one in server.sessions)])
            await until(lambda: len(server.sessions) == 1)
        assert 100_000 < most <= limits.outbox
        await until(lambda: server.memory == 0)


async def test_a_client_that_reads_nothing_of_an_answer_is_dropped_in_time() -> None:
    async def dispatch(call: Call) -> Any:
        return "x" * (8 << 20)

    limits = replace(DEFAULT, stall=0.2)
    async with serving(dispatch, limits=limits) as (server, address), talking(address) as client:
        await client.say(PING)
        await until(lambda: server.memory > 1 << 20)
        await until(lambda: not server.sessions)


async def test_of_a_client_that_was_dropped_nothing_is_kept() -> None:
    """Not even until its cycles are collected."""

    async def dispatch(call: Call) -> Any:
        return "x" * MANY

    limits = replace(DEFAULT, outbox=3 * MANY)
    async with serving(dispatch, limits=limits) as (server, address), talking(address) as client:
        (session,) = server.sessions
        with suppress(trio.BrokenResourceError):
            await client.say(PING * 9, PING[:-1])
        await until(lambda: not server.sessions)
        assert session.outbox.frames == session.outbox.size == 0
        assert session.held == 0


async def test_half_a_frame_is_not_kept_for_ever() -> None:
    limits = replace(DEFAULT, frame=0.2)
    async with serving(limits=limits) as (server, address), watched(address):
        async with talking(address) as client:
            await client.say(b"SEND\ncontent-length:1000\n\nhalf")
            assert [f.command for f in await client.rest()] == ["ERROR"]
        await until(lambda: len(server.sessions) == 1)
        assert server.memory == 0


async def test_who_says_nothing_is_sent_away() -> None:
    limits = replace(DEFAULT, handshake=0.2)
    async with serving(limits=limits) as (_, address), watched(address), raw(address) as client:
        assert [f.command for f in await client.rest()] == ["ERROR"]


async def test_of_all_half_frames_together_the_largest_goes_when_there_are_too_many() -> None:
    limits = replace(DEFAULT, memory=1_000_000)
    half = b"SEND\ncontent-length:900000\n\n"
    async with serving(limits=limits) as (server, address), watched(address):  # noqa: SIM117
        async with talking(address) as small, talking(address) as large:
            await small.say(half, b"x" * 300_000)
            await until(lambda: server.memory == 300_000)
            await large.say(half, b"x" * 600_000)
            await until(lambda: server.memory == 900_000)
            await small.say(b"x" * 200_000)
            assert await large.rest() == []
            await until(lambda: server.memory == 500_000)
            await small.say(b"x" * 400_000, b"\0")
            assert [f.command for f in await small.rest()] == ["ERROR"]  # it had no destination


async def stop(server: Server, client: Raw) -> list[Frame]:
    server.stop()
    return await client.rest()


async def test_stop_answers_what_was_begun_and_lets_nobody_in() -> None:
    held = Held()
    async with serving(held) as (server, address), talking(address) as client:
        await client.say(HOLD)
        await until(lambda: held.begun)
        server.stop()
        await trio.testing.wait_all_tasks_blocked(0.01)
        with pytest.raises(OSError, match=r"refused|No such|socket"):
            await trio.open_unix_socket(str(address).removeprefix("unix:"))
        await client.say(HOLD)  # too late
        held.go.set()
        assert [said(f)["result"] for f in await client.rest()] == [1]
        assert held.begun == 1


async def test_stop_does_not_wait_for_ever() -> None:
    held = Held()
    limits = replace(DEFAULT, closing=0.2, farewell=0.2)
    async with serving(held, limits=limits) as (server, address), talking(address) as client:
        await client.say(HOLD)
        await until(lambda: held.begun)
        assert await stop(server, client) == []
    assert not held.ended


async def test_1000_calls_after_each_other_on_one_connection() -> None:
    async with serving() as (_, address), connected(address) as host:
        for _ in range(1000):
            assert await host.call("Host.ping2") is True
