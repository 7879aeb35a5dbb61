"""The plan: tool and flags by the facts about both ends."""

from dataclasses import replace
from typing import Any

import pytest

from endpoints.disk import Disk, Kind, NewFile
from endpoints.plan import Plan, choose, reasons
from endpoints.url import IscsiUrl, NbdUrl, PathUrl, RbdUrl, Url
from protocol.errors import SameImage, UnsupportedOperation
from protocol.messages import Format

URLS: dict[Kind, Url] = {
    "file": PathUrl("/t/file"),
    "block": PathUrl("/dev/t"),
    "nbd": NbdUrl("host", 10809, "t"),
    "iscsi": IscsiUrl("host", 3260, "iqn.t", 0),
    "rbd": RbdUrl("pool", "", "t"),
}
NODE = {"driver": "raw", "file": {"driver": "file", "filename": "/x"}}


def disk(kind: Kind, format: Format = "raw", **changes: Any) -> Disk:
    made = Disk(url=URLS[kind], kind=kind, format=format, size=1 << 30, node=NODE)
    return replace(made, **changes)


def source(format: Format = "raw", **changes: Any) -> Disk:
    return disk("file", format, **{"url": PathUrl("/s"), "files": frozenset([(1, 1)]), **changes})


def new(format: Format = "raw", **changes: Any) -> NewFile:
    return replace(NewFile(PathUrl("/t/new"), format), **changes)


@pytest.mark.parametrize(
    ("target", "tool", "served"),
    [
        (disk("file"), "qemu-img", False),
        (disk("file", "qcow2"), "qemu-img", False),
        (disk("block"), "qemu-img", False),
        (disk("block", "qcow2"), "qemu-img", False),
        (new(), "qemu-img", False),
        (disk("nbd"), "nbdcopy", False),
        (disk("iscsi"), "nbdcopy", True),
        (disk("rbd"), "nbdcopy", True),
    ],
)
@pytest.mark.parametrize("source_format", ["raw", "qcow2"])
def test_the_tool_is_the_one_whose_flush_can_be_checked(
    source_format: Format, target: Disk | NewFile, tool: str, served: bool
) -> None:
    plan = choose(source(source_format), target)
    assert (plan.tool, plan.serve_target) == (tool, served)


@pytest.mark.parametrize(
    ("target", "cache"),
    [
        (disk("file"), "none"),
        (disk("block"), "none"),
        (disk("file", "qcow2"), "directsync"),
        (new("qcow2"), "directsync"),
        (disk("file", direct=False), "writethrough"),
        (disk("file", "qcow2", direct=False), "writethrough"),
        (new(direct=False), "writethrough"),
    ],
)
def test_the_target_is_written_so_that_every_error_is_told(
    target: Disk | NewFile, cache: str
) -> None:
    assert choose(source(), target).flags.cache == cache
    assert cache in {"none", "directsync", "writethrough"}  # writeback and unsafe do not tell


def test_a_source_is_read_past_the_cache_where_that_works() -> None:
    assert choose(source(), new()).flags.source_cache == "none"
    assert choose(source(direct=False), new()).flags.source_cache == "writeback"


@pytest.mark.parametrize(
    ("target", "is_zero", "expected"),
    [
        (new(), False, True),  # we made it
        (new("qcow2"), False, True),
        (disk("file"), False, False),  # it may be dirty: content would be wrong
        (disk("block"), False, False),
        (disk("file"), True, True),
        (disk("nbd"), True, True),
        (disk("file", "qcow2", backing=NODE), True, False),
    ],
)
def test_zeros_are_left_out_only_where_they_are_known_to_be(
    target: Disk | NewFile, is_zero: bool, expected: bool
) -> None:
    assert choose(source(), target, is_zero=is_zero).flags.target_is_zero is expected


@pytest.mark.parametrize(
    ("kind", "format", "sparse", "expected"),
    [
        ("file", "raw", False, True),
        ("file", "raw", True, False),
        ("block", "raw", False, True),
        ("block", "raw", True, True),
        ("file", "qcow2", False, False),
        ("block", "qcow2", True, False),
    ],
)
def test_writes_are_unordered_only_into_raw_that_is_no_thin_file(
    kind: Kind, format: Format, sparse: bool, expected: bool
) -> None:
    assert choose(source(), disk(kind, format), sparse=sparse).flags.unordered is expected


@pytest.mark.parametrize("limit", [None, 1000])
def test_the_limit_is_kept(limit: int | None) -> None:
    assert choose(source(), new(), limit=limit).flags.limit == limit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (source(url=PathUrl("/t/file")), disk("file")),
        (source(url=PathUrl("/t/x/../file")), disk("file")),
        (source(url=NbdUrl("HOST", 10809, "t")), disk("nbd")),
        (source(url=RbdUrl("pool", "", "t", (("id", "other"),))), disk("rbd")),
        (source(), disk("file", files=frozenset([(1, 1)]))),  # by another name
        (source(files=frozenset([(1, 1), (1, 2)])), disk("file", files=frozenset([(1, 2)]))),
        (source(url=PathUrl("/t/new")), new()),
    ],
)
def test_a_disk_is_not_copied_over_itself_nor_over_what_it_is_made_of(
    one: Disk, other: Disk | NewFile
) -> None:
    with pytest.raises(SameImage):
        choose(one, other)


@pytest.mark.parametrize(
    ("source_format", "target_format"), [("raw", "raw"), ("raw", "qcow2"), ("qcow2", "raw")]
)
def test_bitmaps_need_qcow2_on_both_sides(source_format: Format, target_format: Format) -> None:
    with pytest.raises(UnsupportedOperation):
        choose(source(source_format), disk("file", target_format), bitmaps=True)
    assert choose(source("qcow2"), disk("file", "qcow2"), bitmaps=True).flags.bitmaps


def test_the_path_taken_is_told() -> None:
    plans = [
        choose(source("qcow2"), new()),
        choose(source(), disk("nbd"), is_zero=True),
        choose(source(), disk("iscsi")),
    ]
    assert [plan.path_taken for plan in plans] == [
        "qemu-img, qcow2 file to raw file, -t none -T none --target-is-zero -W -m 8",
        "nbdcopy from qemu-nbd, raw file to raw nbd, --flush, --destination-is-zero,"
        " --connections=1",
        "nbdcopy from qemu-nbd, raw file to raw iscsi through qemu-nbd, --flush, --connections=4",
    ]


@pytest.mark.parametrize(
    "plan",
    [
        choose(source(), new()),
        choose(source(direct=False), disk("file", direct=False), limit=1000),
        choose(source("qcow2"), disk("file", "qcow2", backing=NODE), bitmaps=True),
        choose(source(), disk("nbd")),
        choose(source(), disk("rbd"), is_zero=True),
    ],
)
def test_every_flag_has_a_reason(plan: Plan) -> None:
    told = " ".join(reasons(plan))
    flags = plan.flags
    assert plan.tools[0] in told or plan.tool in told
    assert ("bytes a second" in told) == (flags.limit is not None)
    assert ("read as zeros" in told) == flags.target_is_zero
    assert ("any order" in told) == flags.unordered
    assert ("bitmaps" in told) == flags.bitmaps
