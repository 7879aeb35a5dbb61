"""Which host does the work: every reason against one, and the least load."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.capabilities import Capabilities, Endpoints, Limits, Membership
from engine.host_states import LinkState
from engine.host_view import HostView
from engine.placement import Busy, Need, Place, choose
from protocol.errors import NoHostFits

SD = "1dd9f4a2-0c59-4c1c-9d31-6a1d0d4ad2ef"
TOLD = Capabilities(
    "u",
    stores=("embedded", "sanlock"),
    domains={SD: Membership(1, "joined")},
    drivers=("iscsi", "file"),
    endpoints=Endpoints(schemes=("path",)),
    limits=Limits(4),
)
NEED = Need(frozenset({SD}), frozenset({"iscsi"}), frozenset({"path"}), connects=True)


def host(id: str = "a", told: Capabilities | None = TOLD, **other: Any) -> HostView:
    usual = HostView(id, f"host-{id}", LinkState.UP, "", True, False, told)
    return replace(usual, **other)


def place(id: str = "a", copies: int = 0, limit: int | None = None, **other: Any) -> Place:
    return Place(host(id, **other), copies, limit)


def told(**other: Any) -> Capabilities:
    return Capabilities(**{name: getattr(TOLD, name) for name in TOLD.__struct_fields__} | other)


AGAINST = {
    "maintenance": place(maintenance=True),
    "non_responsive: silent": place(up=False, state=LinkState.NON_RESPONSIVE, reason="silent"),
    "not told": place(told=None),
    "drained": place(told=told(drained=True)),
    f"not joined domain {SD}": place(told=told(domains={SD: Membership(1, "joining or leaving")})),
    "no managed volumes: it has the name of b": place(twin="it has the name of b"),
    "volumes of iscsi": place(told=told(drivers=("file",))),
    "urls of path": place(told=told(endpoints=Endpoints())),
    "its limit is 4": place(copies=4),
    "4 copies at once, its limit is 4": place(copies=4, limit=9),
    "its limit is 2": place(copies=2, limit=2),
    "its limit is 0": place(limit=0),
}


@pytest.mark.parametrize("why", AGAINST)
def test_a_host_that_does_not_fit_is_never_chosen_and_is_told_why(why: str) -> None:
    bad = AGAINST[why]
    with pytest.raises(NoHostFits, match=why) as caught:
        choose([bad], NEED)
    assert "host-a" in str(caught.value)
    good = place("z", copies=3)
    assert choose([bad, good], NEED) == "z"


def test_a_host_that_is_not_to_do_it_does_not() -> None:
    need = replace(NEED, without=frozenset({"a"}))
    assert choose([place("a"), place("b", copies=3)], need) == "b"


def test_a_host_with_a_twin_does_what_needs_no_managed_volume() -> None:
    need = replace(NEED, drivers=frozenset(), connects=False)
    assert choose([place("a", twin="x"), place("b", copies=3)], need) == "a"


def test_a_domain_is_told_by_its_name_and_its_id() -> None:
    need = replace(NEED, called={SD: "data-1"})
    with pytest.raises(NoHostFits, match=rf"has not joined domain data-1 \({SD}\)"):
        choose([place(told=told(domains={}))], need)


def test_every_host_is_told_with_its_reason() -> None:
    places = [place("a", maintenance=True), place("b", copies=9)]
    with pytest.raises(NoHostFits, match=r"host-a: .*maintenance.*host-b: .*limit"):
        choose(places, NEED)
    with pytest.raises(NoHostFits, match="there is no host"):
        choose([], NEED)


def test_the_least_loaded_host_is_chosen_by_its_share() -> None:
    big = place("big", copies=3, told=told(limits=Limits(8)))
    small = place("small", copies=2)
    assert choose([small, big], NEED) == "big"
    assert choose([small, replace(big, copies=5)], NEED) == "small"


def test_of_equal_hosts_the_first_by_id_is_chosen() -> None:
    assert choose([place("b"), place("a")], NEED) == "a"


def test_a_full_domain_lets_no_host_begin() -> None:
    need = replace(NEED, busy=(Busy("fast", 2, None), Busy("slow", 2, 2)))
    with pytest.raises(NoHostFits, match=r"domain slow has 2 copies at once, its limit is 2"):
        choose([place()], need)
    assert choose([place()], replace(need, busy=(Busy("slow", 1, 2),))) == "a"


def test_what_is_not_needed_is_not_asked_for() -> None:
    bare = Capabilities("u")
    assert choose([place(told=bare)], Need()) == "a"


places = st.lists(
    st.builds(
        Place,
        st.builds(
            host,
            st.text("abc", min_size=1, max_size=3),
            st.none()
            | st.builds(told, drained=st.booleans(), drivers=st.sampled_from([(), ("iscsi",)])),
            maintenance=st.booleans(),
            up=st.booleans(),
        ),
        st.integers(0, 5),
        st.none() | st.integers(0, 5),
    ),
    max_size=5,
    unique_by=lambda place: place.host.id,
)


@given(places)
def test_the_choice_fits_and_nobody_that_fits_has_less_load(places: list[Place]) -> None:
    def fits(one: Place) -> bool:
        told = one.host.capabilities
        ready = one.host.up and not one.host.maintenance and told is not None and not told.drained
        return ready and told is not None and "iscsi" in told.drivers and one.copies < one.most

    fitting = [one for one in places if fits(one)]
    try:
        chosen = choose(places, NEED)
    except NoHostFits:
        assert not fitting
        return
    [found] = [one for one in fitting if one.host.id == chosen]
    assert found.copies / found.most == min(one.copies / one.most for one in fitting)
