"""The hosts that volumes are attached to: this one, or one with an agent."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import msgspec

from cli.agent import environment
from cli.answers import read
from cli.hardware import hardware_id
from cli.home import home
from cli.remote import Remote
from host import config_file
from host.config import Config
from host.managed import ManagedVolumes
from host.managed_use import Named
from protocol.errors import BadParameter, ManagedVolumeHelperFailed
from protocol.managed import Connector
from storage.managed_table import FILE

FOLDER = "managed"  # in the home: what is attached to this host without an agent
ATTACH_TIME = 300.0  # seconds for an agent, whose helpers have some minutes themselves


class Attachment(msgspec.Struct, frozen=True):
    """path: of the device, or its url. managed_path: a link to the device; None: it is a url."""

    path: str
    managed_path: str | None = None
    attachment: dict[str, Any] | None = None


class Row(msgspec.Struct, frozen=True):
    """A volume that a host lists. path: None, an attach was cut off. exists: it can be used."""

    vol_id: UUID
    sd_id: UUID
    path: str | None = None
    managed_path: str | None = None
    exists: bool = False


class Host(Protocol):
    """url: of its agent; empty: this host. All raise what the verbs ManagedVolume.* do."""

    url: str

    async def connector(self) -> Connector: ...

    async def attach(self, volume: str, sd_id: str, connection: dict[str, Any]) -> Attachment: ...

    async def detach(self, volume: str) -> None: ...

    async def rows(self, volumes: Iterable[str] = ()) -> list[Row]:
        """Of these volumes, or all that the host lists."""
        ...


class Here:
    """This host, as long as the command runs: a small agent of its own, which keeps its table in
    the home, apart from that of an agent."""

    url = ""

    async def connector(self) -> Connector:
        volumes = await self._volumes()
        return _connector(await volumes.connector.info(), "this host")

    async def attach(self, volume: str, sd_id: str, connection: dict[str, Any]) -> Attachment:
        volumes = await self._volumes()
        made = await volumes.attach(volume, sd_id, connection)
        attachment = None if made.attachment is None else dict(made.attachment)
        return Attachment(str(made.path), volumes.managed_path(made), attachment)

    async def detach(self, volume: str) -> None:
        await (await self._volumes()).detach(volume)

    async def rows(self, volumes: Iterable[str] = ()) -> list[Row]:
        if not (home() / FOLDER / FILE).exists():  # who only looks makes nothing
            return []
        known = await self._volumes()
        return [
            Row(UUID(one.vol_id), UUID(one.sd_id), one.path, known.managed_path(one), exists)
            for one, exists in await known.info(volumes)
        ]

    async def _volumes(self) -> ManagedVolumes:
        return await ManagedVolumes.opened(_config(), await hardware_id(), _no_jobs)


class There:
    """A host with an agent."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self.url = remote.name

    async def connector(self) -> Connector:
        told = read(await self._call("Host.getCapabilities"), _Capabilities, self.url)
        return _connector(told.connector_info, self.url)

    async def attach(self, volume: str, sd_id: str, connection: dict[str, Any]) -> Attachment:
        params = {"vol_id": volume, "sd_id": sd_id, "connection_info": connection}
        told = await self._call("ManagedVolume.attach_volume", **params)
        return read(told, Attachment, self.url)

    async def detach(self, volume: str) -> None:
        await self._call("ManagedVolume.detach_volume", vol_id=volume)

    async def rows(self, volumes: Iterable[str] = ()) -> list[Row]:
        told = await self._call("ManagedVolume.volumes_info", vol_ids=list(volumes))
        return read(told, list[Row], self.url)

    async def _call(self, method: str, **params: Any) -> Any:
        async with self._remote.connected() as client:
            time = max(self._remote.timeout, ATTACH_TIME)
            return await client.call(method, params, timeout=time, flow_id=self._remote.flow_id)


class _Capabilities(msgspec.Struct):
    connector_info: dict[str, Any] = {}


def _connector(info: dict[str, Any], host: str) -> Connector:
    try:
        return msgspec.convert(info, Connector)
    except msgspec.ValidationError as e:
        reason = str(e) if info else f"{host} does not say who it is; its log tells why"
        raise ManagedVolumeHelperFailed("managedvolume-helper", "connector_info", reason) from None


def _config() -> Config:
    """What the agent would read, but for where it keeps things."""
    config = config_file.load(None, environment())
    folder = home() / FOLDER
    return msgspec.structs.replace(
        config,
        folders=msgspec.structs.replace(config.folders, state=_checked(folder)),
        managed=msgspec.structs.replace(config.managed, run=_checked(folder / "run")),
    )


def _checked(path: Path) -> str:
    if not str(path).isprintable():
        raise BadParameter("LEASEHOLD_HOME", f"{str(path)!r:.200} is not printable text")
    return str(path)


async def _no_jobs() -> list[Named]:
    """Copies of this host, foreground ones too, hold the locks of their disks: that is enough."""
    return []
