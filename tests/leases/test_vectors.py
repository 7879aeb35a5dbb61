"""The golden vectors that no other test of this folder reads."""

import json
from pathlib import Path
from typing import Any

import pytest

from leases import lvb, slot, verbs
from leases.crc32c import checksum
from leases.embedded import EmbeddedStore
from leases.geometry import Geometry
from leases.index import EMPTY, INDEX_SIZE
from leases.volume import LeaseVolume, format_volume
from protocol.errors import BadParameter, NoSpace
from protocol.messages import JobMetadata, decode
from tests.leases.vectors import load

VOLUME = load("lease_volume")
SECTORS = load("sanlock_sectors")
LVB = load("lvb")

# Where we differ, and why.
VALIDATOR_DIFFERENCES = {
    "J": "any text that is in 'JOB' passes there; here only JOB, in any case",
    "job": "oVirt's own feature page writes it so",
    "": "as 'J'",
}


def test_the_empty_record_is_that_of_vdsm() -> None:
    assert bytes.fromhex(VOLUME["empty_record"]) == EMPTY


def test_an_empty_file_is_formatted_to_the_same_bytes(tmp_path: Path) -> None:
    assert VOLUME["format_of_empty_file_same_index"] is True
    path = tmp_path / "xleases"
    volume = LeaseVolume(str(path), VOLUME["inputs"]["lockspace"], Geometry.of(512))
    format_volume(volume, now=int(VOLUME["inputs"]["frozen_time"]))
    assert path.stat().st_size == VOLUME["file_size_after_format_of_empty_file"]
    start = VOLUME["sizes"]["index_offset"]
    assert path.read_bytes()[start : start + 512].hex() == VOLUME["steps"][0]["metadata_block"]
    assert VOLUME["sizes"]["index_size"] == INDEX_SIZE


def test_the_metadata_block_is_the_same_from_the_first_step_to_the_last() -> None:
    assert VOLUME["final_metadata_block"] == VOLUME["steps"][0]["metadata_block"]


async def test_a_full_index_has_no_space(tmp_path: Path) -> None:
    assert VOLUME["full_index_add"]["error"] == NoSpace.__name__
    path, ids = tmp_path / "xleases", tmp_path / "ids"
    ids.touch()
    sd_id = VOLUME["inputs"]["lockspace"]
    format_volume(LeaseVolume(str(path), sd_id, Geometry.of(512)), now=0, leases=1)
    store = EmbeddedStore(sd_id, str(path), str(ids))
    names = VOLUME["inputs"]["leases"]
    await verbs.create(store, names["A"], None, now=0, hardware_id="h")
    with pytest.raises(NoSpace):
        await verbs.create(store, names["E"], None, now=0, hardware_id="h")


def test_a_lease_made_without_metadata_has_an_empty_value_block() -> None:
    vector = LVB["lvb_of_lease_created_without_metadata"]
    assert vector["all_zero"] is True
    made = slot.fresh(Geometry.of(512), "sd", "lease", lvb.encode(None))
    assert made.lvb == bytes(512)
    assert lvb.decode(made.lvb) is None


@pytest.mark.parametrize("case", LVB["JobMetadata_validator"], ids=lambda case: str(case["params"]))
def test_metadata_of_a_job_pass_as_in_vdsm_but_for_what_is_listed(case: dict[str, Any]) -> None:
    params, wanted = case["params"], case["result"]
    try:
        found = decode(params, JobMetadata, name="metadata")
    except BadParameter:
        strict = params.get("generation") is True  # no flag is a number here
        assert "error" in wanted or strict or params["type"] in VALIDATOR_DIFFERENCES
        return
    assert "error" not in wanted or params["type"] in VALIDATOR_DIFFERENCES
    assert str(found.job_id) == params["job_id"].lower()


@pytest.mark.parametrize("step", SECTORS["steps"], ids=lambda step: step["step"].split()[0])
def test_the_value_block_of_each_step_is_read(step: dict[str, Any]) -> None:
    block = bytes.fromhex(step["resource_sector_2002_lvb"]).ljust(512, b"\0")
    record = lvb.decode(block)
    if record is None:
        assert block == bytes(512)
        return
    text = block.rstrip(b"\0").decode()
    assert text in (SECTORS["inputs"]["lvb_V1"], SECTORS["inputs"]["lvb_V2"])
    assert record.keys == json.loads(text)
    assert lvb.encode(record) == block


@pytest.mark.parametrize("step", SECTORS["steps"], ids=lambda step: step["step"].split()[0])
@pytest.mark.parametrize(
    ("key", "covered", "place"),
    [("ids_sector_0_host1_delta_lease", 168, 168), ("resource_sector_2_host1_block", 48, 48)],
)
def test_our_checksum_is_that_of_every_other_sector_too(
    step: dict[str, Any], key: str, covered: int, place: int
) -> None:
    sector = bytes.fromhex(step[key])
    if not any(sector):
        return
    assert checksum(sector[:covered]) == int.from_bytes(sector[place : place + 4], "little")
