"""What LVM reports is read whole or not at all."""

from typing import Any

import msgspec
import pytest

from processes import lvm_report
from processes.lvm_report import LogicalVolume, ThinPool, VolumeGroup
from protocol.errors import BadOutput

GROUP = "ovirt-local"
ROW = {
    "vg_name": GROUP,
    "lv_name": "one",
    "lv_size": "1073741824",
    "vg_extent_size": "4194304",
    "lv_tags": "UPDATING,ours=1",
    "lv_active": "active",
    "lv_device_open": "1",
    "pool_lv": "pool0",
    "data_percent": "12.50",
}
LINEAR = {
    **ROW,
    "lv_name": "two",
    "lv_tags": "",
    "lv_active": "",
    "lv_device_open": "0",
    "pool_lv": "",
    "data_percent": "",
}
POOL = {
    "vg_name": GROUP,
    "lv_name": "pool0",
    "lv_size": "2147483648",
    "chunk_size": "65536",
    "lv_metadata_size": "4194304",
    "data_percent": "99.99",
    "metadata_percent": "10.94",
    "lv_when_full": "queue",
    "zero": "1",
}
GROUP_ROW = {
    "vg_name": GROUP,
    "vg_size": "4290772992",
    "vg_free": "2134900736",
    "vg_extent_size": "4194304",
}


def printed(kind: str, *rows: Any) -> bytes:
    return msgspec.json.encode({"report": [{kind: rows}]})


def test_thin_and_linear_volumes_are_read() -> None:
    assert lvm_report.volumes(printed("lv", ROW, LINEAR), GROUP) == [
        LogicalVolume(
            "one", 1 << 30, frozenset({"UPDATING", "ours=1"}), True, True, "pool0", 12.5, 4 << 20
        ),
        LogicalVolume("two", 1 << 30, frozenset(), False, False, None, None, 4 << 20),
    ]


def test_a_pool_and_a_group_are_read() -> None:
    assert lvm_report.pool(printed("lv", POOL), GROUP) == ThinPool(
        "pool0", 2 << 30, 65536, 4 << 20, 99.99, 10.94, error_when_full=False, zeroing=True
    )
    other = {**POOL, "lv_when_full": "error", "zero": "0"}
    failing = lvm_report.pool(printed("lv", other), GROUP)
    assert failing is not None
    assert (failing.error_when_full, failing.zeroing) == (True, False)
    assert lvm_report.volume_group(printed("vg", GROUP_ROW), GROUP) == VolumeGroup(
        GROUP, 4290772992, 2134900736, 4 << 20
    )


def test_a_pool_that_sleeps_does_not_say_how_full_it_is() -> None:
    asleep = {**POOL, "data_percent": "", "metadata_percent": ""}
    found = lvm_report.pool(printed("lv", asleep), GROUP)
    assert found is not None
    assert (found.data_percent, found.metadata_percent) == (None, None)


def test_an_empty_report_is_nothing() -> None:
    assert lvm_report.volumes(printed("lv"), GROUP) == []
    assert lvm_report.pool(printed("lv"), GROUP) is None
    assert lvm_report.volume_group(printed("vg"), GROUP) is None


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"  WARNING: it does not work",
        b"[]",
        b'{"report": {}}',
        b'{"report": [{"lv": [1]}]}',
        b"\xff",
        b"[" * 100_000,
        printed("lv", {**ROW, "lv_size": "1g"}),
        printed("lv", {**ROW, "lv_size": None}),
        printed("lv", {**ROW, "data_percent": "full"}),
        printed("lv", {"vg_name": GROUP, "lv_name": "x"}),
        printed("lv", {"lv_name": "x"}),
    ],
    ids=lambda output: repr(output)[:30],
)
def test_garbage_is_told_as_such(output: bytes) -> None:
    with pytest.raises(BadOutput):
        lvm_report.volumes(output, GROUP)


def test_a_helper_that_speaks_of_another_group_is_found_out() -> None:
    with pytest.raises(BadOutput, match="other"):
        lvm_report.volumes(printed("lv", {**ROW, "vg_name": "other"}), GROUP)
    with pytest.raises(BadOutput, match="other"):
        lvm_report.volume_group(printed("vg", {**GROUP_ROW, "vg_name": "other"}), GROUP)
