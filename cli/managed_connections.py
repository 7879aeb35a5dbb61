"""Which volumes this user has connected for which hosts: `managed-connections.json` in the home.

A connection is noted before the storage is asked for it, and struck out when it is ended: so that
whatever a crash leaves behind can be found, and be ended by who does not know the host any more.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal
from uuid import UUID

import msgspec

from cli.home import VARIABLE, home, locked, usable, write_atomically
from protocol.errors import BadParameter, ManagedVolumeInUse
from protocol.managed import Connector

FILE = "managed-connections.json"


class Connection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """host: the url of its agent; empty: this host. connector: what it told of itself.

    ended: the storage has shut the host out by force; it may list the volume still.
    """

    domain: UUID
    volume: UUID
    host: str
    connector: Connector
    ended: bool = False

    @property
    def key(self) -> tuple[UUID, UUID, str]:
        return self.domain, self.volume, self.host


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: Literal[1] = 1
    connections: list[Connection] = []


def connections() -> list[Connection]:
    """All of them. Raises BadParameter when the file is damaged."""
    return _read(home() / FILE)


def of_volume(domain: UUID, volume: UUID) -> list[Connection]:
    return [one for one in connections() if (one.domain, one.volume) == (domain, volume)]


def must_be_none(domain: UUID, volume: UUID | None = None) -> None:
    """Raises ManagedVolumeInUse (4207): a volume of the domain, or this one, is connected."""
    for one in connections():
        if one.domain == domain and volume in (None, one.volume) and not one.ended:
            reason = f"it is attached to {one.host or 'this host'}: detach it first"
            raise ManagedVolumeInUse(str(one.volume), reason)


async def put(connection: Connection) -> None:
    """In place of one of that volume and host."""
    await _change(lambda all: [*(one for one in all if one.key != connection.key), connection])


async def remove(gone: Connection) -> None:
    await _change(lambda all: [one for one in all if one.key != gone.key])


async def _change(change: Callable[[list[Connection]], list[Connection]]) -> None:
    path = home() / FILE
    async with locked(home()):
        changed = _File(connections=change(_read(path)))
        write_atomically(path, msgspec.json.format(msgspec.json.encode(changed)) + b"\n")


def _read(path: Path) -> list[Connection]:
    """A missing file knows nothing; a damaged one is an error, and is never written over."""
    try:
        with usable(path):
            content = path.read_bytes() if path.exists() else None
        return [] if content is None else msgspec.json.decode(content, type=_File).connections
    except (msgspec.DecodeError, UnicodeError, RecursionError) as e:
        raise BadParameter(VARIABLE, f"{path} is damaged ({e}): repair it") from None
