"""Which hosts a volume is connected for: one file for each, beside the volume."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec

from processes import atomic_file
from protocol.errors import ManagedStorageFailed
from protocol.managed import Connector

ENDING = ".ending.json"


class Connection(msgspec.Struct, omit_defaults=True):
    """connector: of the host. facts: the adapter's own, which may be secret. device: as saved.

    ending: the host is being shut out, by a command that may have died. The name of the file says
    so: to shut a host out must not take room, of which there may be none.
    """

    connector: Connector
    facts: dict[str, Any] = {}
    device: Any = None
    ending: bool = False


def key_of(connector: Connector) -> str:
    """What two connectors of one host have in common, as part of a name: 16 hex digits."""
    return hashlib.sha256(connector.host.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Connections:
    """folder: of one volume. The files can be read by their owner only."""

    folder: Path

    @classmethod
    def of(cls, volume: Path) -> Self:
        return cls(volume / "connections")

    def get(self, connector: Connector) -> Connection | None:
        paths = (self._path(connector), self._ending(connector))
        return next((_read(path) for path in paths if path.exists()), None)

    def all(self) -> list[Connection]:
        """In the order of their keys. Raises ManagedStorageFailed."""
        return [_read(path) for path in self._files()]

    def hosts(self) -> list[str]:
        return sorted(connection.connector.host for connection in self.all())

    def put(self, connection: Connection) -> None:
        """Of a host that is let in."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        atomic_file.write(self._path(connection.connector), msgspec.json.encode(connection))

    def end(self, connection: Connection) -> None:
        """From now on its host is being shut out."""
        if not connection.ending:
            self._path(connection.connector).rename(self._ending(connection.connector))
            atomic_file.sync_folder(self.folder)

    def remove(self, connector: Connector) -> None:
        for path in (self._path(connector), self._ending(connector)):
            path.unlink(missing_ok=True)
        if self.folder.exists():
            atomic_file.sync_folder(self.folder)

    def _path(self, connector: Connector) -> Path:
        return self.folder / f"{key_of(connector)}.json"

    def _ending(self, connector: Connector) -> Path:
        return self.folder / f"{key_of(connector)}{ENDING}"

    def _files(self) -> Iterator[Path]:
        return iter(sorted(self.folder.glob("[0-9a-f]*.json")))


def _read(path: Path) -> Connection:
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Connection)
    except (OSError, msgspec.MsgspecError, UnicodeError) as e:
        raise ManagedStorageFailed(f"{path}: {e}") from None
    found.ending = path.name.endswith(ENDING)
    return found
