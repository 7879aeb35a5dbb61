"""One scene for each command of the engine: what is there before, how it begins, what is true then.

A scene may be begun in an estate in which other disks live, and leaves nothing behind.
"""

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.engine_estate import DATA, GIB, Estate, holds
from tests.engine_hosts import AgentHost, until
from tests.servers import MIB, pattern

OURS = "/leasehold/api/v1"
# With these settings of the agents a copy of LONG bytes takes three seconds.
SLOW_AGENTS = (f"jobs.rate={32 * MIB}", "jobs.concurrency=2")
LONG = 48 * MIB


@dataclass
class Scene(ABC):
    """disks: that are there, or may be, to be removed at the end. data: bytes in the first.

    source: the name of the domain in which it is.
    """

    estate: Estate
    disks: list[str] = field(default_factory=list)
    data: int = DATA
    source: str = "array"

    def prepare(self) -> None:
        """Make what the command needs."""
        self.disks.append(self.estate.disk(self.source, pattern(self.data)))

    @abstractmethod
    def request(self) -> tuple[str, str, Any]:
        """Method, path and body."""

    @abstractmethod
    def check(self, state: str) -> None:
        """What is true when the command has ended so."""

    def begin(self) -> str:
        """The id of the command; the engine may die meanwhile."""
        mark = uuid.uuid4().hex
        method, path, body = self.request()
        try:
            self.estate.engine.call(method, path, body, **{"async": "true", "correlation_id": mark})
        except httpx.TransportError:
            assert self.estate.engine.running.process.wait(10) is not None
        self.command = self.estate.command_of(mark)
        return self.command

    @property
    def disk(self) -> str:
        return self.disks[0]

    def volumes(self) -> list[str]:
        """Those of the disk, and those that the command has made, or left, of it."""
        return [
            one.id
            for one in self.estate.rows.volumes
            if one.state != "gone" and (one.disk == self.disk or one.command == self.command)
        ]

    def is_there(self, disk: str) -> bool:
        return any(one.id == disk for one in self.estate.rows.disks)

    def is_ok(self, disk: str) -> bool:
        told = self.estate.told(disk)
        return bool(told["status"] == "ok")

    def clean(self) -> None:
        """Remove every disk that is there."""
        self.estate.remove(*[one for one in self.disks if self.is_there(one)])


class Add(Scene):
    def prepare(self) -> None:
        self.name = f"added-{uuid.uuid4().hex[:8]}"

    def request(self) -> tuple[str, str, Any]:
        where = {"storage_domain": [{"id": self.estate.domains["array"]}]}
        body = {"name": self.name, "provisioned_size": str(GIB), "format": "raw"}
        return "POST", "disks", {**body, "storage_domains": where}

    def check(self, state: str) -> None:
        found = [one.id for one in self.estate.rows.disks if one.name == self.name]
        self.disks += found
        assert len(found) == (1 if state == "succeeded" else 0)
        assert all(self.is_ok(one) for one in found)


class Remove(Scene):
    def request(self) -> tuple[str, str, Any]:
        return "DELETE", f"disks/{self.disk}", None

    def check(self, state: str) -> None:
        """One that was not removed is whole, or can only be removed again."""
        assert self.is_there(self.disk) == (state != "succeeded")
        if state == "succeeded":
            assert self.volumes() == []
        elif self.is_ok(self.disk):
            assert holds(self.estate.path(self.disk), pattern(self.data))
        else:
            assert self.estate.told(self.disk)["status"] == "illegal"


class Extend(Scene):
    def request(self) -> tuple[str, str, Any]:
        return "PUT", f"disks/{self.disk}", {"provisioned_size": str(2 * GIB)}

    def check(self, state: str) -> None:
        assert self.is_ok(self.disk)
        size = self.estate.path(self.disk).stat().st_size
        assert size == int(self.estate.told(self.disk)["provisioned_size"])
        assert (size == 2 * GIB) == (state == "succeeded")


@dataclass
class Copy(Scene):
    """to: the name of a domain."""

    to: str = "array2"

    def prepare(self) -> None:
        super().prepare()
        self.name = f"copy-{uuid.uuid4().hex[:8]}"

    def request(self) -> tuple[str, str, Any]:
        where = {"id": self.estate.domains[self.to]}
        return (
            "POST",
            f"disks/{self.disk}/copy",
            {"storage_domain": where, "disk": {"name": self.name}},
        )

    def copies(self) -> list[str]:
        return [one.id for one in self.estate.rows.disks if one.name == self.name]

    def check(self, state: str) -> None:
        found = self.copies()
        self.disks += found
        assert self.is_ok(self.disk)
        assert len(found) == (1 if state == "succeeded" else 0)
        for one in found:
            assert self.is_ok(one)
        for one in (self.disk, *found):
            assert holds(self.estate.path(one), pattern(self.data))


@dataclass
class Move(Scene):
    """to: the name of a domain."""

    to: str = "array2"

    def request(self) -> tuple[str, str, Any]:
        where = {"id": self.estate.domains[self.to]}
        return "POST", f"disks/{self.disk}/move", {"storage_domain": where}

    def check(self, state: str) -> None:
        assert self.is_ok(self.disk)
        row = next(one for one in self.estate.rows.disks if one.id == self.disk)
        wanted = self.to if state == "succeeded" else self.source
        assert row.domain == self.estate.domains[wanted]
        assert self.volumes() == [row.volume]
        assert holds(self.estate.path(self.disk), pattern(self.data))


@dataclass
class OfSnapshot(Scene):
    """What works on a snapshot that is there."""

    snapshot: str = ""

    @property
    def snapshots(self) -> str:
        """The path of those of the disk."""
        return f"{OURS}/disks/{self.disk}/snapshots"

    @property
    def path(self) -> str:
        return f"{OURS}/snapshots/{self.snapshot}"

    def prepare(self) -> None:
        super().prepare()
        told = self.done("POST", self.snapshots, {"description": "before"})
        self.snapshot = told["snapshot"]

    def done(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Another command, to its end."""
        told: dict[str, Any] = self.estate.engine.call(method, path, body)
        self.estate.engine.succeeded(told["command"])
        return told

    @property
    def states(self) -> list[str]:
        return [one.state for one in self.estate.rows.snapshots if one.disk == self.disk]

    def clean(self) -> None:
        if "in_preview" in self.states:
            self.done("POST", f"{self.snapshots}/undo")
        for row in self.estate.rows.snapshots:
            if row.disk == self.disk:
                self.done("DELETE", f"{OURS}/snapshots/{row.id}")
        super().clean()


class SnapshotCreate(OfSnapshot):
    def prepare(self) -> None:
        Scene.prepare(self)

    def request(self) -> tuple[str, str, Any]:
        return "POST", self.snapshots, {"description": "now"}

    def check(self, state: str) -> None:
        assert self.states == (["ok"] if state == "succeeded" else [])


class SnapshotDelete(OfSnapshot):
    def request(self) -> tuple[str, str, Any]:
        return "DELETE", self.path, None

    def check(self, state: str) -> None:
        assert self.states == ([] if state == "succeeded" else ["ok"])


class SnapshotPreview(OfSnapshot):
    def request(self) -> tuple[str, str, Any]:
        return "POST", f"{self.path}/preview", None

    def check(self, state: str) -> None:
        assert self.states == (["in_preview"] if state == "succeeded" else ["ok"])


class InPreview(OfSnapshot):
    """What ends a preview."""

    def prepare(self) -> None:
        super().prepare()
        self.done("POST", f"{self.path}/preview")


class SnapshotCommit(InPreview):
    def request(self) -> tuple[str, str, Any]:
        return "POST", f"{self.snapshots}/commit", None

    def check(self, state: str) -> None:
        assert ("in_preview" in self.states) == (state != "succeeded")


class SnapshotUndo(InPreview):
    def request(self) -> tuple[str, str, Any]:
        return "POST", f"{self.snapshots}/undo", None

    def check(self, state: str) -> None:
        assert self.states == (["ok"] if state == "succeeded" else ["in_preview"])


SCENES: Mapping[str, type[Scene]] = {
    "add_disk": Add,
    "remove_disk": Remove,
    "extend_disk": Extend,
    "copy_disk": Copy,
    "move_disk": Move,
    "snapshot_create": SnapshotCreate,
    "snapshot_delete": SnapshotDelete,
    "snapshot_preview": SnapshotPreview,
    "snapshot_commit": SnapshotCommit,
    "snapshot_undo": SnapshotUndo,
}


def ended(estate: Estate, command: str, seconds: float = 60.0) -> str:
    """The state in which a command has ended, from the database."""

    def state() -> str:
        row = next(one for one in estate.rows.commands if one.id == command)
        return "" if row.state in ("running", "undoing") else str(row.state)

    return until(state, lambda: (command, estate.engine.log[-4000:]), seconds)


def in_the_middle(estate: Estate) -> AgentHost:
    """Wait until a copy has moved bytes; the host that does it."""

    def copying() -> AgentHost | None:
        for host in estate.hosts:
            if host.agent and any(one.get("bytes") for one in host.infos("running")):
                return host
        return None

    host = until(copying, lambda: estate.engine.log[-4000:])
    assert host is not None
    return host
