"""What adapters have in common whose volumes are files in a folder (VolumeFiles): all but the ways
in which a host is let in and shut out."""

import os
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from engine.adapters.adapter import Adapter, Created, Stats, VolumeInfo
from engine.adapters.connections import Connection
from engine.adapters.volume_files import VolumeFiles
from protocol.errors import BadParameter, Error, ManagedVolumeInUse
from protocol.managed import GIB, ConnectionInfo, Connector


class FileVolumes(Adapter):
    """path: of the folder; it is made when it is missing."""

    protocol: ClassVar[str]

    def __init__(self, path: str) -> None:
        if not os.path.isabs(path):
            raise BadParameter("driver options", "path must be absolute")
        self._files = VolumeFiles(Path(path))

    @abstractmethod
    async def _connected(self, volume: str, connection: Connection) -> ConnectionInfo:
        """Let in the host of a connection that is recorded; as often as it is asked for."""

    @abstractmethod
    async def _cut(self, volume: str, connection: Connection) -> None:
        """Shut its host out."""

    async def _cut_all(self, volume: str) -> None:
        """Shut out who is let in without a record, too."""

    async def create_volume(self, volume: str, gib: int) -> Created:
        with self._files.lock(volume):
            return Created(self._files.create(volume, gib))

    async def delete_volume(self, volume: str) -> None:
        with self._files.lock(volume):
            self._files.delete(volume)

    async def connect_volume(self, volume: str, connector: Connector) -> ConnectionInfo:
        with self._files.lock(volume):
            records = self._files.connections(volume)
            connection = records.get(connector)
            if connection is not None and connection.ending:
                await self._ended(volume, connection)
                connection = None
            if connection is None:
                connection = self._new_connection(volume, connector)
                records.put(connection)  # first: what is let in can always be found
            elif not self._is_known(connection.connector, connector):
                reason = f"it is connected for another host that is called {connector.host}"
                raise ManagedVolumeInUse(volume, reason)
            return await self._connected(volume, connection)

    def _new_connection(self, volume: str, connector: Connector) -> Connection:
        return Connection(connector)

    def _is_known(self, host: Connector, connector: Connector) -> bool:
        """Can who calls itself like a host that is let in come in by what was done for that?"""
        return True

    async def disconnect_volume(self, volume: str, connector: Connector | None) -> None:
        with self._files.lock(volume):
            records = self._files.connections(volume)
            found = records.all() if connector is None else [records.get(connector)]
            failures = []
            for connection in found:
                if connection is not None:
                    records.end(connection)
                    try:
                        await self._ended(volume, connection)
                    except (Error, OSError) as e:  # one that hangs does not spare the others
                        failures.append(e)
            if connector is None:
                await self._cut_all(volume)
            if failures:
                raise failures[0]

    async def _ended(self, volume: str, connection: Connection) -> None:
        await self._cut(volume, connection)
        self._files.connections(volume).remove(connection.connector)

    async def extend_volume(self, volume: str, gib: int) -> None:
        with self._files.lock(volume):
            self._files.extend(volume, gib)

    async def save_device(self, volume: str, device: Any, connector: Connector | None) -> None:
        with self._files.lock(volume):
            connection = self._the_one(volume, connector)
            connection.device = device
            self._files.connections(volume).put(connection)

    async def get_connection_info(self, volume: str, connector: Connector | None) -> dict[str, Any]:
        with self._files.lock(volume):
            connection = self._the_one(volume, connector)
            info: dict[str, Any] = msgspec.to_builtins(await self._connected(volume, connection))
            return info | ({} if connection.device is None else {"device": connection.device})

    def _the_one(self, volume: str, connector: Connector | None) -> Connection:
        records = self._files.connections(volume)
        found = records.all() if connector is None else [records.get(connector)]
        if len(found) != 1 or found[0] is None or found[0].ending:
            raise ManagedVolumeInUse(volume, f"it is connected for {records.hosts() or 'no host'}")
        return found[0]

    async def storage_stats(self) -> Stats:
        with self._files.lock():
            room = os.statvfs(self._files.folder)
        total, free = room.f_blocks * room.f_frsize, room.f_bavail * room.f_frsize
        return Stats(total / GIB, free / GIB, self.protocol, str(self._files.folder))

    async def clone_volume(self, volume: str, new: str) -> None:
        with self._files.lock(volume, new):
            self._files.clone(volume, new)

    async def create_snapshot(self, volume: str, snapshot: str) -> None:
        with self._files.lock(volume):
            self._files.create_snapshot(volume, snapshot)

    async def remove_snapshot(self, volume: str, snapshot: str) -> None:
        with self._files.lock(volume):
            self._files.remove_snapshot(volume, snapshot)

    async def create_volume_from_snapshot(self, volume: str, snapshot: str, new: str) -> None:
        with self._files.lock(volume, new):
            self._files.create_from_snapshot(volume, snapshot, new)

    async def revert_to_snapshot(self, volume: str, snapshot: str) -> None:
        with self._files.lock(volume):
            self._files.revert(volume, snapshot)

    async def list_volumes(self) -> list[str]:
        return self._files.ids()

    async def volume_info(self, volume: str) -> VolumeInfo:
        with self._files.lock(volume):
            return VolumeInfo(
                self._files.size(volume),
                self._files.snapshots(volume),
                self._files.connections(volume).hosts(),
            )
