"""The header parser: every lie gives an error with a reason, nothing makes it crash or eat."""

import json
import subprocess
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage.qcow2 import EXTENSIONS_LIMIT, MAGIC, BadHeader, Header, first_cluster, parse
from tests.storage.headers import BACKING_FORMAT, DATA_FILE, MIB, Crafted, extension, over

FEATURE_NAMES = 0x6803F857


@pytest.mark.parametrize("version", [2, 3])
def test_plain_header_is_read(version: int) -> None:
    header = parse(Crafted(version=version, size=5 * MIB).build())
    assert header == Header(
        version=version,
        cluster_bits=16,
        virtual_size=5 * MIB,
        least_size=3 * 65536 + 8,
        backing_file=None,
        backing_format=None,
        data_file=None,
        external_data=False,
        encryption=None,
        dirty=False,
        corrupt=False,
    )


@pytest.mark.parametrize("version", [2, 3])
def test_backing_file_and_its_format_are_read(version: int) -> None:
    header = parse(over("Grüße, base.img", "raw", version=version).build())
    assert (header.backing_file, header.backing_format) == ("Grüße, base.img", "raw")


def test_backing_file_without_format_is_told() -> None:
    header = parse(over("base.img", None).build())
    assert (header.backing_file, header.backing_format) == ("base.img", None)


def test_data_file_and_its_name_are_told() -> None:
    names = [(DATA_FILE, b"d.raw")]
    assert parse(Crafted(extensions=names, incompatible=4).build()).data_file == "d.raw"
    nameless = parse(Crafted(incompatible=4).build())
    assert nameless.external_data
    assert nameless.data_file is None


def test_other_extensions_are_ignored() -> None:
    others = [(FEATURE_NAMES, b"\0\0dirty\0" * 6), (0x12345678, b"?"), (BACKING_FORMAT, b"qcow2")]
    crafted = Crafted(backing=b"b", extensions=others)
    assert parse(crafted.build()).backing_format == "qcow2"


@pytest.mark.parametrize(("bit", "fact"), [(0, "dirty"), (1, "corrupt")])
def test_mark_is_told(bit: int, fact: str) -> None:
    assert getattr(parse(Crafted(incompatible=1 << bit).build()), fact)


@pytest.mark.parametrize(("method", "name"), [(1, "aes"), (2, "luks")])
def test_encryption_is_told(method: int, name: str) -> None:
    assert parse(Crafted(crypt_method=method).build()).encryption == name


@pytest.mark.parametrize("cluster_bits", range(9, 22))
def test_every_cluster_size_is_read(cluster_bits: int) -> None:
    data = over("base", cluster_bits=cluster_bits, size=4096, backing_offset=256).build()
    assert first_cluster(data) == 1 << cluster_bits
    assert parse(data).backing_file == "base"


def test_zstd_and_extended_l2_are_read() -> None:
    parse(Crafted(incompatible=1 << 3, compression_type=1).build())
    parse(Crafted(incompatible=1 << 4, size=65536 * 4096).build())


TWICE = [(BACKING_FORMAT, b"raw"), (BACKING_FORMAT, b"qcow2")]
LIES = [
    (Crafted(version=1), "version 1"),
    (Crafted(version=4), "version 4"),
    (Crafted(cluster_bits=8), "cluster_bits is 8"),
    (Crafted(cluster_bits=22), "cluster_bits is 22"),
    (Crafted(cluster_bits=0xFFFFFFFF), "cluster_bits is"),
    (Crafted(header_length=96), "header length 96"),
    (Crafted(header_length=111), "header length 111"),
    (Crafted(header_length=1 << 31), "header length"),
    (Crafted(incompatible=1 << 5), "unknown incompatible features 0x20"),
    (Crafted(incompatible=1 << 63), "unknown incompatible features"),
    (Crafted(incompatible=1 << 4, cluster_bits=12), "extended L2"),
    (Crafted(compression_type=1), "compression type 1"),
    (Crafted(compression_type=0, incompatible=1 << 3), "compression type 0"),
    (Crafted(compression_type=2, incompatible=1 << 3), "compression type 2"),
    (Crafted(crypt_method=3), "encryption method 3"),
    (Crafted(refcount_order=7), "refcount order 7"),
    (Crafted(l1_offset=3 * 65536 + 512), "offset 197120 of the L1 table"),
    (Crafted(l1_offset=1 << 63), "of the L1 table"),
    (Crafted(refcount_offset=1), "offset 1 of the refcount table"),
    (Crafted(snapshots=1, snapshots_offset=1), "offset 1 of the snapshot table"),
    (Crafted(snapshots=65537), "65537 snapshots"),
    (Crafted(l1_size=(4 << 20) + 1), "L1 table of 4194305 entries"),
    (Crafted(l1_size=0xFFFFFFFF), "L1 table of"),
    (Crafted(l1_size=0), "virtual size 1048576, its L1 table reaches 0"),
    (Crafted(size=(1 << 29) + 1), "virtual size 536870913, its L1 table reaches 536870912"),
    (Crafted(size=(1 << 28) + 1, incompatible=1 << 4), "its L1 table reaches 268435456"),
    (Crafted(size=(1 << 64) - 1), "virtual size"),
    (Crafted(refcount_clusters=0), "refcount table of 0"),
    (Crafted(refcount_clusters=129), "refcount table of 129"),
    (Crafted(backing=b"x", backing_length=1024), "backing file name of 1024 bytes"),
    (Crafted(backing=b"x", backing_length=0xFFFFFFFF), "backing file name of"),
    (Crafted(backing=b"x" * 8, backing_offset=65532), "outside of its place"),
    (Crafted(backing=b"x", backing_offset=1 << 40), "outside of its place"),
    (Crafted(backing=b"x", backing_offset=(1 << 64) - 1), "outside of its place"),
    (Crafted(backing=b"x", backing_offset=64), "outside of its place"),
    (Crafted(backing_offset=1 << 40), "outside of its place"),
    (Crafted(backing=b"a\0b"), "control characters"),
    (Crafted(backing=b"a\nb"), "control characters"),
    (Crafted(backing=b"a\x7f"), "control characters"),
    (Crafted(backing=b"a\xff"), "not UTF-8"),
    (Crafted(extensions=[(BACKING_FORMAT, b"raw\0")]), "control characters"),
    (Crafted(extensions=[(BACKING_FORMAT, b"x" * 16)]), "0xe2792aca of 16 bytes"),
    (Crafted(extensions=[(DATA_FILE, b"x" * 1024)]), "0x44415441 of 1024 bytes"),
    (Crafted(extensions=[(DATA_FILE, b"d.raw")]), "names a data file, but is marked"),
    (Crafted(extensions=TWICE), "0xe2792aca twice"),
    (Crafted(extensions=[(1, b"")] * (EXTENSIONS_LIMIT + 1)), "too many"),
    (over("b", backing_offset=122), "of 3 bytes at 112"),
]


@pytest.mark.parametrize(("lie", "reason"), LIES, ids=[reason for _, reason in LIES])
def test_lie_is_refused_with_the_reason(lie: Crafted, reason: str) -> None:
    with pytest.raises(BadHeader, match=reason):
        parse(lie.build())


def test_extension_that_claims_more_than_there_is_is_refused() -> None:
    data = bytearray(Crafted(extensions=[(1, b"x")]).build())
    data[116:120] = b"\xff\xff\xff\xff"
    with pytest.raises(BadHeader, match="of 4294967295 bytes"):
        parse(bytes(data))


@pytest.mark.parametrize("length", [0, 3, 23, 24, 71, 103, 111, 4096, 65535])
def test_truncated_header_is_refused(length: int) -> None:
    with pytest.raises(BadHeader, match="truncated"):
        parse(Crafted().build()[:length])


def outcome(data: bytes) -> Header | None:
    """What parse says; it says BadHeader or a header, nothing else."""
    try:
        return parse(data)
    except BadHeader:
        return None


@given(st.binary(max_size=4096))
def test_arbitrary_bytes_give_a_reason(data: bytes) -> None:
    outcome(data)


@given(st.binary(max_size=200), st.integers(9, 12), st.sampled_from([2, 3]))
def test_arbitrary_bytes_behind_a_good_start_give_a_reason(
    data: bytes, cluster_bits: int, version: int
) -> None:
    start = Crafted(version=version, cluster_bits=cluster_bits, size=512).build()
    outcome(start[:24] + data + start[24 + len(data) :])
    outcome(start[:112] + data + start[112 + len(data) :])


def test_worst_header_costs_little() -> None:
    """2 MiB full of extensions; the cost is the copy of the head and little else."""
    data = Crafted(cluster_bits=21, extensions=[(1, b"x" * 900)] * 2000, end=False).build()
    tracemalloc.start()
    try:
        outcome(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    finally:
        tracemalloc.stop()


OVERLAY = over("base.img", cluster_bits=9, size=512, backing_offset=256).build()
APART = Crafted(cluster_bits=9, size=512, incompatible=4, extensions=[(DATA_FILE, b"d.raw")])
CHANGES = st.lists(st.tuples(st.integers(8, 300), st.integers(0, 255)), max_size=3)


@pytest.mark.tools("qemu-img")
@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([OVERLAY, APART.build()]), CHANGES)
@example(OVERLAY, [(19, 5)])
@example(OVERLAY, [(19, 12)])
@example(OVERLAY, [(112, 0)])
@example(APART.build(), [(119, 3)])
def test_qemu_reads_no_other_name_than_we_do(
    tmp_path: Path, image: bytes, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(image)
    for at, byte in changes:
        data[at] = byte
    header = outcome(bytes(data))
    if header is None:
        return
    (tmp_path / "x.qcow2").write_bytes(data)
    file = {"driver": "file", "filename": str(tmp_path / "x.qcow2")}
    node = json.dumps({"driver": "qcow2", "file": file, "backing": None})
    argv = ["qemu-img", "info", "--output=json", f"json:{node}"]
    seen = subprocess.run(argv, check=False, capture_output=True, timeout=60)
    if seen.returncode == 0:
        info = json.loads(seen.stdout)
        details = info["format-specific"]["data"]
        assert info.get("backing-filename") == header.backing_file
        assert info.get("backing-filename-format") == header.backing_format
        assert details.get("data-file") == header.data_file
        assert info["virtual-size"] == header.virtual_size // 512 * 512


def test_magic_and_extension_are_as_published() -> None:
    assert MAGIC == b"QFI\xfb"
    assert extension(BACKING_FORMAT, b"raw").startswith(b"\xe2\x79\x2a\xca\0\0\0\3raw")
