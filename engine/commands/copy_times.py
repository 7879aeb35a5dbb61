"""How long the stages of a copy wait, and how often they ask."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CopyTimes:
    """Seconds. attach: for a host to attach or detach a volume. silent: that a host which is not
    connected gets to come back, before the storage shuts it out. calls: how often a call is made
    whose answer was lost; pause: between them. room: that a copy waits for a host below its limits;
    look: between two looks whether there is one. met: that hosts get to connect, when the engine
    has just begun. leftovers: between two tries to tidy up on hosts that were silent.
    """

    attach: float = 300.0
    silent: float = 5.0
    calls: int = 4
    pause: float = 1.0
    room: float = 3600.0
    look: float = 2.0
    met: float = 15.0
    leftovers: float = 60.0
