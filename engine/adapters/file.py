"""file-adapter: volumes as sparse files in a folder of this host. It needs nothing but qemu-nbd.

Driver options: {"adapter": "file", "path": "/absolute/folder"}.

Each host that a volume is connected for has a qemu-nbd of its own, which goes on when this program
ends. Disconnect ends that server, and so everything that can write for the host.
"""

import os
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from engine.adapters import blocking, program, sparse_file
from engine.adapters.connections import Connection, key_of
from engine.adapters.file_volumes import FileVolumes
from processes import qemu_nbd
from processes.image_node import Node
from processes.nbd_url import unix_uri
from protocol.managed import ConnectionInfo, Connector

EXPORT = "vol"
_SHORT = "lh-nbd-"  # of a folder for a socket whose path would be too long elsewhere


class Options(msgspec.Struct):
    """path: the folder of the volumes."""

    path: str


class FileAdapter(FileVolumes):
    protocol = "nbd"

    def __init__(self, options: Options) -> None:
        super().__init__(options.path)

    def _new_connection(self, volume: str, connector: Connector) -> Connection:
        return Connection(connector, {"socket": self._socket(volume, connector)})

    def _socket(self, volume: str, connector: Connector) -> str:
        """Its path, in a folder that only we can enter: NBD itself asks for no password."""
        name = sha256(f"{volume} {key_of(connector)}".encode()).hexdigest()[:16]
        path = self._files.folder / "run" / name
        if len(os.fsencode(path)) <= qemu_nbd.SOCKET_LIMIT:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            return str(path)
        return str(Path(tempfile.mkdtemp(prefix=_SHORT, dir="/tmp"), name))

    async def _connected(self, volume: str, connection: Connection) -> ConnectionInfo:
        disk = self._files.disk(volume)
        if not _has_folder(connection.facts["socket"]):  # the host was rebooted
            connection.facts["socket"] = self._socket(volume, connection.connector)
            self._files.connections(volume).put(connection)
        socket = connection.facts["socket"]
        if not qemu_nbd.servers(socket):
            qemu_nbd.serve(_node(disk), socket, EXPORT)
        data = {"url": unix_uri(socket, EXPORT), "volume_id": volume, "size": disk.stat().st_size}
        return ConnectionInfo("file", data, adapter="file")

    async def _cut(self, volume: str, connection: Connection) -> None:
        socket = connection.facts["socket"]
        qemu_nbd.end(socket)
        sparse_file.sync(self._files.disk(volume))
        folder = Path(socket).parent
        if folder.name.startswith(_SHORT):
            shutil.rmtree(folder, ignore_errors=True)


def _has_folder(socket: str) -> bool:
    return Path(socket).parent.exists()


def _node(disk: Path) -> Node:
    """Not locked: the servers of two hosts may have it open, while a machine moves between them."""
    file: dict[str, Any] = {"driver": "file", "filename": str(disk), "locking": "off"}
    file |= {"discard": "unmap", "cache": {"direct": sparse_file.takes_direct(disk)}}
    return {"driver": "raw", "discard": "unmap", "file": file}


def main() -> int:
    return program.main(Options, FileAdapter, blocking.finished)


if __name__ == "__main__":
    sys.exit(main())
