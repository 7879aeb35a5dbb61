"""What the engine thinks of a host: the table."""

from itertools import product

import pytest

from engine.host_states import NEXT, LinkEvent, LinkState, moved, shown

CONNECTION = [state for state in LinkState if state is not LinkState.MAINTENANCE]


@pytest.mark.parametrize("state", [LinkState.CONNECTING, LinkState.NON_RESPONSIVE, LinkState.DOWN])
def test_a_host_that_answers_is_up_whatever_was_thought_of_it(state: LinkState) -> None:
    assert moved(state, LinkEvent.CONNECTED) is LinkState.UP


def test_a_host_that_was_up_is_waited_for_and_then_silent() -> None:
    lost = moved(LinkState.UP, LinkEvent.LOST)
    assert lost is LinkState.CONNECTING
    assert moved(lost, LinkEvent.LOST) is LinkState.CONNECTING
    assert moved(lost, LinkEvent.SILENT) is LinkState.NON_RESPONSIVE
    assert moved(LinkState.NON_RESPONSIVE, LinkEvent.LOST) is LinkState.NON_RESPONSIVE


def test_a_host_that_never_answered_is_down() -> None:
    assert moved(LinkState.CONNECTING, LinkEvent.UNSEEN) is LinkState.DOWN
    assert moved(LinkState.DOWN, LinkEvent.LOST) is LinkState.DOWN


@pytest.mark.parametrize("state", CONNECTION)
def test_another_machine_is_refused_in_every_state(state: LinkState) -> None:
    assert moved(state, LinkEvent.REFUSED) is LinkState.DOWN


@pytest.mark.parametrize(("state", "event"), list(product(CONNECTION, LinkEvent)))
def test_up_comes_from_a_connection_alone_and_silence_ends_no_connection(
    state: LinkState, event: LinkEvent
) -> None:
    after = moved(state, event)
    assert after in CONNECTION
    if after is LinkState.UP and state is not LinkState.UP:
        assert event is LinkEvent.CONNECTED
    if state is LinkState.UP and event in (LinkEvent.SILENT, LinkEvent.UNSEEN):
        assert after is LinkState.UP


def test_maintenance_is_shown_and_never_a_state_of_the_connection() -> None:
    assert LinkState.MAINTENANCE not in {state for state, _ in NEXT} | set(NEXT.values())
    for state in CONNECTION:
        assert shown(state, maintenance=True) is LinkState.MAINTENANCE
        assert shown(state, maintenance=False) is state
