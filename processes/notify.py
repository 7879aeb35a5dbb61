"""What systemd is told of a service: that it is ready, alive, stopping. Source: sd_notify(3)."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

import structlog
import trio

log = structlog.get_logger()


@dataclass(frozen=True)
class Notifier:
    """address: of the socket of systemd; "": nobody is told.

    watchdog: seconds within which systemd wants to hear that we live; None: it does not watch.
    """

    address: str = ""
    watchdog: float | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """As systemd has set the environment of this process."""
        address = environment.get("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = f"\0{address[1:]}"  # an abstract one
        return cls(address, _watchdog(environment))

    def ready(self, status: str) -> None:
        """It serves. status: one line for people."""
        self._tell(f"READY=1\nSTATUS={status}")

    def stopping(self, status: str) -> None:
        """status: one line for people."""
        self._tell(f"STOPPING=1\nSTATUS={status}")

    async def stay_alive(self) -> None:
        """Tell that our loop turns, until cancelled: one that hangs is started anew."""
        if self.watchdog is None:
            return
        while True:
            self._tell("WATCHDOG=1")
            await trio.sleep(self.watchdog / 3)

    def _tell(self, state: str) -> None:
        """A manager that does not listen is no reason to stop."""
        if not self.address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
                one.setblocking(False)
                one.sendto(state.encode(), self.address)
        except OSError as e:
            log.warning("systemd was not told", state=state.partition("\n")[0], error=str(e))


def _watchdog(environment: Mapping[str, str]) -> float | None:
    """Source: sd_watchdog_enabled(3). WATCHDOG_PID: of the process that is watched."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    usec = environment.get("WATCHDOG_USEC", "")
    return int(usec) / 1_000_000 if usec.isdecimal() and int(usec) else None
