"""JSON-RPC 2.0, as the specification has it and as its clients take it."""

import json
import math
from typing import Any

import pytest

from protocol import jsonrpc
from protocol.errors import NoSuchLease
from protocol.jsonrpc import (
    DEPTH,
    Forbidden,
    InvalidRequest,
    MethodNotFound,
    Notification,
    ParseError,
    Received,
    Refused,
    Reply,
    Request,
)

PING = {"jsonrpc": "2.0", "method": "Host.ping2", "params": {}, "id": "1"}


def read(value: Any) -> Received:
    return jsonrpc.read(json.dumps(value).encode())


def refusal(received: Received) -> tuple[int, jsonrpc.Id]:
    (item,) = received.items
    assert isinstance(item, Refused)
    return item.error.code, item.id


def test_a_request_is_read() -> None:
    assert read(PING) == Received((Request("Host.ping2", {}, "1"),))


def test_a_batch_of_one_is_answered_bare_and_one_of_several_as_an_array() -> None:
    assert read([PING]) == read(PING)
    assert read([PING, PING]).array
    assert jsonrpc.answer([b"1"], array=False) == b"1"
    assert json.loads(jsonrpc.answer([b"1", b"2"], array=True)) == [1, 2]
    assert jsonrpc.answer([], array=True) == b""


@pytest.mark.parametrize("id", ["", "x", "\u00fc\U0001f600", 0, -7, 1.5, 10**30, None])
def test_an_id_of_any_legal_type_comes_back_as_it_is(id: Any) -> None:
    (item,) = read({**PING, "id": id}).items
    assert isinstance(item, Request)
    assert (item.id, item.notification) == (id, False)
    assert json.loads(jsonrpc.result(item.id, 1))["id"] == id


def test_a_request_without_id_is_a_notification() -> None:
    (item,) = read({k: v for k, v in PING.items() if k != "id"}).items
    assert item.notification


def test_parameters_may_be_missing_or_an_empty_list() -> None:
    assert read({k: v for k, v in PING.items() if k != "params"}) == read(PING)
    assert read({**PING, "params": []}) == read(PING)


def test_parameters_by_place_are_refused_but_no_notification_is_answered() -> None:
    assert refusal(read({**PING, "params": [1]})) == (-32602, "1")
    (item,) = read({"jsonrpc": "2.0", "method": "x", "params": [1]}).items
    assert item.notification


@pytest.mark.parametrize(
    "value",
    [
        5,
        None,
        "x",
        [],
        [5],
        {},
        {"x": 1},
        {**PING, "jsonrpc": "1.0"},
        {**PING, "jsonrpc": 2.0},
        {**PING, "method": 1},
        {**PING, "params": "x"},
        {**PING, "params": None},
        {**PING, "id": True},
        {**PING, "id": [1]},
        {**PING, "id": {}},
        [PING] * 101,
    ],
)
def test_what_is_no_request_is_32600_with_a_null_id(value: Any) -> None:
    assert refusal(read(value)) == (-32600, None)


def test_each_member_of_a_batch_is_judged_by_itself() -> None:
    good, bad = read([PING, {"x": 1}]).items
    assert isinstance(good, Request)
    assert isinstance(bad, Refused)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{nope",
        b"\xff",
        b'"\xff"',
        b"NaN",
        b"{} {}",
        b"[" * 100_000,
        b"1e999",
        b"\xef\xbb\xbf{}",
        b'"\\ud800"',
        b"9" * 100_000 + b"e",
    ],
)
def test_what_is_no_json_is_32700_with_a_null_id(body: bytes) -> None:
    assert refusal(jsonrpc.read(body)) == (-32700, None)


def test_a_verb_that_returns_nothing_says_true() -> None:
    assert jsonrpc.result("1", None) == b'{"jsonrpc": "2.0", "id": "1", "result": true}'


def test_everything_is_ascii() -> None:
    assert jsonrpc.result(1, "Gr\u00fc\u00dfe").endswith(b'"Gr\\u00fc\\u00dfe"}')
    assert jsonrpc.result(1, "\ud800").isascii()


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), b"bytes", {1: {2: set()}}])
def test_what_is_no_json_is_not_written(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        jsonrpc.result(1, value)


def nested(depth: int) -> bytes:
    """An answer, and a request, of so many levels in all."""
    inner = b"[" * (depth - 1) + b"]" * (depth - 1)
    return b'{"jsonrpc": "2.0", "id": "1", "result": %s}' % inner


def test_what_is_nested_too_deeply_is_not_read() -> None:
    """Each who shows an answer or writes it down goes through all of its levels."""
    [reply] = jsonrpc.read_reply(nested(DEPTH))
    assert isinstance(reply, Reply)
    for depth in (DEPTH + 1, 900, 980, 2000):  # at the last one the decoder gives up
        with pytest.raises(ParseError, match="nested too deeply"):
            jsonrpc.read_reply(nested(depth))
        body = nested(depth).replace(b"result", b"params").replace(b"id", b"method")
        assert refusal(jsonrpc.read(body)) == (ParseError.code, None)


def test_a_result_that_is_nested_too_deeply_is_not_written() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="nested"):
        jsonrpc.result(1, deep)
    while deep:  # else its end would need as deep a stack
        deep = deep[0]


def test_an_error_of_ours_has_its_facts_and_its_kind() -> None:
    assert json.loads(jsonrpc.failure("1", NoSuchLease("x")))["error"] == {
        "code": 936,
        "message": "no such lease: x",
        "data": {"lease_id": "x", "kind": "NoSuchLease"},
    }
    assert jsonrpc.error_object(Forbidden("A.b", "monitor"))["code"] == 4030


def test_an_error_of_the_protocol_has_a_code_and_a_message() -> None:
    assert jsonrpc.error_object(MethodNotFound("A.b")) == {
        "code": -32601,
        "message": "no such method: A.b",
    }


def test_an_error_that_is_not_ours_has_code_100_and_its_text() -> None:
    error = jsonrpc.error_object(OSError("what"))
    assert (error["code"], error["message"]) == (100, "what")


def test_answers_and_notifications_are_read() -> None:
    body = jsonrpc.answer(
        [jsonrpc.result("1", 5), jsonrpc.failure(2, MethodNotFound("x"))], array=True
    )
    assert jsonrpc.read_reply(body) == (
        Reply("1", 5),
        Reply(2, None, {"code": -32601, "message": "no such method: x"}),
    )
    assert jsonrpc.read_reply(jsonrpc.notification("e", {"a": 1})) == (Notification("e", {"a": 1}),)


@pytest.mark.parametrize("body", [b"5", b"[5]", b"{}", b'{"id": 1}', b'{"id": 1, "error": 5}'])
def test_what_is_no_answer_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        jsonrpc.read_reply(body)


def test_an_answer_that_is_no_json_is_refused() -> None:
    with pytest.raises(ParseError):
        jsonrpc.read_reply(b"{")
