"""The index of a lease volume: metadata block and records.

Oracle of the block: InvalidMetadata, or a lockspace that stands there byte by byte; and written
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
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries

SD_ID = "11111111-2222-4333-8444-555555555555"
MTIME = 1700000000
BLOCK = index.metadata(SD_ID, MTIME)
# Of the block: magic, version, lockspace, flag. The time is for people.
CHECKED = (*range(4), *range(5, 9), *range(10, 58), 70)
TIME = range(59, 69)

names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48)
few = st.sampled_from(["a", "ab", "b" * 48, "b" * 47])
good = st.builds(index.record, names | few, st.integers(0, 10**11 - 1), updating=st.booleans())
# A name that begins elsewhere than a record does.
shifted = st.builds(
    lambda name, at: (bytes(at) + name.encode().ljust(49, b"\0") + b"x" * 64)[:64],
    few,
    st.integers(1, 15),
)
records = st.one_of(
    shifted,
    st.just(EMPTY),
    good,
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


@tries("index metadata block", each=4)
@given(st.binary(max_size=600))
def test_no_bytes_crash_the_reader_of_the_metadata_block(data: bytes) -> None:
    check_block(data)
    check_block(data.ljust(512, b"\0"))
    check_block((BLOCK[:10] + data)[:512].ljust(512, b"\0"))
    parse(data, interrupted=True)


@tries("index metadata block", each=2)
@given(edits(512), edits(80))
def test_an_edited_metadata_block_is_refused_or_says_what_stands_there(
    anywhere: Any, in_the_fields: Any
) -> None:
    check_block(edited(BLOCK, anywhere))
    check_block(edited(BLOCK, in_the_fields))


@tries("index metadata block")
@given(names, st.integers(0, 10**10 - 1) | st.integers())
def test_a_metadata_block_is_read_back_whatever_the_time_is(lockspace: str, mtime: int) -> None:
    block = index.metadata(lockspace, mtime)
    assert (len(block), block[70:71], block[511:]) == (512, b"-", b"\n")
    found = parse(block)
    assert found is not None
    assert (found.lockspace, found.mtime) == (lockspace, min(max(mtime, 0), 10**10 - 1))


@tries("index metadata block", each=len(CHECKED))
@given(some)
def test_a_flipped_byte_of_the_metadata_block_never_makes_it_one_of_another_kind(by: int) -> None:
    for at in CHECKED:
        found = parse(flipped(BLOCK, at, by))
        if found is not None and found.lockspace == SD_ID:
            # " 001" is the same version, and "x" is no flag.
            assert at in range(5, 9) or (at == 70 and by != ord("-") ^ ord("u"))
            assert found.mtime == MTIME


@tries("index metadata block", each=len(TIME))
@given(names, some)
def test_a_flipped_byte_of_the_time_changes_nothing_else(lockspace: str, by: int) -> None:
    for at in TIME:
        found = parse(flipped(index.metadata(lockspace, MTIME), at, by))
        assert found is None or found.lockspace == lockspace


def one_by_one(table: list[bytes], name: str) -> int | None:
    """The first record of that name, the slow way."""
    wanted = name.encode().ljust(49, b"\0")
    return next((n for n, record in enumerate(table) if record[:49] == wanted), None)


@tries("index record", each=6)
@given(st.lists(records, min_size=6, max_size=12), few | names)
def test_a_lookup_finds_the_first_record_of_a_name_and_no_other(
    table: list[bytes], name: str
) -> None:
    with bounded():
        place = Index(SD_ID, 0, b"".join(table)).find(name)
    assert (place and place.number) == one_by_one(table, name)
    if place is None:
        return
    assert place.record == table[place.number]
    try:
        place.check()
    except InvalidRecord:
        return
    int(place.record[49:60])


@tries("index record", each=6)
@given(st.lists(records, min_size=6, max_size=12))
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


@tries("index record", each=64)
@given(names, some, st.booleans())
def test_a_flipped_byte_of_a_record_never_gives_its_slot_to_another_lease(
    name: str, by: int, updating: bool
) -> None:
    record = index.record(name, 12345678, updating=updating)
    for at in range(64):
        bad = flipped(record, at, by)
        found = Index(SD_ID, 0, bad).find(name)
        assert (found is not None) == (at > 48)
        if found is not None and at != 61:
            assert found.updating == updating
        other = lease_of(Place(0, bad))
        assert other is None or bad[:49] == other.encode().ljust(49, b"\0")
        assert list(Index(SD_ID, 0, bad).free()) == []


@tries("index record", each=6)
@given(st.lists(records, min_size=6, max_size=12))
def test_a_rebuild_and_a_lookup_take_the_same_records_for_leases(table: list[bytes]) -> None:
    found = Index(SD_ID, 0, b"".join(table))
    for number in range(len(table)):
        lease_id = lease_of(found.place(number))
        if lease_id is not None:
            first = found.find(lease_id)
            assert first is not None
            assert lease_of(Place(0, first.record)) == lease_id or first.number < number


@tries("index record")
@given(names, st.integers(0, 10**11 - 1), st.booleans())
def test_a_record_is_found_by_what_it_was_written_for(
    name: str, offset: int, updating: bool
) -> None:
    record = index.record(name, offset, updating=updating)
    assert len(record) == 64
    place = Index(SD_ID, 0, EMPTY + record).find(name)
    assert place == Place(1, record)
    assert place.updating == updating
    assert int(place.record[49:60]) == offset
    assert lease_of(place) == name
