"""A host at one moment, for whoever chooses one or shows it. Pure."""

from dataclasses import dataclass

from engine.capabilities import Capabilities
from engine.host_states import LinkState


@dataclass(frozen=True)
class HostView:
    """state: of its connection, or MAINTENANCE. reason: why it is not connected, "" when it is.

    up: it is connected, whether in maintenance or not. capabilities: as told last; None: never.
    """

    id: str
    name: str
    state: LinkState
    reason: str
    up: bool
    maintenance: bool
    capabilities: Capabilities | None
