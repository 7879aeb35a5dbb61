"""The recorded sessions, played against our server: the same frames, shapes and codes.

Texts of errors are our own. Where the recorded server does not do what STOMP or JSON-RPC ask for,
ours does; each such probe is listed here with the reason.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from host.wire.call import Call, Event
from protocol.errors import NoSuchLease
from protocol.jsonrpc import MethodNotFound
from protocol.stomp import Decoder, Frame
from tests.host.wire.serving import raw, serving
from tests.transcripts import CLIENT, PROBES, SERVER, SESSIONS, Transcript

ON_R = {"destination": "R", "content-type": "application/json", "subscription": "s1"}
CONNECTED = ("CONNECTED", {"version": "1.2", "heart-beat": "0,0"}, None)
Shape = tuple[str, dict[str, str], Any]
ERROR: Shape = ("ERROR", {}, None)


def refused(code: int) -> Any:
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": "str"}}


def done(id: Any) -> Any:
    return {"jsonrpc": "2.0", "id": id, "result": True}


def on_r(body: Any) -> list[Shape]:
    return [CONNECTED, ("MESSAGE", ON_R, body)]


DEFAULT = "subscriber of jms.topic.vdsm_responses (the default destination): "
LIST = "a client names all versions that it speaks"
SAME = "a server takes STOMP like CONNECT"
TELL = "a client is told before the connection is closed"
HERE = "an answer goes to reply-to, and only once, whether or not its id is known"
ALL = "each request of a batch is answered"
NULL = "null is an id"
DIFFERENCES: dict[str, tuple[str, list[Shape]]] = {
    "accept-version 1.0,1.1,1.2 (a list)": (LIST, [CONNECTED]),
    "no accept-version": (TELL, [ERROR]),
    "STOMP command instead of CONNECT": (SAME, [CONNECTED]),
    "unknown command": (TELL, [CONNECTED, ERROR]),
    "ACK command": (TELL, [CONNECTED, ERROR]),
    "batch of two": (ALL, on_r([done("1"), done("2")])),
    DEFAULT + "batch of one good and one bad request": (ALL, on_r([done("1"), refused(-32600)])),
    "id null": (NULL, on_r(done(None))),
    "parse error": (HERE, on_r(refused(-32700))),
    DEFAULT + "parse error": (HERE, on_r(refused(-32700))),
}
for _name in ("no jsonrpc member", "jsonrpc 1.0", "no method", "params as string"):
    DIFFERENCES[_name] = (HERE, on_r(refused(-32600)))
    DIFFERENCES[DEFAULT + _name] = (HERE, on_r(refused(-32600)))
DIFFERENCES["empty batch"] = (HERE, on_r(refused(-32600)))
DIFFERENCES[DEFAULT + "body is a JSON number"] = ("it is no request", on_r(refused(-32600)))


def recorded(send: trio.MemorySendChannel[Event]) -> Callable[[Call], Awaitable[Any]]:
    """The verbs of the recordings. Copies are done at once."""
    jobs: dict[str, dict[str, Any]] = {}

    async def dispatch(call: Call) -> Any:
        params = call.params
        if call.method == "Host.ping2":
            return True
        if call.method == "Host.getJobs":
            ids, kind = params.get("job_ids") or jobs, params.get("job_type", "storage")
            return {i: jobs[i] for i in ids if i in jobs and jobs[i]["job_type"] == kind}
        if call.method == "SDM.copy_data":
            facts = {"id": params["job_id"], "status": "done", "description": "copy_data"}
            info = {**facts, "job_type": "storage", "progress": 100.0}
            jobs[info["id"]] = info
            await send.send((f"|jobs|status|{info['id']}", info))
            return None
        if call.method == "Lease.status":
            raise NoSuchLease(str(params["lease"]))
        raise MethodNotFound(call.method)

    return dispatch


def frames(data: bytes) -> list[Frame]:
    decoder = Decoder()
    decoder.feed(data)
    found = []
    while (frame := decoder.next()) is not None:
        found.append(frame)
    return found


def shape(frame: Frame) -> Shape:
    """What has to be the same: not the texts, not the length that they have, not the clock."""
    headers = {k: v for k, v in frame.headers.items() if k != "content-length"}
    if frame.command == "ERROR":
        return ERROR
    if headers.get("content-type") != "application/json":
        return frame.command, headers, frame.body.decode() or None
    assert frame.headers["content-length"] == str(len(frame.body))
    assert frame.body.isascii()
    return frame.command, headers, _body(json.loads(frame.body))


def _body(value: Any) -> Any:
    if isinstance(value, list):
        return [_body(one) for one in value]
    if "error" in value:
        message = type(value["error"]["message"]).__name__
        return {**value, "error": {"code": value["error"]["code"], "message": message}}
    if "params" in value:
        clock = type(value["params"]["notify_time"]).__name__
        return {**value, "params": {**value["params"], "notify_time": clock}}
    return value


@pytest.mark.parametrize("session", SESSIONS, ids=[one.name for one in SESSIONS])
async def test_a_recorded_session_is_answered_with_the_same_frames(session: Transcript) -> None:
    send, receive = trio.open_memory_channel[Event](10)
    async with (
        serving(recorded(send), events=receive) as (_, address),
        raw(address) as client,
    ):
        for said, answered in session.turns():
            await client.say(said)
            expected = sorted(map(shape, frames(answered)), key=repr)
            got = [await client.frame() for _ in expected]
            # An event and an answer may come in any order.
            assert sorted((shape(one) for one in got if one), key=repr) == expected
        assert await client.all_after() == []


@pytest.mark.parametrize("probe", PROBES, ids=[one.name for one in PROBES])
async def test_a_probe_is_answered_with_the_same_frames_or_as_it_should_be(
    probe: Transcript,
) -> None:
    send, _receive = trio.open_memory_channel[Event](10)
    same = list(map(shape, frames(probe.all_of(SERVER))))
    _, expected = DIFFERENCES.get(probe.name, ("", same))
    async with serving(recorded(send)) as (_, address), raw(address) as client:
        got = await client.all_after(probe.all_of(CLIENT))
    assert list(map(shape, got)) == expected
    with _receive:
        pass


def test_every_difference_is_one() -> None:
    by_name = {probe.name: probe for probe in PROBES}
    for name, (reason, expected) in DIFFERENCES.items():
        assert reason
        assert list(map(shape, frames(by_name[name].all_of(SERVER)))) != expected
