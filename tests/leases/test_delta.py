"""Delta leases: golden sectors of sanlock, and what the real daemon writes and reads."""

from pathlib import Path
from typing import Any

import pytest

from leases import delta
from leases.delta import Delta, InvalidDelta
from leases.geometry import MIB, Geometry
from leases.leader import Leader
from protocol.errors import InvalidDomain
from tests.leases.vectors import load
from tests.sanlock_hosts import IO_TIMEOUT, Hosts, write_lockspace

VECTORS = load("sanlock_sectors")
SPACE = VECTORS["inputs"]["lockspace"]
STEPS = VECTORS["steps"]
GEOMETRY = Geometry()


def step_sector(number: int) -> bytes:
    return bytes.fromhex(STEPS[number]["ids_sector_0_host1_delta_lease"]).ljust(512, b"\0")


def test_a_fresh_delta_lease_is_byte_for_byte_that_of_sanlock() -> None:
    made = delta.fresh(SPACE, VECTORS["inputs"]["io_timeout"], GEOMETRY)
    assert made == step_sector(1)
    assert made[:216].hex() == VECTORS["ids_fresh_host2_sector_1"]


CASES = [
    case
    for case in VECTORS["fresh_leaders_by_geometry"]
    if (case["sector_size"], case["align_mib"]) in ((512, 1), (4096, 8))  # others we refuse
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case["sector_size"]))
@pytest.mark.parametrize("host", [1, 2])
def test_a_fresh_delta_lease_of_each_geometry_is_that_of_sanlock(
    case: dict[str, Any], host: int
) -> None:
    geometry = Geometry(case["sector_size"], case["align_mib"] * MIB)
    golden = bytes.fromhex(case[f"delta_host{host}_first_216"])
    assert delta.fresh(SPACE, 10, geometry) == golden.ljust(geometry.sector, b"\0")


@pytest.mark.parametrize("number", range(1, 12))
def test_delta_leases_of_every_step_are_read(number: int) -> None:
    fields = STEPS[number]["ids_sector_0_fields"]
    assert delta.unpack(step_sector(number)) == Delta(
        fields["space_name"],
        fields["resource_name"],
        fields["owner_id"],
        fields["owner_generation"],
        fields["timestamp"],
        fields["io_timeout"],
    )


def test_one_who_has_left_has_no_timestamp_but_keeps_name_and_generation() -> None:
    assert delta.unpack(step_sector(6)) == Delta(SPACE, "hostA", 1, 1, 0, 1)


@pytest.mark.parametrize("at", [0, 6, 16, 40, 56, 104, 152, 167, 168])
def test_a_delta_lease_with_a_wrong_byte_is_refused(at: int) -> None:
    sector = bytearray(step_sector(2))
    sector[at] ^= 0x40
    with pytest.raises(InvalidDelta):
        delta.unpack(bytes(sector))


@pytest.mark.parametrize(
    ("sector", "reason"),
    [
        (bytes(512), "magic is 0x00000000"),
        (bytes.fromhex(STEPS[3]["resource_sector_0_leader"]), "magic is 0x06152010"),
    ],
)
def test_what_is_no_delta_lease_is_refused_with_a_reason(sector: bytes, reason: str) -> None:
    with pytest.raises(InvalidDelta, match=reason):
        delta.unpack(sector)


def test_a_delta_lease_is_no_leader() -> None:
    with pytest.raises(ValueError, match="magic"):
        Leader.unpack(step_sector(2))


@pytest.mark.parametrize("host_id", [-1, 0, 2001])
def test_no_host_has_an_id_outside_of_1_to_2000(host_id: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=str(host_id)):
        delta.read(str(tmp_path / "ids"), host_id, GEOMETRY)


def test_no_file_is_no_domain(tmp_path: Path) -> None:
    with pytest.raises(InvalidDomain):
        delta.read(str(tmp_path / "ids"), 1, GEOMETRY)


def test_the_daemon_writes_the_same_sector_for_every_host(hosts: Hosts, tmp_path: Path) -> None:
    ids = tmp_path / "ids"
    write_lockspace(hosts.a, SPACE, ids, io_timeout=7)
    assert ids.read_bytes() == (delta.fresh(SPACE, 7, GEOMETRY) * 2000).ljust(MIB, b"\0")


@pytest.mark.parametrize("host_id", [1, 2])
def test_a_member_is_read_from_the_storage(hosts: Hosts, host_id: int) -> None:
    found = delta.read(str(hosts.ids), host_id, GEOMETRY)
    assert (found.space, found.owner_id, found.io_timeout) == (hosts.sd_id, host_id, IO_TIMEOUT)
    assert found.name == {1: hosts.a.name, 2: hosts.b.name}[host_id]
    assert found.owner_generation >= 1
    assert found.timestamp > 0


def test_who_never_joined_has_no_name(hosts: Hosts) -> None:
    nobody = Delta(hosts.sd_id, io_timeout=IO_TIMEOUT)
    assert delta.read(str(hosts.ids), 2000, GEOMETRY) == nobody
