"""The header of a qcow2 image.

Oracle: BadHeader, or a header whose figures are in their ranges, whose names stand inside of the
first cluster and mean one thing only, and which reads the same whatever comes behind that cluster.
"""

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from storage.qcow2 import MAGIC, BadHeader, Header, first_cluster, parse
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries
from tests.storage.headers import BACKING_FORMAT, DATA_FILE, Crafted

CLUSTERS = st.sampled_from([9, 10, 12])  # small ones: what counts does not depend on it
FIELDS = 112  # bytes of the fixed fields

words = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=12)
images = st.builds(
    lambda version, bits, name, format: Crafted(
        version=version,
        cluster_bits=bits,
        backing=name.encode(),
        backing_offset=(1 << bits) - len(name.encode()) if name else 0,
        extensions=[(BACKING_FORMAT, format.encode())] if name and format else [],
        header_length=FIELDS if version == 3 else 72,
        size=1 << 12,
    ),
    st.sampled_from([2, 3]),
    CLUSTERS,
    st.just("") | words,
    st.sampled_from(["", "raw", "qcow2"]),
)
numbers = st.integers(0, 8) | st.integers(0, (1 << 32) - 1)
large = st.integers(0, 1 << 16) | st.integers(0, (1 << 64) - 1)
lies = st.builds(
    Crafted,
    version=st.sampled_from([0, 1, 2, 3, 3, 3, 4]),
    size=large,
    cluster_bits=st.integers(7, 13),
    backing=st.binary(max_size=24),
    backing_offset=st.integers(0, 5000) | large,
    backing_length=st.none() | numbers,
    crypt_method=numbers,
    l1_size=numbers,
    l1_offset=st.none() | large,
    refcount_offset=st.none() | large,
    refcount_clusters=numbers,
    snapshots=numbers,
    snapshots_offset=large,
    incompatible=st.integers(0, 31) | large,
    refcount_order=numbers,
    header_length=st.sampled_from([72, 100, 104, 112, 120]) | numbers,
    compression_type=st.integers(0, 255),
    extensions=st.lists(
        st.tuples(
            st.sampled_from([0, BACKING_FORMAT, DATA_FILE, 0x6803F857]), st.binary(max_size=20)
        ),
        max_size=3,
    ),
    end=st.booleans(),
)


def read(head: bytes) -> Header | None:
    with bounded():
        try:
            header = parse(head)
        except BadHeader:
            return None
    check(header, head)
    return header


def check(header: Header, head: bytes) -> None:
    cluster = 1 << header.cluster_bits
    assert head[:4] == MAGIC
    assert header.version in (2, 3)
    assert 9 <= header.cluster_bits <= 21
    assert 0 <= header.virtual_size < 1 << 63
    assert header.least_size >= cluster
    assert header.encryption in (None, "aes", "luks")
    assert header.external_data or header.data_file is None
    assert header.backing_file is not None or header.backing_format is None
    if header.backing_file is not None:
        at, length = struct.unpack_from(">QI", head, 8)
        assert header.backing_file.encode() == head[at : at + length]
        assert at + length <= cluster
    for name in (header.backing_file, header.backing_format, header.data_file):
        if name is not None:
            assert name.encode() in head[:cluster]
            assert not any(c < " " or c == "\x7f" for c in name)


@tries("qcow2 header", each=3)
@given(st.binary(max_size=600))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    read(data)
    read(MAGIC + data)
    read(Crafted(cluster_bits=9).build()[:72] + data)


@tries("qcow2 header")
@given(lies)
def test_no_lie_in_a_field_crashes_the_reader(image: Crafted) -> None:
    read(image.build())


@tries("qcow2 header")
@given(images)
def test_an_image_is_read_as_it_was_made(image: Crafted) -> None:
    header = read(image.build())
    assert header is not None
    assert (header.version, header.cluster_bits) == (image.version, image.cluster_bits)
    assert header.virtual_size == image.size
    assert header.backing_file == (image.backing.decode() or None)
    formats = [data.decode() for kind, data in image.extensions if kind == BACKING_FORMAT]
    assert header.backing_format == (formats[0] if formats else None)
    assert header.data_file is None


@tries("qcow2 header", each=2)
@given(images, edits(512), edits(FIELDS))
def test_an_edited_header_is_refused_or_in_range(
    image: Crafted, anywhere: Any, in_the_fields: Any
) -> None:
    read(edited(image.build(), anywhere))
    read(edited(image.build(), in_the_fields))


@tries("qcow2 header", each=FIELDS)
@given(images, some)
def test_a_flipped_byte_of_the_fields_is_refused_or_in_range(image: Crafted, by: int) -> None:
    good = image.build()
    for at in range(FIELDS):
        header = read(flipped(good, at, by))
        assert header is None or at >= 4
        if header is not None and at in range(4, 8):
            assert {header.version, image.version} == {2, 3}


@tries("qcow2 header", each=12)
@given(images, st.binary(max_size=64), st.integers(0, 511))
def test_only_the_whole_first_cluster_counts(image: Crafted, junk: bytes, cut: int) -> None:
    head = image.build()
    cluster = first_cluster(head)
    header = read(head)
    assert read(head[:cluster] + junk) == header
    for step in range(11):
        assert read(head[: (cut + step * 37) % cluster]) is None
