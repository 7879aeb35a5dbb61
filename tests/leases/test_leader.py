"""Leader and slot: golden sectors of sanlock."""

from typing import Any

import pytest

from leases import leader, slot
from leases.crc32c import checksum
from leases.geometry import MIB, Geometry
from leases.leader import InvalidLeader, Leader
from protocol.errors import UnsupportedOperation
from tests.leases.vectors import load

VECTORS = load("sanlock_sectors")
SPACE = VECTORS["inputs"]["lockspace"]
RESOURCE = VECTORS["inputs"]["resource"]
STEPS = VECTORS["steps"]


def step_sector(number: int, name: str) -> bytes:
    return bytes.fromhex(STEPS[number][name]).ljust(512, b"\0")


@pytest.mark.parametrize("case", VECTORS["fresh_leaders_by_geometry"], ids=lambda c: str(c)[:40])
def test_a_fresh_leader_of_each_geometry_is_byte_for_byte_that_of_sanlock(
    case: dict[str, Any],
) -> None:
    alignment = case["align_mib"] * MIB
    made = leader.fresh(SPACE, RESOURCE, sector=case["sector_size"], alignment=alignment)
    golden = bytes.fromhex(case["resource_leader_first_216"])
    assert made == golden.ljust(case["sector_size"], b"\0")


@pytest.mark.parametrize("number", range(1, 12))
def test_leaders_of_every_step_are_read(number: int) -> None:
    fields = STEPS[number]["resource_sector_0_fields"]
    assert Leader.unpack(step_sector(number, "resource_sector_0_leader")) == Leader(
        fields["space_name"],
        fields["resource_name"],
        fields["lver"],
        fields["owner_id"],
        fields["owner_generation"],
        fields["timestamp"],
        fields["write_id"],
    )


def test_the_checksums_of_host_blocks_fit_too() -> None:
    block = step_sector(5, "resource_sector_2_host1_block")
    golden = STEPS[5]["resource_sector_2_fields"]["checksum"]
    assert f"{checksum(block[:48]):#010x}" == golden


@pytest.mark.parametrize(
    ("number", "names"), [(1, (SPACE, RESOURCE)), (10, ("", "")), (11, (SPACE, RESOURCE))]
)
def test_a_slot_is_written_as_by_sanlock(number: int, names: tuple[str, str]) -> None:
    geometry = Geometry()
    whole = slot.fresh(geometry, *names).pack(geometry)
    assert len(whole) == MIB
    assert whole[:512] == step_sector(number, "resource_sector_0_leader")
    assert whole[512:1024] == step_sector(number, "resource_sector_1_request")
    assert not whole[1024:].strip(b"\0")  # host blocks and value block
    assert not step_sector(number, "resource_sector_2_host1_block").strip(b"\0")


@pytest.mark.parametrize("geometry", [Geometry.of(512), Geometry.of(4096)], ids=str)
def test_the_value_block_has_its_place_in_the_slot(geometry: Geometry) -> None:
    whole = slot.fresh(geometry, SPACE, RESOURCE, b"L" * 512).pack(geometry)
    assert whole.index(b"L" * 512) == 2002 * geometry.sector
    assert len(whole) == geometry.alignment
    if geometry.sector == 512:
        assert geometry.lvb_offset == 1025024


def test_an_acquire_changes_version_and_checksum_only() -> None:
    before = step_sector(9, "resource_sector_0_leader")
    after = leader.acquired(before)
    changed = {at for at in range(512) if before[at] != after[at]}
    assert changed <= {*range(48, 56), *range(168, 172)}
    assert Leader.unpack(after).version == Leader.unpack(before).version + 1
    assert Leader.unpack(after).timestamp == 0


@pytest.mark.parametrize("at", [0, 6, 16, 40, 56, 104, 152, 167, 168])
def test_a_leader_with_a_wrong_byte_is_refused(at: int) -> None:
    sector = bytearray(step_sector(1, "resource_sector_0_leader"))
    sector[at] ^= 0x40
    with pytest.raises(InvalidLeader):
        Leader.unpack(bytes(sector))


def test_a_sector_of_zeros_is_no_leader() -> None:
    with pytest.raises(InvalidLeader, match="magic"):
        Leader.unpack(bytes(512))


@pytest.mark.parametrize(
    ("sector", "alignment"),
    [(4096, 1 * MIB), (4096, 2 * MIB), (4096, 4 * MIB), (1024, MIB), (512, 3 * MIB), (0, MIB)],
)
def test_a_geometry_whose_value_block_lies_in_the_next_lease_is_refused(
    sector: int, alignment: int
) -> None:
    with pytest.raises(UnsupportedOperation) as caught:
        Geometry(sector, alignment)
    assert caught.value.code == 2009
