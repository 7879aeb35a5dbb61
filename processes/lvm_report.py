"""Reports of LVM as JSON. Every value in them is text. Source: lvmreport(7), "--binary"."""

from dataclasses import dataclass
from typing import Any

import msgspec

from protocol.errors import BadOutput

EXTENT = 4 << 20  # of a group that is made without a word about it


@dataclass(frozen=True)
class LogicalVolume:
    """size: bytes, whole extents. open: somebody has its device open. pool: of a thin one.

    data_percent: of a thin one, how much of it is allocated; known only while it is active.
    extent_size: of its group, bytes.
    """

    name: str
    size: int
    tags: frozenset[str] = frozenset()
    active: bool = False
    open: bool = False
    pool: str | None = None
    data_percent: float | None = None
    extent_size: int = EXTENT


@dataclass(frozen=True)
class VolumeGroup:
    """Sizes in bytes."""

    name: str
    size: int
    free: int
    extent_size: int


@dataclass(frozen=True)
class ThinPool:
    """Sizes in bytes; what is allocated is whole chunks. The percents are known only while it is
    active. error_when_full: a write that finds it full fails at once, and does not wait for
    somebody to make it larger. zeroing: a chunk is cleared before its first part is written; else
    the rest of it is what somebody else had there.
    """

    name: str
    size: int
    chunk_size: int
    metadata_size: int
    data_percent: float | None
    metadata_percent: float | None
    error_when_full: bool
    zeroing: bool


class _Report(msgspec.Struct, frozen=True):
    report: list[dict[str, list[dict[str, str]]]]


def volumes(output: bytes, group: str) -> list[LogicalVolume]:
    """Raises BadOutput, as everything here: it cannot be read, or is of another group."""
    return [_read(row, group, _volume) for row in _rows(output, "lv")]


def pool(output: bytes, group: str) -> ThinPool | None:
    found = [_read(row, group, _pool) for row in _rows(output, "lv")]
    return found[0] if found else None


def volume_group(output: bytes, group: str) -> VolumeGroup | None:
    found = [_read(row, group, _group) for row in _rows(output, "vg")]
    return found[0] if found else None


def _rows(output: bytes, kind: str) -> list[dict[str, str]]:
    try:
        read = msgspec.json.decode(output, type=_Report)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as e:
        raise BadOutput("lvm", str(e)) from None
    return [row for part in read.report for row in part.get(kind, [])]


def _read(row: dict[str, str], group: str, make: Any) -> Any:
    try:
        if row["vg_name"] != group:
            reason = f"it speaks of the volume group {row['vg_name']!r:.80}, not of {group}"
            raise BadOutput("lvm", reason)
        return make(row)
    except KeyError as e:
        raise BadOutput("lvm", f"the field {e} is missing") from None
    except ValueError as e:
        raise BadOutput("lvm", str(e)) from None


def _volume(row: dict[str, str]) -> LogicalVolume:
    return LogicalVolume(
        name=row["lv_name"],
        size=int(row["lv_size"]),
        tags=frozenset(tag for tag in row["lv_tags"].split(",") if tag),
        active=row["lv_active"] == "active",
        open=row["lv_device_open"] == "1",
        pool=row["pool_lv"] or None,
        data_percent=_percent(row["data_percent"]),
        extent_size=int(row["vg_extent_size"]),
    )


def _pool(row: dict[str, str]) -> ThinPool:
    return ThinPool(
        name=row["lv_name"],
        size=int(row["lv_size"]),
        chunk_size=int(row["chunk_size"]),
        metadata_size=int(row["lv_metadata_size"]),
        data_percent=_percent(row["data_percent"]),
        metadata_percent=_percent(row["metadata_percent"]),
        error_when_full=row["lv_when_full"] == "error",
        zeroing=row["zero"] in ("1", "zero"),
    )


def _group(row: dict[str, str]) -> VolumeGroup:
    return VolumeGroup(
        row["vg_name"], int(row["vg_size"]), int(row["vg_free"]), int(row["vg_extent_size"])
    )


def _percent(text: str) -> float | None:
    return float(text) if text else None
