"""The managed volumes of this host: attached and detached by helper programs.

Every step of an attach is undone when a later one fails. What cannot be undone, or detached, stays
in the table, and can be detached again. Nothing counts as attached after a reboot.
Source: docs/managed.md.
"""

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import structlog
import trio

from endpoints.url import parse
from host import local, managed_place
from host.config import Config
from host.managed_connector import Connector
from host.managed_helpers import Helpers, Unsure, failed
from host.managed_place import Garbage, NotThere
from host.managed_use import Attached, Copies, Uses
from leases.steps import reached
from protocol.errors import (
    ManagedVolumeAlreadyAttached,
    ManagedVolumeConnectionMismatch,
    ManagedVolumeHelperFailed,
    UnsupportedOperation,
)
from protocol.managed import DRIVERS
from storage.managed_run import ManagedRun
from storage.managed_table import FILE, ManagedTable, ManagedVolume, boot_id

log = structlog.get_logger()

# Beside those of ours: what os-brick does when it is installed.
OS_BRICK_DRIVERS = ("fibre_channel", "nvmeof")
_LOOKS = 8  # at a time, at servers that may not answer


class ManagedVolumes:
    """Not thread safe: it belongs to the trio thread.

    uses: what copies use of them. connector: what this host can attach.
    """

    def __init__(self, table: ManagedTable, run: ManagedRun, helpers: Helpers, uses: Uses) -> None:
        self._table = table
        self._run = run
        self._helpers = helpers
        self.connector = Connector(helpers)
        self.uses = uses
        self._known: dict[str, ManagedVolume] = {}
        self._turns: WeakValueDictionary[str, trio.Lock] = WeakValueDictionary()

    @classmethod
    async def opened(
        cls, config: Config, hardware_id: str, copies: Copies, boot: str | None = None
    ) -> "ManagedVolumes":
        """Those that are attached. boot: id of this boot, when it is not that of the kernel.

        Raises as ManagedTable.opened.
        """
        await local.run(lambda: config.state.mkdir(mode=0o700, parents=True, exist_ok=True))
        here: str = await local.run(boot_id) if boot is None else boot
        table, forgotten = await local.run(ManagedTable.opened, config.state / FILE, here)
        run = ManagedRun(Path(config.managed.run))
        for one in forgotten:
            log.info("not attached any more: the host was rebooted", volume=one.vol_id)
            await local.run(run.remove, one.sd_id, one.vol_id)  # should the folder be on a disk
        made = cls(table, run, Helpers.of(config, hardware_id), Uses(copies))
        made._known = {one.vol_id: one for one in await local.run(table.all)}
        return made

    @property
    def attached(self) -> Attached:
        """What copies may use now."""
        known = self._known.values()
        usable = [one for one in known if one.vol_id not in self.uses.leaving]
        links = map(self.managed_path, usable)
        return Attached(
            str(self._run.folder),
            frozenset(link for link in links if link is not None),
            frozenset(parse(one.path) for one in usable if one.path is not None),
        )

    async def attach(self, vol_id: str, sd_id: str, connection: Mapping[str, Any]) -> ManagedVolume:
        """Attach a volume. connection: a protocol.managed.ConnectionInfo as it came.

        Raises UnsupportedOperation (2009), ManagedVolumeHelperFailed (926),
        ManagedVolumeAlreadyAttached (927), ManagedVolumeUnsupportedDevice (928),
        ManagedVolumeConnectionMismatch (929); NoSpaceLeft, OSError. Nothing is attached then, or
        the volume is listed and can be detached.
        """
        driver = connection["driver_volume_type"]
        if driver not in (*DRIVERS, *OS_BRICK_DRIVERS):
            known = ", ".join((*DRIVERS, *OS_BRICK_DRIVERS))
            raise UnsupportedOperation(f"the driver {driver!r:.80} is none of {known}")
        async with self._turn(vol_id):
            volume, begun = await self._new(ManagedVolume(vol_id, sd_id, connection))
            return await self._attach(volume, driver, begun=begun)

    async def detach(self, vol_id: str) -> None:
        """Detach a volume; one that is not known is detached already.

        Raises ManagedVolumeHelperFailed (926), ManagedVolumeInUse (4207): it stays listed, and
        attached as far as the helper has left it; NoSpaceLeft, OSError.
        """
        async with self._turn(vol_id):
            volume = self._known.get(vol_id)
            if volume is None:
                return
            async with self._unused(volume):
                await self._helpers.detach(volume, self._access(volume))
                reached("detach", "helper")
                await self._forget(volume)
            log.info("detached", volume=vol_id)

    async def info(self, vol_ids: Iterable[str] = ()) -> list[tuple[ManagedVolume, bool]]:
        """These volumes, or all, by id; those that are not known are left out.

        Each with whether its device is there, or its server takes connections.
        """
        wanted = set(vol_ids)
        found = [one for one in self._known.values() if not wanted or one.vol_id in wanted]
        there: dict[str, bool] = {}
        limiter = trio.CapacityLimiter(_LOOKS)

        async def look(volume: ManagedVolume) -> None:
            async with limiter:
                path = volume.path
                there[volume.vol_id] = path is not None and await managed_place.exists(path)

        async with trio.open_nursery() as nursery:
            for one in found:
                nursery.start_soon(look, one)
        return [(one, there[one.vol_id]) for one in sorted(found, key=lambda one: one.vol_id)]

    def managed_path(self, volume: ManagedVolume) -> str | None:
        """The link to its device; None: it is a url, or not attached."""
        if volume.path is None or not volume.path.startswith("/"):
            return None
        return str(self._run.link(volume.sd_id, volume.vol_id))

    def _check(self, volume: ManagedVolume, known: ManagedVolume | None) -> None:
        """Raises ManagedVolumeConnectionMismatch (929), ManagedVolumeAlreadyAttached (927)."""
        if known is None:
            return
        if known.connection != volume.connection:
            raise ManagedVolumeConnectionMismatch(volume.vol_id)
        if known.attached:
            raise ManagedVolumeAlreadyAttached(volume.vol_id)

    async def _new(self, volume: ManagedVolume) -> tuple[ManagedVolume, bool]:
        """The row of a volume that is to be attached, written; and was it begun before?

        Raises as `attach`.
        """
        known = self._known.get(volume.vol_id)
        self._check(volume, known)
        self._helpers.find(volume, "attach")  # before anything is done
        if known is not None:  # the helper is asked once more, to the same end
            log.info("attached anew: an attempt was cut off", volume=volume.vol_id)
            await local.run(self._run.remove, known.sd_id, known.vol_id)
        await self._put(volume)
        reached("attach", "row")
        return volume, known is not None

    async def _attach(self, volume: ManagedVolume, driver: str, *, begun: bool) -> ManagedVolume:
        done = _Done(helper=begun)
        try:
            made = await self._attached(volume, driver, done)
        except BaseException as e:
            error = e.error if isinstance(e, Unsure) else e
            log.warning("not attached", volume=volume.vol_id, reason=str(error))
            with trio.CancelScope(shield=True):  # each of its steps is bounded
                await self._undo(replace(volume, attachment=done.attachment), error, done)
            raise error from None
        log.info("attached", volume=volume.vol_id, driver=driver, path=made.path)
        return made

    async def _attached(self, volume: ManagedVolume, driver: str, done: "_Done") -> ManagedVolume:
        """The steps, each told to `done` when it may have been taken."""
        access = self._access(volume)
        await local.run(self._run.make_access, access)
        reached("attach", "access")
        helper = self._helpers.find(volume, "attach")
        before, done.helper = done.helper, True
        try:
            attachment = await self._helpers.attach(helper, volume, access)
        except ManagedVolumeHelperFailed:
            done.helper = before
            raise
        done.attachment = attachment
        reached("attach", "helper")
        try:
            found = managed_place.place(volume.vol_id, driver, attachment)
            await managed_place.appeared(volume.vol_id, found, self._helpers.config.device_time)
        except (Garbage, NotThere) as e:
            raise failed(helper, "attach", volume, str(e)) from None
        reached("attach", "appeared")
        made = replace(
            volume, path=found.path, attachment=attachment, multipath_id=found.multipath_id
        )
        if link := self.managed_path(made):
            await local.run(self._run.make_link, Path(link), found.path)
            reached("attach", "link")
        await self._put(made)
        reached("attach", "stored")
        return made

    async def _undo(self, volume: ManagedVolume, error: BaseException, done: "_Done") -> None:
        """Raises ManagedVolumeHelperFailed, which tells both errors, when it cannot be undone."""
        try:
            if done.helper:
                await self._helpers.detach(volume, self._access(volume))
            await self._forget(volume)
        except Exception as e:
            log.error("not undone", volume=volume.vol_id, reason=str(e))
            if not isinstance(error, Exception):
                return
            reason = f"{error}; it could not be undone: {e}; detach the volume"
            helper = self._helpers.find(volume, "attach")
            raise ManagedVolumeHelperFailed(helper.name, "attach", reason) from error

    async def _forget(self, volume: ManagedVolume) -> None:
        """Remove what we made for it; the row last: as long as it is there this can be repeated."""
        await local.run(self._run.remove, volume.sd_id, volume.vol_id)
        reached("detach", "link")
        await local.run(self._table.remove, volume.vol_id)
        self._known.pop(volume.vol_id)
        reached("detach", "row")

    async def _put(self, volume: ManagedVolume) -> None:
        await local.run(self._table.put, volume)
        self._known[volume.vol_id] = volume

    @asynccontextmanager
    async def _turn(self, vol_id: str) -> AsyncGenerator[None]:
        async with self._turns.setdefault(vol_id, trio.Lock()):
            yield

    @asynccontextmanager
    async def _unused(self, volume: ManagedVolume) -> AsyncGenerator[None]:
        if volume.path is None:
            yield  # no copy was ever let near it
            return
        async with self.uses.none(volume.vol_id, volume.path):
            yield

    def _access(self, volume: ManagedVolume) -> Path:
        return self._run.access(volume.sd_id, volume.vol_id)


@dataclass
class _Done:
    """How far an attach came. helper: it may have attached the volume, now or in an attempt that
    was cut off."""

    helper: bool = False
    attachment: Mapping[str, Any] | None = None
