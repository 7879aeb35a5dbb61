"""A host at one moment, for whoever chooses one or shows it. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from engine.capabilities import Capabilities
from engine.host_states import LinkState
from engine.names import with_id


@dataclass(frozen=True)
class HostView:
    """state: of its connection, or MAINTENANCE. reason: why it is not connected, "" when it is.

    up: it is connected, whether in maintenance or not. capabilities: as told last; None: never.
    twin: why no managed volumes are connected for it (engine/twins.py), "" when they are.
    """

    id: str
    name: str
    state: LinkState
    reason: str
    up: bool
    maintenance: bool
    capabilities: Capabilities | None
    twin: str = ""

    @property
    def problem(self) -> str:
        """Why it is not connected, or not all that it could do is used; "" when it is."""
        twin = f"it gets no managed volumes: {self.twin}" if self.twin else ""
        return self.reason or twin

    @property
    def called(self) -> str:
        return with_id(self.name, self.id)


def connecting(views: Iterable[HostView]) -> bool:
    """Is there one of which it is not known yet whether it answers? As when an engine has begun."""
    return any(view.state is LinkState.CONNECTING for view in views)


def called_of(views: Iterable[HostView], host: str) -> str:
    """The name and the id of a host for people; the id alone, if there is no such host any more."""
    return next((view.called for view in views if view.id == host), host)
