"""JSON-RPC requests and replies.

Oracle: what json of the standard library says of the same bytes, and the types of the contract.
Every body gives requests or refusals, and every refusal can be written.
"""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from protocol import jsonrpc
from protocol.jsonrpc import InvalidRequest, ParseError, Received, Refused, Request
from tests.properties.inputs import JSON, bounded, flipped, some, tries

GOOD = {"jsonrpc": "2.0", "method": "Host.getJobs", "params": {"job_ids": ["x"]}, "id": "1"}
TEXT = json.dumps([GOOD, {**GOOD, "id": None}]).encode()
values: st.SearchStrategy[Any] = JSON | st.sampled_from(["2.0", {}, [], "x", 7, None])
changes = st.dictionaries(st.sampled_from([*GOOD, "x"]), values, max_size=4)


def read(body: bytes) -> Received:
    with bounded():
        received = jsonrpc.read(body)
        with suppress(ParseError, InvalidRequest):
            jsonrpc.read_reply(body)
    assert received.items
    assert received.array == (len(received.items) > 1)
    for item in received.items:
        if isinstance(item, Refused):
            assert item.error.code in (-32700, -32600, -32602)
            written = json.loads(jsonrpc.failure(item.id, item.error))
            assert written["error"]["code"] == item.error.code
            continue
        assert type(item.method) is str
        assert type(item.params) is dict
        assert not isinstance(item.id, bool)
        assert isinstance(item.id, str | int | float | None)
        assert json.loads(jsonrpc.result(item.id, None))["id"] == item.id
    return received


def refused(received: Received, code: int) -> bool:
    return any(isinstance(i, Refused) and i.error.code == code for i in received.items)


@tries("json-rpc", each=3)
@given(st.binary(max_size=80) | st.text(max_size=40).map(lambda t: t.encode("utf-8", "replace")))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    for body in (data, b"[" + data + b"]", b'{"jsonrpc":"2.0","method":' + data + b"}"):
        received = read(body)
        try:
            json.loads(body)
        except (ValueError, UnicodeDecodeError):
            assert refused(received, -32700)


@tries("json-rpc")
@given(JSON)
def test_any_json_is_requests_or_refusals(value: Any) -> None:
    read(json.dumps(value).encode())


@tries("json-rpc", each=2)
@given(changes, st.sets(st.sampled_from(sorted(GOOD))))
def test_a_changed_request_is_a_request_exactly_when_its_types_are_right(
    changed: dict[str, Any], gone: set[str]
) -> None:
    value = {k: v for k, v in {**GOOD, **changed}.items() if k not in gone}
    received = read(json.dumps(value).encode())
    read(json.dumps([value, GOOD]).encode())
    (item,) = received.items
    if refused(received, -32700):  # NaN, half a surrogate pair, numbers out of range
        return
    id, params = value.get("id"), value.get("params", {})
    right = value.get("jsonrpc") == "2.0" and isinstance(value.get("method"), str)
    right &= params == [] or isinstance(params, dict)
    right &= id is None or (isinstance(id, str | int | float) and not isinstance(id, bool))
    assert isinstance(item, Request) == right
    assert item.notification == (isinstance(item, Request) and "id" not in value) or (
        isinstance(item, Refused) and item.error.code == -32602
    )


@tries("json-rpc", each=64)
@given(some, st.integers(0, 63))
def test_a_flipped_byte_is_refused_or_another_request(by: int, first: int) -> None:
    for step in range(64):
        read(flipped(TEXT, (first + step * 5) % len(TEXT), by))
