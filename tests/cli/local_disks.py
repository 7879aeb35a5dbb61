"""The real command with a volume group that is a stand-in: see tests/local_disks.py."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from processes.lvm_report import LogicalVolume
from storage.local_disk_tags import BLANK
from tests.cli.run import Cli, Ended
from tests.local_disks import EXTENT, StandIn

MIB = 1 << 20
NOTHING: Mapping[str, str] = {}


def settings(group: StandIn) -> dict[str, str]:
    """The `[localdisk]` of a configuration, by the keys of that section."""
    return {"helper": ",".join(group.helper), "dev": str(group.folder / "dev")}


@dataclass(frozen=True)
class LocalCli(Cli):
    """group: what its LVM is. more: of the environment."""

    group: StandIn
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        told = {f"LEASEHOLD_LOCALDISK_{k.upper()}": v for k, v in settings(self.group).items()}
        return {**super().environment, **told, **self.more}

    def localdisk(self, *words: object) -> Ended:
        return self("localdisk", *words)

    def done(self, *words: object) -> Any:
        """The object that a command prints, which succeeds."""
        ended = self("localdisk", *words, "--json")
        assert ended.code == 0, ended
        return ended.json

    def disks(self) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = self.done("list")["disks"]
        return listed

    def image(self, mib: int = 4) -> Path:
        """A new raw image of so many MiB."""
        path = self.home.parent / f"source-{uuid.uuid4()}"
        path.write_bytes(os.urandom(MIB) * mib)
        return path


def volume(*tags: str, size: int = EXTENT, name: str | None = None, **facts: Any) -> LogicalVolume:
    """One that is there already, with the tags of a local disk and these."""
    ours = frozenset((f"IU_{uuid.uuid4()}", f"PU_{BLANK}", *tags))
    kept: dict[str, Any] = {"active": True, "open": False, "pool": None, "data_percent": None}
    return LogicalVolume(name or str(uuid.uuid4()), size, ours, **{**kept, **facts})


def foreign(name: str = "") -> LogicalVolume:
    """One that others have made, and that has the name of a local disk."""
    return LogicalVolume(name or str(uuid.uuid4()), EXTENT, frozenset({"theirs"}), active=True)
