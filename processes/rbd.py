"""rbd: images of a Ceph pool and their snapshots. Source: rbd(8), version 16."""

from dataclasses import dataclass
from typing import Any

import msgspec

from processes.ceph import CONNECT, Access
from processes.tool import Limits, run
from protocol.errors import BadOutput, ToolFailed

QUICK = Limits(seconds=60)
LONG = Limits()  # as long as it takes to move or remove the data: the caller has a limit
ENOENT, EBUSY, EEXIST, ENOTEMPTY = 2, 16, 17, 39
# Clones need no snapshot that is protected, and do not keep one from being removed.
_CLONE = ["--rbd-default-clone-format", "2"]


class Parent(msgspec.Struct, frozen=True):
    image: str
    snapshot: str


class Info(msgspec.Struct, frozen=True):
    """id: in the names of its objects. size: bytes. parent: of a clone that is not flat yet."""

    name: str
    id: str
    size: int
    parent: Parent | None = None


class Watcher(msgspec.Struct, frozen=True):
    """Who has an image open to write. address: IP:PORT/NONCE. client: its global id."""

    address: str
    client: int


class _Status(msgspec.Struct, frozen=True):
    watchers: list[Watcher]


class _Lock(msgspec.Struct, frozen=True):
    address: str


class _Snapshot(msgspec.Struct, frozen=True):
    name: str


@dataclass(frozen=True)
class Rbd:
    """Images of one pool. Raises ToolMissing, ToolStalled, BadOutput and classes of ToolFailed."""

    access: Access
    pool: str

    async def images(self) -> list[str]:
        found: list[str] = await self._json(list[str], "ls", "--pool", self.pool)
        return found

    async def info(self, image: str) -> Info | None:
        """None: there is no such image."""
        try:
            found: Info = await self._json(Info, "info", self._spec(image))
        except ToolFailed as e:
            if e.status == ENOENT:
                return None
            raise
        return found

    async def create(self, image: str, gib: int) -> None:
        await self._run(QUICK, "create", self._spec(image), "--size", f"{gib}G")

    async def remove(self, image: str) -> None:
        await self._run(LONG, "rm", self._spec(image), "--no-progress")

    async def resize(self, image: str, gib: int) -> None:
        """Only to more than it has."""
        await self._run(QUICK, "resize", self._spec(image), "--size", f"{gib}G", "--no-progress")

    async def watchers(self, image: str) -> list[Watcher]:
        found: _Status = await self._json(_Status, "status", self._spec(image))
        return found.watchers

    async def lockers(self, image: str) -> list[str]:
        """The addresses of the clients that have locked an image."""
        found: list[_Lock] = await self._json(list[_Lock], "lock", "ls", self._spec(image))
        return [lock.address for lock in found]

    async def snapshots(self, image: str) -> list[str]:
        found: list[_Snapshot] = await self._json(list[_Snapshot], "snap", "ls", self._spec(image))
        return [snapshot.name for snapshot in found]

    async def create_snapshot(self, image: str, snapshot: str) -> None:
        await self._run(QUICK, "snap", "create", self._spec(image, snapshot), "--no-progress")

    async def remove_snapshot(self, image: str, snapshot: str) -> None:
        await self._run(LONG, "snap", "rm", self._spec(image, snapshot), "--no-progress")

    async def roll_back(self, image: str, snapshot: str) -> None:
        await self._run(LONG, "snap", "rollback", self._spec(image, snapshot), "--no-progress")

    async def clone(self, image: str, snapshot: str, new: str) -> None:
        """At once a complete image, which reads through its parent until it is flat."""
        await self._run(QUICK, *_CLONE, "clone", self._spec(image, snapshot), self._spec(new))

    async def flatten(self, image: str) -> None:
        await self._run(LONG, "flatten", self._spec(image), "--no-progress")

    async def has_data(self, image: str) -> bool:
        """Whether anything was written to an image, or has been in its parent."""
        extents: list[Any] = await self._json(
            list[Any], "diff", self._spec(image), "--whole-object"
        )
        return bool(extents)

    async def notes(self, image: str) -> dict[str, str]:
        """What was noted at an image, by key. A clone begins with the notes of its parent."""
        listed = dict[str, str] | None  # without any, nothing is printed
        found: dict[str, str] | None = await self._json(
            listed, "image-meta", "list", self._spec(image)
        )
        return found or {}

    async def note(self, image: str, key: str, text: str) -> None:
        """Everybody can read it while this runs: no secrets."""
        await self._run(QUICK, "image-meta", "set", self._spec(image), key, text)

    async def remove_note(self, image: str, key: str) -> None:
        await self._run(QUICK, "image-meta", "remove", self._spec(image), key)

    def _spec(self, image: str, snapshot: str = "") -> str:
        return f"{self.pool}/{image}@{snapshot}" if snapshot else f"{self.pool}/{image}"

    async def _json(self, kind: Any, *arguments: str) -> Any:
        output = await self._run(QUICK, *arguments, "--format", "json")
        try:
            return msgspec.json.decode(output or b"null", type=kind)
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
            raise BadOutput("rbd", str(e)) from None

    async def _run(self, limits: Limits, *arguments: str) -> bytes:
        argv = [*self.access.argv("rbd"), "--client-mount-timeout", str(CONNECT), *arguments]
        return await run(argv, limits=limits)
