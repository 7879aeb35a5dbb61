"""Which hosts storage could not tell apart."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.twins import IDENTITIES, held, twin

IQN = "iqn.1994-05.com.redhat:64c4"
HOST = {"host": "a", "initiator": IQN, "nqn": "nqn.2014-08.org:uuid:1", "ip": "10.0.0.1"}


@pytest.mark.parametrize("key", IDENTITIES)
@pytest.mark.parametrize("changed", [str, str.upper], ids=["same", "upper"])
def test_two_hosts_may_share_no_identity_in_any_case_of_its_letters(key: str, changed: Any) -> None:
    other = {"host": "b", "initiator": "iqn.other", "nqn": "nqn.other"}
    assert twin(other, [("host-a", HOST)]) == ""
    reason = twin(other | {key: changed(HOST[key])}, [("host-z", {"host": "z"}), ("host-a", HOST)])
    assert "host-a" in reason
    assert "host-z" not in reason
    assert IDENTITIES[key][0] in reason


def test_each_identity_is_told_with_a_way_out() -> None:
    assert "/etc/iscsi/initiatorname.iscsi" in twin({"initiator": IQN}, [("a", HOST)])
    assert "identity.name" in twin({"host": "a"}, [("a", HOST)])
    both = twin({"host": "a", "initiator": IQN}, [("a", HOST)])
    assert both.count("that of host a") == 2


def test_a_host_holds_what_it_was_known_by_until_it_tells_another_one() -> None:
    assert held(HOST, {}) == HOST  # it was not heard yet
    assert held(HOST, HOST) == HOST
    assert held(HOST, {"host": "A", "initiator": "iqn.new"}) == {
        key: HOST[key] for key in ("host", "nqn", "ip")
    }


@pytest.mark.parametrize("nothing", [None, "", 7, ["x"], {}])
def test_what_is_no_name_takes_none_away(nothing: Any) -> None:
    assert held(HOST, dict.fromkeys(HOST, nothing)) == HOST


def test_what_adapters_of_ours_and_of_vendors_let_hosts_in_by_is_looked_at() -> None:
    assert set(IDENTITIES) == {"host", "initiator", "nqn"}


def test_hosts_of_one_address_are_two_hosts() -> None:
    assert twin({"host": "b", "ip": HOST["ip"]}, [("a", HOST)]) == ""


@pytest.mark.parametrize("nothing", [None, "", 7, ["x"], {}])
def test_what_is_no_name_is_nobodys(nothing: Any) -> None:
    told = dict.fromkeys(IDENTITIES, nothing)
    assert twin(told, [("a", told), ("b", HOST), ("c", {})]) == ""
    assert twin({}, [("a", HOST)]) == ""


JSON = st.recursive(st.none() | st.text() | st.integers(), st.lists, max_leaves=3)
TOLD = st.dictionaries(st.sampled_from([*IDENTITIES, "ip"]), JSON)


@given(TOLD, TOLD)
def test_whatever_hosts_tell_the_reason_is_printable_and_short(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    reason = twin(one, [("a", other)])
    assert reason.isprintable()
    assert len(reason) < 1500
    assert bool(twin(other, [("a", one)])) == bool(reason)
