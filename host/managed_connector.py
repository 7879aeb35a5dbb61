"""What this host can attach, and what it tells of itself so that volumes are connected for it."""

from dataclasses import dataclass, field
from typing import Any

import structlog
import trio

from host.managed_helpers import OURS, Helpers
from processes import managed_helper, qemu_img
from processes.managed_helper import NAME, NoHelper
from protocol.errors import Error, ToolFailed
from protocol.managed import DRIVERS

log = structlog.get_logger()

TIME = 15.0  # seconds for a helper to tell
GOOD_TIME = 300.0  # seconds for which what was told is not asked again
BAD_TIME = 10.0  # seconds for which a failure is not tried again
# Drivers whose volumes may come by a url: QEMU must have its part for it.
_BY_QEMU = {"iscsi": "iscsi", "rbd": "rbd", "file": "nbd"}
# Those that only os-brick attaches.
_BY_OS_BRICK = ("lightos", "storpool")


@dataclass
class _Told:
    info: dict[str, Any] = field(default_factory=dict)
    drivers: list[str] = field(default_factory=list)
    until: float = -1.0


class Connector:
    """Not thread safe: it belongs to the trio thread."""

    def __init__(self, helpers: Helpers) -> None:
        self._helpers = helpers
        self._told = _Told()
        self._asking = trio.Lock()

    async def info(self) -> dict[str, Any]:
        """What our helper tells, which may be as it was some minutes ago; empty: it failed.

        A protocol.managed.Connector with more keys perhaps.
        """
        return (await self._fresh()).info

    async def drivers(self) -> list[str]:
        """The drivers whose volumes this host can attach without an adapter."""
        return (await self._fresh()).drivers

    async def _fresh(self) -> _Told:
        async with self._asking:
            if trio.current_time() >= self._told.until:
                self._told = await self._asked()
            return self._told

    async def _asked(self) -> _Told:
        drivers = [one for one in DRIVERS if await _known_to_qemu(one)]
        try:
            helper = managed_helper.find(None, (), OURS)
            outcome = await managed_helper.call(
                helper, "connector_info", None, seconds=TIME, environment=self._helpers.facts
            )
            failure = outcome.failure
        except NoHelper as e:
            outcome, failure = managed_helper.Outcome(), str(e)
        if failure is not None:
            log.warning("connector not told", helper=NAME, reason=failure)
            return _Told({}, [], trio.current_time() + BAD_TIME)
        info = dict(outcome.answer)
        has_os_brick = bool(info.pop("os_brick", False))
        usable = [one for one in drivers if has_os_brick or one not in _BY_OS_BRICK]
        return _Told(info, usable, trio.current_time() + GOOD_TIME)


async def _known_to_qemu(driver: str) -> bool:
    """Has QEMU what the volumes of a driver need? Others come as devices."""
    if driver not in _BY_QEMU:
        return True
    try:
        await qemu_img.info({"driver": _BY_QEMU[driver]})
    except ToolFailed as e:
        return "Unknown driver" not in e.detail  # that something is missing, it knows itself
    except Error:
        return False
    return True
