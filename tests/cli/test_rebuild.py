"""`leasehold lease rebuild`."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.run import Cli
from tests.cli.test_lease import JOB, MIB, OTHER, owned

INDEX = MIB  # offset of the index; its records begin 512 bytes later
KINDS = {"kept", "restored", "written", "cleared", "held", "failed"}


@pytest.fixture
def sd(cli: Cli, tmp_path: Path) -> str:
    return cli.domain(tmp_path / "mount")


def create(cli: Cli, sd: str, lease: str) -> Any:
    return cli("lease", "create", sd, lease, "--job-id", lease, "--json").json


def spoil(place: Any, *, offset: int | None = None, data: bytes = b"?" * 64) -> None:
    """Write over the record of a lease, or elsewhere in its volume."""
    number = place["offset"] // MIB - 3
    with Path(place["path"]).open("r+b") as volume:
        volume.seek(INDEX + 512 + number * 64 if offset is None else offset)
        volume.write(data)


def test_a_damaged_index_is_repaired_and_the_result_says_how(cli: Cli, sd: str) -> None:
    damaged, lost = create(cli, sd, JOB), create(cli, sd, OTHER)
    cli("lease", "create", sd, "well")
    spoil(damaged)
    spoil(lost, offset=lost["offset"], data=bytes(512))
    assert cli("lease", "info", sd, JOB).code == 3
    told = cli("lease", "rebuild", sd, "--json")
    assert told.code == 0
    assert set(told.json) == {"sd_id", *KINDS}
    assert told.json["sd_id"] == sd
    assert told.json["restored"] == [{"lease_id": JOB, "offset": damaged["offset"]}]
    assert told.json["written"] == [{"lease_id": OTHER, "offset": lost["offset"]}]
    assert [one["lease_id"] for one in told.json["kept"]] == ["well"]
    assert cli("lease", "info", sd, JOB, "--json").json == damaged
    for lease in (JOB, OTHER):
        status = cli("lease", "status", sd, lease, "--json").json
        assert status["metadata"]["job_status"] == "PENDING"


def test_people_are_told_each_repair_in_a_line(cli: Cli, sd: str) -> None:
    assert cli("lease", "rebuild", sd).out == "0 leases were in order\n"
    place = create(cli, sd, JOB)
    create(cli, sd, OTHER)
    spoil(place)
    told = cli("lease", "rebuild", sd)
    assert told.out.splitlines() == [
        f"{JOB} at offset {place['offset']} is in the index again",
        "1 lease was in order",
    ]
    assert cli("lease", "rebuild", sd).out == "2 leases were in order\n"


def test_what_is_in_use_is_left_alone_and_named(cli: Cli, sd: str) -> None:
    place = create(cli, sd, JOB)
    with owned(cli, sd, JOB):
        spoil(place, data=OTHER.encode())  # another name in its record
        told = cli("lease", "rebuild", sd)
        assert told.code == 0
        assert "is in use" in told.out
        found = cli("lease", "rebuild", sd, "--json").json
        assert found["held"] == [{"lease_id": OTHER, "offset": place["offset"]}]
    assert cli("lease", "rebuild", sd, "--json").json["written"] == found["held"]


def test_an_index_that_is_none_is_refused(cli: Cli, sd: str) -> None:
    place = create(cli, sd, JOB)
    spoil(place, offset=INDEX, data=bytes(512))
    told = cli("lease", "rebuild", sd, "--json")
    assert (told.code, told.error["kind"]) == (6, "InvalidMetadata")


def test_a_domain_that_nobody_knows_is_not_found(cli: Cli) -> None:
    told = cli("lease", "rebuild", OTHER, "--json")
    assert (told.code, told.error["code"]) == (3, 358)


def test_a_domain_of_a_pool_is_for_its_own_manager(cli: Cli, sd: str) -> None:
    place = create(cli, sd, JOB)
    metadata = Path(place["path"]).parent / "metadata"
    lines = metadata.read_text().splitlines()
    lines = [line for line in lines if not line.startswith(("POOL_UUID=", "_SHA_CKSUM="))]
    metadata.write_text("\n".join([*lines, f"POOL_UUID={OTHER}"]) + "\n")
    before = Path(place["path"]).read_bytes()
    told = cli("lease", "rebuild", sd, "--json")
    assert (told.code, told.error["code"]) == (6, 2009), json.dumps(told.error)
    assert Path(place["path"]).read_bytes() == before
