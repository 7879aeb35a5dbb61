"""The leader of a slot.

Oracle: InvalidLeader, or the fields as struct finds them in a sector whose magic, version and
checksum are right by a checksum of our own.
"""

import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from leases import leader
from leases.crc32c import checksum
from leases.leader import InvalidLeader, Leader
from leases.repair import Content
from tests.properties.inputs import bounded, edited, edits, flipped, some, tries

MIB = 1 << 20
SD_ID = "11111111-2222-4333-8444-555555555555"
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=48)
sectors = st.builds(
    lambda space, name, size: leader.fresh(
        space, name, sector=size, alignment=MIB if size == 512 else 8 * MIB
    ),
    names | st.just(SD_ID),
    names,
    st.sampled_from([512, 4096]),
)


def bit_by_bit(data: bytes) -> int:
    """CRC-32C by its definition."""
    crc = 0xFFFFFFFE
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc


def sealed(data: bytes) -> bytes:
    """With a checksum that is right: what is left to refuse is said by the fields."""
    return data[:168] + struct.pack("<I", checksum(data[:168])) + data[172:]


def unpack(sector: bytes) -> Leader | None:
    with bounded():
        try:
            found = Leader.unpack(sector)
        except InvalidLeader:
            return None
    magic, version = struct.unpack_from("<2I", sector)
    assert (magic, version >> 16) == (0x06152010, 6)
    assert struct.unpack_from("<I", sector, 168)[0] == checksum(sector[:168])
    assert found.space.encode().ljust(48, b"\0") == sector[56:104]
    assert found.resource.encode().ljust(48, b"\0") == sector[104:152]
    numbers = (found.owner_id, found.owner_generation, found.version)
    assert numbers == struct.unpack_from("<3Q", sector, 32)
    assert found.timestamp == struct.unpack_from("<Q", sector, 152)[0]
    return found


def check_content(sector: bytes) -> None:
    """What a rebuild makes of it: a lease of ours only if the leader is one of ours."""
    content = Content.of(sector, SD_ID)
    found = unpack(sector)
    assert content.used == (found is not None and found.resource != "")
    if content.lease_id is not None:
        assert found is not None
        assert (found.space, found.resource) == (SD_ID, content.lease_id)
        assert content.lease_id.isprintable()


@tries("leader", each=2)
@given(st.binary(min_size=512, max_size=512))
def test_no_sector_crashes_the_reader(sector: bytes) -> None:
    check_content(sector)
    check_content(sealed(leader.fresh("a", "b", sector=512, alignment=MIB)[:8] + sector[8:]))


@tries("leader")
@given(sectors, edits(200))
def test_an_edited_leader_with_a_right_checksum_says_what_stands_there(
    sector: bytes, changes: Any
) -> None:
    check_content(sealed(edited(sector, changes)))


@tries("leader", each=172)
@given(sectors, some)
def test_a_leader_with_a_flipped_byte_is_none(sector: bytes, by: int) -> None:
    for at in range(172):
        assert unpack(flipped(sector, at, by)) is None


@tries("leader", each=85)
@given(sectors, some)
def test_what_stands_behind_the_checksum_does_not_count(sector: bytes, by: int) -> None:
    found = unpack(sector)
    assert found is not None
    for at in range(172, 512, 4):
        changed = unpack(flipped(sector, at, by))
        assert changed is not None
        # Who wrote it stands there, and says nothing about who owns it.
        assert replace(changed, writer_id=found.writer_id) == found


@tries("leader", each=2)
@given(names, names, st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
def test_an_acquire_changes_the_version_and_nothing_else(
    space: str, name: str, version: int, timestamp: int
) -> None:
    sector = bytearray(leader.fresh(space, name, sector=512, alignment=MIB))
    struct.pack_into("<Q", sector, 48, version)
    struct.pack_into("<Q", sector, 152, timestamp)
    before = sealed(bytes(sector))
    after = leader.acquired(before)
    assert unpack(before) == Leader(space, name, version, timestamp=timestamp)
    next_version = (version + 1) % (1 << 64)
    assert unpack(after) == Leader(space, name, next_version, timestamp=timestamp)
    assert after[:48] + after[56:168] + after[172:] == before[:48] + before[56:168] + before[172:]


@tries("leader")
@given(st.binary(max_size=64))
def test_the_checksum_is_that_of_its_definition(data: bytes) -> None:
    assert checksum(data) == bit_by_bit(data)


@tries("leader")
@given(st.binary(max_size=152))
def test_a_sector_cut_short_is_an_error_that_has_a_name(data: bytes) -> None:
    """The caller always reads whole sectors; a shorter one cannot come from there."""
    with pytest.raises((InvalidLeader, struct.error)):
        Leader.unpack(data)
