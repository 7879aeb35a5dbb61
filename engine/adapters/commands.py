"""The commands of an adapter, as words: what each takes, and what it answers with.

Source: the adapters of oVirt's engine, and docs/adapters.md for what is ours: revert_to_snapshot,
list_volumes, volume_info, and the arguments in brackets.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.adapters.adapter import Adapter
from engine.adapters.names import checked, new_id
from protocol.errors import BadParameter
from protocol.managed import Connector

GIB_LIMIT = 1 << 23  # 8 EiB, an off_t


@dataclass(frozen=True)
class Command:
    """usage: its arguments, as words; those in brackets may be left out."""

    usage: str
    call: Callable[..., Awaitable[Any]]

    async def run(self, adapter: Adapter, arguments: Sequence[str]) -> Any:
        """Raises BadParameter (1000), and what the adapter raises."""
        words = self.usage.split()
        least = sum(not word.startswith("[") for word in words)
        if not least <= len(arguments) <= len(words):
            raise BadParameter("arguments", f"{len(arguments)} of them; expected: {self.usage}")
        return await self.call(adapter, *arguments)


async def _create(adapter: Adapter, volume: str, gib: str) -> Any:
    return await adapter.create_volume(checked("volume", volume), _gib(gib))


async def _delete(adapter: Adapter, volume: str) -> None:
    await adapter.delete_volume(checked("volume", volume))


async def _connect(adapter: Adapter, volume: str, connector: str) -> Any:
    return await adapter.connect_volume(checked("volume", volume), _connector(connector))


async def _disconnect(adapter: Adapter, volume: str, connector: str = "") -> None:
    await adapter.disconnect_volume(checked("volume", volume), _optional(connector))


async def _extend(adapter: Adapter, volume: str, gib: str) -> None:
    await adapter.extend_volume(checked("volume", volume), _gib(gib))


async def _save_device(adapter: Adapter, volume: str, device: str, connector: str = "") -> None:
    found = _json("device", device)
    await adapter.save_device(checked("volume", volume), found, _optional(connector))


async def _connection_info(adapter: Adapter, volume: str, connector: str = "") -> Any:
    return await adapter.get_connection_info(checked("volume", volume), _optional(connector))


async def _stats(adapter: Adapter, refresh: str = "") -> Any:  # ours are always fresh
    return await adapter.storage_stats()


async def _clone(adapter: Adapter, volume: str, new: str) -> None:
    _differ(volume, new)
    await adapter.clone_volume(checked("volume", volume), checked("new", new))


async def _snapshot(adapter: Adapter, volume: str, snapshot: str = "") -> str:
    name = checked("snapshot", snapshot or new_id())
    await adapter.create_snapshot(checked("volume", volume), name)
    return name


async def _remove_snapshot(adapter: Adapter, snapshot: str, volume: str) -> None:
    await adapter.remove_snapshot(checked("volume", volume), checked("snapshot", snapshot))


async def _from_snapshot(adapter: Adapter, volume: str, snapshot: str, new: str = "") -> str:
    name = checked("new", new or new_id())
    _differ(volume, name)
    await adapter.create_volume_from_snapshot(
        checked("volume", volume), checked("snapshot", snapshot), name
    )
    return name


async def _revert(adapter: Adapter, volume: str, snapshot: str) -> None:
    await adapter.revert_to_snapshot(checked("volume", volume), checked("snapshot", snapshot))


async def _list(adapter: Adapter) -> Any:
    return await adapter.list_volumes()


async def _info(adapter: Adapter, volume: str) -> Any:
    return await adapter.volume_info(checked("volume", volume))


COMMANDS = {
    "create_volume": Command("VOLUME GIB", _create),
    "delete_volume": Command("VOLUME", _delete),
    "connect_volume": Command("VOLUME CONNECTOR", _connect),
    "disconnect_volume": Command("VOLUME [CONNECTOR]", _disconnect),
    "extend_volume": Command("VOLUME GIB", _extend),
    "save_device": Command("VOLUME DEVICE [CONNECTOR]", _save_device),
    "get_connection_info": Command("VOLUME [CONNECTOR]", _connection_info),
    "storage_stats": Command("[REFRESH]", _stats),
    "clone_volume": Command("VOLUME NEW", _clone),
    "create_snapshot": Command("VOLUME [SNAPSHOT]", _snapshot),
    "remove_snapshot": Command("SNAPSHOT VOLUME", _remove_snapshot),
    "create_volume_from_snapshot": Command("VOLUME SNAPSHOT [NEW]", _from_snapshot),
    "revert_to_snapshot": Command("VOLUME SNAPSHOT", _revert),
    "list_volumes": Command("", _list),
    "volume_info": Command("VOLUME", _info),
}


def _gib(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < GIB_LIMIT):
        raise BadParameter("size", f"{text!r:.80} is no number of GiB")
    return int(text)


def _optional(connector: str) -> Connector | None:
    return _connector(connector) if connector else None


def _connector(text: str) -> Connector:
    try:
        connector = msgspec.json.decode(text, type=Connector)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise BadParameter("connector", str(e)) from None
    if not connector.host:
        raise BadParameter("connector", "its host has no name")
    return connector


def _json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise BadParameter(name, str(e)) from None


def _differ(volume: str, new: str) -> None:
    if volume == new:
        raise BadParameter("new", "it is the volume itself")
