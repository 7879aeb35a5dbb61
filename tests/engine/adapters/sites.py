"""What tests of one adapter share."""

from pathlib import Path

from engine.adapters.file import FileAdapter
from engine.adapters.file import Options as FileOptions
from engine.adapters.tgt import Options as TgtOptions
from engine.adapters.tgt import TgtAdapter
from protocol.managed import Connector
from tests.tgt_server import TgtServer

HOST1 = Connector("host1", initiator="iqn.2026-01.org.example:host1")
HOST2 = Connector("host2", initiator="iqn.2026-01.org.example:host2")


def file_adapter(path: Path) -> FileAdapter:
    return FileAdapter(FileOptions(str(path)))


def tgt_adapter(path: Path, server: TgtServer, **options: object) -> TgtAdapter:
    return TgtAdapter(
        TgtOptions(str(path), server.portal, server.socket, chap=bool(options.get("chap")))
    )
