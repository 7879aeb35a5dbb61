"""Whether this host still renews its membership in a lockspace, as the others see it on storage."""

import time

from leases import delta
from leases.geometry import Geometry
from protocol.errors import InvalidDomain

FRESH = 3  # times io_timeout; the daemon renews at every second
LIMIT = 8  # times io_timeout; from then on the daemon itself gives the lockspace up
_LEAST_IO_TIMEOUT = 1  # seconds, until it was read


class Renewals:
    """The membership of host `host_id` in its life `generation`, in the lockspace file `path`.

    The daemon is not asked: one that is stopped would not answer, and renews nothing.
    """

    def __init__(self, path: str, host_id: int, generation: int, geometry: Geometry) -> None:
        self._path = path
        self._host_id = host_id
        self._generation = generation
        self._geometry = geometry
        self._last = time.monotonic()  # the clock of the daemon: CLOCK_MONOTONIC of this host
        self._io_timeout = _LEAST_IO_TIMEOUT

    def missed(self) -> str | None:
        """Why the leases of this membership may be another host's by now, or None. Blocks."""
        if time.monotonic() - self._last <= FRESH * self._io_timeout:
            return None
        try:
            own = delta.read(self._path, self._host_id, self._geometry)
        except (OSError, ValueError, InvalidDomain):
            pass  # as the daemon, bear with storage that fails for a while
        else:
            if own.owner_generation != self._generation:
                return "this host has joined the lockspace anew"
            if not own.timestamp:
                return "this host has left the lockspace"
            self._last = own.timestamp
            self._io_timeout = own.io_timeout or _LEAST_IO_TIMEOUT
        silent = time.monotonic() - self._last
        if silent > LIMIT * self._io_timeout:
            return f"this host has not renewed its membership for {silent:.0f} s"
        return None
