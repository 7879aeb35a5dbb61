"""A stand-in for LVM: it is none. A volume group that is a file of JSON, and whose devices are
sparse files in a folder, for tests of what is built upon processes.lvm. What LVM itself does is
tested in the guest, tests/guest/inside/test_lvm*.py.

    group = StandIn.made(tmp_path)          # a group with a thin pool
    group.lvm                               # instead of an Lvm: in this process, quick
    group.program                           # the same by a helper program: for other processes
    group.add(LogicalVolume(...)); group.volumes(); group.calls()

Both obey and print what the helper and LVM do, words of errors included, as far as we read them.
The program is started thousands of times, so nothing is imported here that it does not need.
"""

import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from processes.failure import tool_error
from processes.lvm_operation import Operation, parsed
from processes.lvm_report import LogicalVolume
from protocol.errors import BadParameter, ToolFailed

if TYPE_CHECKING:
    from processes.lvm import Lvm

GROUP = "ovirt-local"
POOL = "pool0"
EXTENT = 4 << 20
ROOT = str(Path(__file__).parents[1])


class Volume(msgspec.Struct):
    name: str
    size: int
    tags: list[str] = []
    active: bool = False
    open: bool = False
    pool: str | None = None
    data_percent: float = 0.0


class Content(msgspec.Struct):
    """size: of the group. pool_size: None, there is no pool. present: is there such a group?"""

    present: bool = True
    size: int = 1 << 40
    volumes: list[Volume] = []
    pool_size: int | None = 1 << 39
    pool_active: bool = True
    data_percent: float = 0.0
    metadata_percent: float = 1.0
    error_when_full: bool = True
    zeroing: bool = True
    fail: dict[str, str] = {}
    calls: list[list[str]] = []

    def free(self) -> int:
        linear = sum(v.size for v in self.volumes if v.pool is None)
        return self.size - linear - (self.pool_size or 0)


@dataclass(frozen=True)
class StandIn:
    """folder: of the file and of the devices."""

    folder: Path

    @classmethod
    def made(cls, folder: Path) -> "StandIn":
        made = cls(folder)
        (folder / "dev" / GROUP).mkdir(parents=True)
        (folder / "lvm.json").write_bytes(msgspec.json.encode(Content()))
        return made

    @property
    def lvm(self) -> "Lvm":
        from tests.lvm_stand_in import LvmStandIn  # noqa: PLC0415 - not in each of the programs

        return LvmStandIn(GROUP, dev=str(self.folder / "dev"), stand_in=self)

    @property
    def program(self) -> "Lvm":
        from processes.lvm import Lvm  # noqa: PLC0415 - as above

        return Lvm(GROUP, helper=self.helper, dev=str(self.folder / "dev"))

    @property
    def helper(self) -> tuple[str, ...]:
        return ("env", f"PYTHONPATH={ROOT}", sys.executable, "-P", "-m", __name__, str(self.folder))

    @property
    def settings(self) -> dict[str, str]:
        """Of the configuration of a host with this group, by `section.key`."""
        return {
            "localdisk.helper": ",".join(self.helper),
            "localdisk.dev": str(self.folder / "dev"),
        }

    def device(self, name: str) -> Path:
        return self.folder / "dev" / GROUP / name

    @contextmanager
    def content(self) -> Iterator[Content]:
        """To look at and to change: what the body leaves is written."""
        place, new = self.folder / "lvm.json", self.folder / "lvm.json.new"
        with open(self.folder / "lvm.lock", "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = msgspec.json.decode(place.read_bytes(), type=Content)
            yield content
            new.write_bytes(msgspec.json.encode(content))
            new.replace(place)  # whole, whenever it is killed

    def volumes(self) -> dict[str, LogicalVolume]:
        """As they are now, by name; not counted as a call."""
        with self.content() as content:
            return {v.name: _shown(v) for v in content.volumes}

    def add(self, volume: LogicalVolume) -> None:
        """As if another had made it."""
        with self.content() as content:
            content.volumes.append(
                Volume(
                    volume.name,
                    volume.size,
                    sorted(volume.tags),
                    volume.active,
                    volume.open,
                    volume.pool,
                    volume.data_percent or 0.0,
                )
            )
        if volume.active:
            self._device(volume.name, volume.size)

    def calls(self) -> list[list[str]]:
        """The words of every operation so far."""
        with self.content() as content:
            return content.calls

    def fail(self, verb: str, words: str = "  it does not work") -> None:
        """From now on every operation of this verb fails; "" for `words`: no longer."""
        with self.content() as content:
            content.fail = {k: v for k, v in content.fail.items() if k != verb}
            if words:
                content.fail[verb] = words

    def _device(self, name: str, size: int) -> None:
        with open(self.device(name), "ab") as file:
            file.truncate(size)

    def answer(self, operation: Operation) -> bytes:
        """What LVM prints. Raises ToolFailed, as a tool that ended with 5."""
        with self.content() as content:
            content.calls.append(operation.words())
            if words := content.fail.get(operation.verb):
                raise tool_error("lvm", 5, words)
            if operation.verb == "group":
                return _report("vg", [_group(content)] if content.present else [])
            if not content.present:
                raise tool_error("lvm", 5, f'  Volume group "{GROUP}" not found')
            return self._done(content, operation)

    def _done(self, content: Content, operation: Operation) -> bytes:
        name = operation.name
        match operation.verb:
            case "volumes":
                return _report("lv", [_row(v) for v in content.volumes])
            case "volume":
                return _report("lv", [_row(v) for v in content.volumes if v.name == name])
            case "pool":
                there = content.pool_size is not None and name == POOL
                return _report("lv", [_pool_row(content)] if there else [])
            case "wake":
                content.pool_active = True
                return b""
            case "create":
                self._create(content, operation)
                return b""
        volume = next((v for v in content.volumes if v.name == name), None)
        if volume is None:
            raise tool_error("lvm", 5, f'  Failed to find logical volume "{GROUP}/{name}"')
        self._change(content, operation, volume)
        return b""

    def _create(self, content: Content, operation: Operation) -> None:
        name, size = operation.name, -(-operation.size // EXTENT) * EXTENT
        if any(v.name == name for v in content.volumes):
            words = f'  Logical Volume "{name}" already exists in volume group "{GROUP}"'
            raise tool_error("lvm", 5, words)
        if operation.pool is not None and content.pool_size is None:
            words = f"  Pool {operation.pool} not found in Volume group {GROUP}."
            raise tool_error("lvm", 5, words)
        if operation.pool is None and size > content.free():
            raise tool_error("lvm", 5, f'  Volume group "{GROUP}" has insufficient free space')
        content.volumes.append(
            Volume(name, size, list(operation.add), active=True, pool=operation.pool)
        )
        self._device(name, size)

    def _change(self, content: Content, operation: Operation, volume: Volume) -> None:
        if not set(operation.having) <= set(volume.tags):
            return
        words = f"  Logical volume {GROUP}/{volume.name} in use."
        match operation.verb:
            case "change":
                kept = [tag for tag in volume.tags if tag not in operation.remove]
                volume.tags = [*kept, *(tag for tag in operation.add if tag not in kept)]
            case "activate":
                volume.active = True
                self._device(volume.name, volume.size)
            case "deactivate" | "remove" if volume.open:
                raise tool_error("lvm", 5, words)
            case "deactivate":
                volume.active = False
            case "remove":
                content.volumes.remove(volume)
                self.device(volume.name).unlink(missing_ok=True)


def _shown(volume: Volume) -> LogicalVolume:
    thin = volume.pool is not None and volume.active
    return LogicalVolume(
        volume.name,
        volume.size,
        frozenset(volume.tags),
        volume.active,
        volume.open,
        volume.pool,
        volume.data_percent if thin else None,
    )


def _row(volume: Volume) -> dict[str, str]:
    shown = _shown(volume)
    return {
        "vg_name": GROUP,
        "lv_name": shown.name,
        "lv_size": str(shown.size),
        "vg_extent_size": str(EXTENT),
        "lv_tags": ",".join(volume.tags),
        "lv_active": "active" if shown.active else "",
        "lv_device_open": str(int(shown.open)),
        "pool_lv": shown.pool or "",
        "data_percent": "" if shown.data_percent is None else f"{shown.data_percent:.2f}",
    }


def _pool_row(content: Content) -> dict[str, str]:
    return {
        "vg_name": GROUP,
        "lv_name": POOL,
        "lv_size": str(content.pool_size),
        "chunk_size": str(64 << 10),
        "lv_metadata_size": str(128 << 20),
        "data_percent": f"{content.data_percent:.2f}" if content.pool_active else "",
        "metadata_percent": f"{content.metadata_percent:.2f}" if content.pool_active else "",
        "lv_when_full": "error" if content.error_when_full else "queue",
        "zero": str(int(content.zeroing)),
    }


def _group(content: Content) -> dict[str, str]:
    return {
        "vg_name": GROUP,
        "vg_size": str(content.size),
        "vg_free": str(content.free()),
        "vg_extent_size": str(EXTENT),
    }


def _report(kind: str, rows: list[dict[str, Any]]) -> bytes:
    return msgspec.json.encode({"report": [{kind: rows}]})


def main(folder: str, words: list[str]) -> int:
    try:
        output = StandIn(Path(folder)).answer(parsed(words))
    except ToolFailed as e:
        print(e.detail, file=sys.stderr)
        return e.status
    except BadParameter as e:
        print(e, file=sys.stderr)
        return os.EX_USAGE
    sys.stdout.buffer.write(output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
