"""What a host tells of itself is read with care."""

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.capabilities import Capabilities, Membership, read_capabilities, read_connector
from protocol.errors import BadOutput

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"

json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
keys = st.sampled_from(list(Capabilities.__struct_fields__))


@given(
    json
    | st.dictionaries(keys, json)
    | st.dictionaries(keys, json).map(lambda d: {"uuid": "u", **d})
)
def test_every_answer_is_capabilities_or_refused(answer: Any) -> None:
    told = None
    with suppress(BadOutput):
        told = read_capabilities(answer, "host")
    if told is not None:
        assert told.uuid
        assert isinstance(told.sees(SD), bool)


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"uuid": ""}, {"uuid": 7}, {"uuid": "u", "domains": []}, {"uuid": "x" * 65},
     {"uuid": "u", "domains": {SD: {"host_id": 0}}}, {"uuid": "u", "limits": {"concurrency": -1}}],
    ids=str,
)  # fmt: skip
def test_nonsense_is_refused(answer: Any) -> None:
    with pytest.raises(BadOutput, match="host"):
        read_capabilities(answer, "host")


def test_keys_that_are_not_known_are_skipped_and_missing_ones_have_defaults() -> None:
    told = read_capabilities({"uuid": "u", "colour": "red"}, "host")
    assert (told.drivers, told.drained, told.limits.concurrency) == ((), False, 1)


def seeing(membership: Membership | None, *stores: str) -> bool:
    domains = {} if membership is None else {SD: membership}
    return Capabilities("u", stores=stores, domains=domains).sees(SD)


def test_a_host_sees_the_domains_that_it_has_joined() -> None:
    assert seeing(Membership(3, "joined"), "embedded", "sanlock")
    assert not seeing(Membership(3, "joining or leaving"), "embedded", "sanlock")
    assert not seeing(Membership(), "embedded", "sanlock")
    assert not seeing(None, "embedded", "sanlock")


def test_a_host_sees_what_it_has_for_itself_alone() -> None:
    assert seeing(Membership(state="alone"), "embedded")
    assert seeing(Membership(state="alone"), "embedded", "sanlock")


def test_a_host_without_a_daemon_does_not_see_what_several_hosts_share() -> None:
    assert not seeing(Membership(), "embedded")


def test_a_connector_is_read_or_said_to_be_missing() -> None:
    told = Capabilities("u", connector_info={"host": "a", "initiator": "iqn", "more": 1})
    assert read_connector(told, "a").initiator == "iqn"
    for info in ({}, {"host": 7}):
        with pytest.raises(BadOutput, match="connector"):
            read_connector(Capabilities("u", connector_info=info), "a")
