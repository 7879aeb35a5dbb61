"""What the engine thinks of a host, as one table. Pure."""

from collections.abc import Mapping
from enum import StrEnum


class LinkState(StrEnum):
    """Of a host. MAINTENANCE is what people are shown instead of the others: see `shown`."""

    CONNECTING = "connecting"  # nothing was heard yet, or it was up a moment ago
    UP = "up"  # connected, and it has told who it is
    NON_RESPONSIVE = "non_responsive"  # it was up once, and has been silent for the grace
    DOWN = "down"  # it never answered, or another machine answers in its place
    MAINTENANCE = "maintenance"  # the operator wants nothing new on it


class LinkEvent(StrEnum):
    """What happens to the connection of a host."""

    CONNECTED = "connected"  # and it is the machine that we know
    LOST = "the connection was lost, or none could be made"
    SILENT = "nothing for the grace, from a host that was up once"
    UNSEEN = "nothing for the grace, from a host that was never up"
    REFUSED = "another machine answers"


_NOT_UP = (LinkState.CONNECTING, LinkState.NON_RESPONSIVE, LinkState.DOWN)

# The whole machine; an event that a state does not name changes nothing.
NEXT: Mapping[tuple[LinkState, LinkEvent], LinkState] = {
    **{(state, LinkEvent.CONNECTED): LinkState.UP for state in _NOT_UP},
    **{(state, LinkEvent.REFUSED): LinkState.DOWN for state in (*_NOT_UP, LinkState.UP)},
    (LinkState.UP, LinkEvent.LOST): LinkState.CONNECTING,
    (LinkState.CONNECTING, LinkEvent.SILENT): LinkState.NON_RESPONSIVE,
    (LinkState.CONNECTING, LinkEvent.UNSEEN): LinkState.DOWN,
}


def moved(state: LinkState, event: LinkEvent) -> LinkState:
    """The state after an event."""
    return NEXT.get((state, event), state)


def shown(state: LinkState, *, maintenance: bool) -> LinkState:
    """The state for people: a host in maintenance keeps its connection, and is asked as before."""
    return LinkState.MAINTENANCE if maintenance else state
