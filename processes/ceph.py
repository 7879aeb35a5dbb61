"""ceph: the users, clients and room of a cluster. Source: ceph(8), version 16.

Keys are printed by the cluster and never named in a command; ours stands in a file.
"""

from dataclasses import dataclass
from typing import Any

import msgspec

from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed

SECONDS = 60.0
CONNECT = 15  # seconds until a cluster that does not answer is given up
EINVAL = 22
OUTPUT_LIMIT = 64 << 20  # sessions of a large cluster


@dataclass(frozen=True)
class Access:
    """How to reach a cluster. conf, keyring: paths. user: without `client.`."""

    conf: str
    user: str
    keyring: str | None = None  # where conf says

    def argv(self, tool: str) -> list[str]:
        keyring = [] if self.keyring is None else ["--keyring", self.keyring]
        return [tool, "--conf", self.conf, "--name", f"client.{self.user}", *keyring]


class Address(msgspec.Struct, frozen=True):
    """addr: IP:PORT. nonce: tells the clients of one machine from each other."""

    addr: str
    nonce: int

    def __str__(self) -> str:
        return f"{self.addr}/{self.nonce}"


class Addresses(msgspec.Struct, frozen=True):
    addrvec: list[Address]


class Session(msgspec.Struct, frozen=True):
    """A client of a monitor. entity_name: as `client.admin`. global_id: of this client alone."""

    entity_name: str
    global_id: int
    con_type: str
    addrs: Addresses


class MonitorAddress(msgspec.Struct, frozen=True):
    """type: v1 or v2, of the protocol."""

    type: str
    addr: str


class MonitorAddresses(msgspec.Struct, frozen=True):
    addrvec: list[MonitorAddress]


class Monitor(msgspec.Struct, frozen=True):
    name: str
    rank: int
    public_addrs: MonitorAddresses


class Monitors(msgspec.Struct, frozen=True):
    """quorum: ranks of those that are in it."""

    mons: list[Monitor]
    quorum: list[int]


class _User(msgspec.Struct, frozen=True):
    key: str


class _Entity(msgspec.Struct, frozen=True):
    entity: str


class _Entities(msgspec.Struct, frozen=True):
    auth_dump: list[_Entity]


class Osd(msgspec.Struct, frozen=True):
    osd: int
    up: int


class OsdMap(msgspec.Struct, frozen=True):
    epoch: int
    osds: list[Osd]


class _OsdStatus(msgspec.Struct, frozen=True):
    newest_map: int


class PoolStats(msgspec.Struct, frozen=True):
    """Bytes: of the data, and of what can still be stored."""

    stored: int
    max_avail: int


class Pool(msgspec.Struct, frozen=True):
    name: str
    stats: PoolStats


class Room(msgspec.Struct, frozen=True):
    pools: list[Pool]


@dataclass(frozen=True)
class Ceph:
    """Every method raises ToolMissing, ToolStalled, BadOutput and the classes of ToolFailed."""

    access: Access

    async def monitors(self) -> list[Monitor]:
        """All that the cluster has, also those that are down."""
        return (await self._monitors()).mons

    async def quorum(self) -> list[Monitor]:
        """Those that can be asked."""
        found = await self._monitors()
        return [one for one in found.mons if one.rank in found.quorum]

    async def _monitors(self) -> Monitors:
        found: Monitors = await self._json(Monitors, "mon", "dump")
        return found

    async def key(self, user: str, mon: str, osd: str) -> str:
        """The key of a user who has just these rights; the user is made when missing."""
        wanted = [f"client.{user}", "mon", mon, "osd", osd]
        found: list[_User]
        try:
            found = await self._json(list[_User], "auth", "get-or-create", *wanted)
        except ToolFailed as e:
            if e.status != EINVAL:  # else it is there with other rights
                raise
            await self._run("auth", "caps", *wanted)
            found = await self._json(list[_User], "auth", "get", wanted[0])
        return found[0].key

    async def users(self, begin: str) -> list[str]:
        """Those whose names begin so."""
        found: _Entities = await self._json(_Entities, "auth", "ls")
        names = [one.entity.removeprefix("client.") for one in found.auth_dump]
        return [name for name in names if name.startswith(begin)]

    async def remove_user(self, user: str) -> None:
        """Nobody comes in by that name any more; who is in stays. A missing one is no error."""
        await self._run("auth", "rm", f"client.{user}")

    async def sessions(self, monitor: str) -> list[Session]:
        """The clients of one monitor."""
        found: list[Session] = await self._json(list[Session], "tell", f"mon.{monitor}", "sessions")
        return found

    async def block(self, address: str, seconds: int) -> None:
        """Refuse what a client sends, from the next map on. address: IP:PORT/NONCE."""
        await self._run("osd", "blocklist", "add", address, str(seconds))

    async def osds(self) -> OsdMap:
        found: OsdMap = await self._json(OsdMap, "osd", "dump")
        return found

    async def epoch_of(self, osd: int) -> int:
        """The newest map that an OSD has."""
        found: _OsdStatus = await self._json(_OsdStatus, "tell", f"osd.{osd}", "status")
        return found.newest_map

    async def room(self) -> list[Pool]:
        found: Room = await self._json(Room, "df")
        return found.pools

    async def _json(self, kind: Any, *arguments: str) -> Any:
        output = await self._run(*arguments, "--format", "json")
        try:
            return msgspec.json.decode(output, type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            raise BadOutput("ceph", str(e)) from None

    async def _run(self, *arguments: str) -> bytes:
        argv = [*self.access.argv("ceph"), "--connect-timeout", str(CONNECT), *arguments]
        return await run(argv, limits=Limits(seconds=SECONDS), output_limit=OUTPUT_LIMIT)
