"""The volumes of a managed block storage domain, through its adapter: the commands with types."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from engine.adapter_programs import AdapterPrograms, Driver
from protocol.errors import (
    AdapterFailed,
    AdapterGarbage,
    NoSuchManagedSnapshot,
    NoSuchManagedVolume,
    UnsupportedOperation,
)
from protocol.managed import ConnectionInfo, Connector

_ID = re.compile(r"[!-~]{1,255}", re.ASCII)
# What cinderlib's client, and who follows it, says in place of an error, or as one. It forgets to
# put the id in. Without either it would be about something else: a volume group, a volume type.
_NOT_FOUND = (
    r"(volume|snapshot) '?(?:%s|{ids})'? (?:(?:was|could) )?(?:not (?:be )?found|does not exist)"
)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Times:
    """Seconds until an adapter is killed. data: of commands that may move all data of a volume."""

    short: float = 120.0
    data: float = 4 * 3600.0


class Stats(msgspec.Struct, frozen=True):
    """GiB; drivers also say such things as "infinite" and "unknown"."""

    total_capacity_gb: float | str | None = None
    free_capacity_gb: float | str | None = None


class VolumeInfo(msgspec.Struct, frozen=True):
    """size: bytes. hosts: that it is connected for."""

    size: int
    snapshots: list[str]
    hosts: list[str]


class _Created(msgspec.Struct, frozen=True):
    created: bool = False


@dataclass(frozen=True)
class ManagedStorage:
    """A domain. Every method raises what AdapterPrograms.call does, and AdapterGarbage.

    NoSuchManagedVolume, NoSuchManagedSnapshot: what is named is not there. After AdapterFailed,
    AdapterGarbage and AdapterStalled it is not known what was done.
    """

    driver: Driver
    programs: AdapterPrograms = field(default_factory=AdapterPrograms)
    times: Times = field(default_factory=Times)

    @property
    def is_ours(self) -> bool:
        """An adapter of ours takes ids for new snapshots and single hosts to disconnect; a vendor's
        makes up the ids, and disconnects every host."""
        return self.programs.program(self.driver).ours

    async def create_volume(self, volume: str, gib: int) -> bool:
        """Whether it is known to read as zeros: made just now, by an adapter that tells so."""
        answer = await self._call("create_volume", volume, str(gib))
        if not answer:
            return False
        try:
            return msgspec.json.decode(answer, type=_Created).created
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False  # whatever a vendor's adapter says there

    async def delete_volume(self, volume: str) -> None:
        await self._call("delete_volume", volume, seconds=self.times.data)

    async def connect_volume(self, volume: str, connector: Connector) -> ConnectionInfo:
        answer = await self._call("connect_volume", volume, _text(connector))
        return self._decoded("connect_volume", answer, ConnectionInfo)

    async def disconnect_volume(self, volume: str, connector: Connector | None = None) -> None:
        """Shut a host out, by force. None: every host; an adapter of a vendor always does that."""
        one = [] if connector is None or not self.is_ours else [_text(connector)]
        await self._call("disconnect_volume", volume, *one)

    async def extend_volume(self, volume: str, gib: int) -> None:
        await self._call("extend_volume", volume, str(gib))

    async def save_device(
        self, volume: str, device: Mapping[str, Any], connector: Connector | None = None
    ) -> None:
        text = msgspec.json.encode(device).decode()
        one = [] if connector is None or not self.is_ours else [_text(connector)]
        await self._call("save_device", volume, text, *one)

    async def get_connection_info(
        self, volume: str, connector: Connector | None = None
    ) -> dict[str, Any]:
        one = [] if connector is None or not self.is_ours else [_text(connector)]
        answer = await self._call("get_connection_info", volume, *one)
        return self._decoded("get_connection_info", answer, dict[str, Any])

    async def storage_stats(self) -> Stats:
        answer = await self._call("storage_stats", "true")
        return self._decoded("storage_stats", answer, Stats)

    async def clone_volume(self, volume: str, new: str) -> None:
        await self._call("clone_volume", volume, new, seconds=self.times.data)

    async def create_snapshot(self, volume: str, snapshot: str | None = None) -> str:
        """Its id. snapshot: the id that it is to have, where the adapter is ours; with that, a call
        whose answer was lost can be repeated."""
        chosen = [snapshot] if snapshot is not None and self.is_ours else []
        seconds = self.times.data
        answer = await self._call("create_snapshot", volume, *chosen, seconds=seconds)
        return self._id("create_snapshot", answer)

    async def remove_snapshot(self, volume: str, snapshot: str) -> None:
        await self._call("remove_snapshot", snapshot, volume, seconds=self.times.data)

    async def create_volume_from_snapshot(
        self, volume: str, snapshot: str, new: str | None = None
    ) -> str:
        """The id of the new volume; `new` as in create_snapshot."""
        command = "create_volume_from_snapshot"
        chosen = [new] if new is not None and self.is_ours else []
        seconds = self.times.data
        answer = await self._call(command, volume, snapshot, *chosen, seconds=seconds)
        return self._id(command, answer)

    async def revert_to_snapshot(self, volume: str, snapshot: str) -> None:
        """Not a command of oVirt: a vendor's adapter may not know it, which is AdapterFailed."""
        await self._call("revert_to_snapshot", volume, snapshot, seconds=self.times.data)

    async def list_volumes(self) -> list[str]:
        """Adapters of ours only: UnsupportedOperation (2009)."""
        self._must_be_ours("list_volumes")
        return self._decoded("list_volumes", await self._call("list_volumes"), list[str])

    async def volume_info(self, volume: str) -> VolumeInfo:
        """Adapters of ours only: UnsupportedOperation (2009)."""
        self._must_be_ours("volume_info")
        return self._decoded("volume_info", await self._call("volume_info", volume), VolumeInfo)

    def _must_be_ours(self, command: str) -> None:
        if not self.is_ours:
            raise UnsupportedOperation(f"the adapter of this domain has no {command}")

    async def _call(self, command: str, *arguments: str, seconds: float | None = None) -> str:
        limit = self.times.short if seconds is None else seconds
        try:
            answer = await self.programs.call(self.driver, command, *arguments, seconds=limit)
        except AdapterFailed as e:
            if found := _not_found(e.reason, arguments):
                raise _missing(found[1], command, arguments) from None
            raise
        if not self.is_ours and (found := _not_found(answer, arguments)):  # with status 0
            raise _missing(found[1], command, arguments)
        return answer

    def _decoded(self, command: str, answer: str, kind: type[_T]) -> _T:
        try:
            return msgspec.json.decode(answer, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            raise self._garbage(command, str(e) if answer else "it has none") from None

    def _id(self, command: str, answer: str) -> str:
        if not _ID.fullmatch(answer):
            raise self._garbage(command, "it is no id" if answer else "it has none")
        return answer

    def _garbage(self, command: str, reason: str) -> AdapterGarbage:
        return AdapterGarbage(self.programs.program(self.driver).adapter, command, reason)


def _not_found(text: str, ids: tuple[str, ...]) -> re.Match[str] | None:
    pattern = _NOT_FOUND.format(ids="|".join(map(re.escape, ids)))
    return re.search(pattern, text, re.IGNORECASE | re.ASCII)


def _missing(what: str, command: str, arguments: tuple[str, ...]) -> Exception:
    """What a command named that is not there."""
    if what.lower() == "volume":
        volume = arguments[1] if command == "remove_snapshot" else arguments[0]
        return NoSuchManagedVolume(volume)
    snapshot, volume = arguments[:2] if command == "remove_snapshot" else arguments[1::-1]
    return NoSuchManagedSnapshot(volume, snapshot)


def _text(connector: Connector) -> str:
    return msgspec.json.encode(connector).decode()
