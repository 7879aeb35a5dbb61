"""The index of a lease volume: metadata block and records.

Oracle of the block: InvalidMetadata, or a lockspace that stands there byte by byte, and written
again it reads the same. Oracle of the records: a lookup that goes through them one by one.
"""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from leases import index
from leases.geometry import DEFAULT
from leases.index import EMPTY, Index, Place
from leases.repair import lease_of
from protocol.errors import InvalidMetadata, InvalidRecord
from tests.properties.inputs import bounded, edited, edits, flipped, flips

SD_ID = "11111111-2222-4333-8444-555555555555"
MTIME = 1700000000
BLOCK = index.metadata(SD_ID, MTIME)
CHECKED = (range(4), range(5, 9), range(10, 58), range(59, 69), range(70, 71))  # of the block

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48)
few = st.sampled_from(["a", "ab", "b" * 48, "b" * 47])
records = st.one_of(
    st.just(EMPTY),
    st.builds(index.record, names | few, st.integers(0, 10**11 - 1), updating=st.booleans()),
    st.binary(min_size=64, max_size=64),
    st.builds(edited, st.builds(index.record, few, st.just(0)), edits(64)),
)


def parse(data: bytes, *, interrupted: bool = False) -> Index | None:
    with bounded():
        try:
            return Index.parse(data, path="x", interrupted=interrupted)
        except InvalidMetadata:
            return None


def check_block(data: bytes) -> None:
    found = parse(data)
    if found is None:
        return
    assert data[:4] == BLOCK[:4]
    assert data[70:71] != b"u"
    assert found.lockspace.encode().ljust(48, b"\0") == data[10:58]
    if 0 <= found.mtime < 10**10:
        again = parse(index.metadata(found.lockspace, found.mtime))
        assert again is not None
        assert (again.lockspace, again.mtime) == (found.lockspace, found.mtime)


def one_by_one(data: bytes, name: str) -> int | None:
    """The first record of that name, the slow way."""
    for number in range(len(data) // 64):
        if data[number * 64 :][:49] == name.encode().ljust(49, b"\0"):
            return number
    return None


@given(st.binary(max_size=600))
def test_no_bytes_crash_the_reader_of_the_metadata_block(data: bytes) -> None:
    check_block(data)
    check_block(data.ljust(512, b"\0"))
    check_block((BLOCK[:4] + data)[:512].ljust(512, b"\0"))
    parse(data, interrupted=True)


@given(edits(512))
def test_an_edited_metadata_block_is_refused_or_says_what_stands_there(changes: Any) -> None:
    check_block(edited(BLOCK, changes))


@given(names, st.integers(0, 10**10 - 1))
def test_a_metadata_block_is_read_back(lockspace: str, mtime: int) -> None:
    found = parse(index.metadata(lockspace, mtime))
    assert found is not None
    assert (found.lockspace, found.mtime) == (lockspace, mtime)


@given(st.sampled_from(CHECKED).flatmap(flips))
def test_a_flipped_byte_of_the_metadata_block_never_makes_it_another_lockspace_of_ours(
    flip: Any,
) -> None:
    """Only the time, which is for people, may read differently in an index that is accepted."""
    found = parse(flipped(BLOCK, flip))
    at = flip[0]
    if found is None or found.lockspace != SD_ID:
        assert at not in range(59, 69) or found is None
        return
    assert at in range(5, 9) or at in range(59, 71)  # " 001" is a number, "x" no flag
    assert at in range(59, 69) or found.mtime == MTIME


@given(st.lists(records, max_size=12), few | names)
def test_a_lookup_finds_the_first_record_of_a_name_and_no_other(
    table: list[bytes], name: str
) -> None:
    data = b"".join(table)
    with bounded():
        place = Index(SD_ID, 0, data).find(name)
    number = one_by_one(data, name)
    assert (place and place.number) == number
    if place is None:
        return
    assert place.record == table[place.number]
    try:
        place.check()
    except InvalidRecord:
        return
    int(place.record[49:60])


@given(st.lists(records, max_size=12))
def test_a_list_has_every_lease_in_its_place_and_nothing_free(table: list[bytes]) -> None:
    found = Index(SD_ID, 0, b"".join(table))
    with bounded():
        listed = found.leases(DEFAULT)
    free = set(found.free())
    assert free == {n for n, record in enumerate(table) if record == EMPTY}
    places = [DEFAULT.number(one.offset) for one in listed]
    assert sorted(set(places)) == places
    assert not free & set(places)
    for number, one in zip(places, listed, strict=True):
        assert one.lease_id
        assert table[number].startswith(one.lease_id.encode())
        assert one.updating == (table[number][61:62] == b"u")
    assert [p.number for p in found.updating()] == [
        n for n, record in enumerate(table) if record[61:62] == b"u"
    ]


@given(names, flips(range(64)), st.booleans())
def test_a_flipped_byte_of_a_record_never_gives_its_slot_to_another_name(
    name: str, flip: Any, updating: bool
) -> None:
    good = index.record(name, 12345678, updating=updating)
    bad = flipped(good, flip)
    found = Index(SD_ID, 0, bad).find(name)
    assert (found is not None) == (flip[0] > 48)
    if found is not None and flip[0] != 61:
        assert found.updating == updating
    assert bad != EMPTY
    other = lease_of(Place(0, bad))
    assert other is None or bad[:49] == other.encode().ljust(49, b"\0")
