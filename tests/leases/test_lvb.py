"""The value block: golden bytes, and what is refused."""

from typing import Any

import pytest

from leases import lvb
from protocol.errors import Error, SanlockLVBError
from protocol.record import Expectation, JobRecord, JobStatus
from tests.leases.vectors import load

VECTORS = load("lvb")
HOST = VECTORS["inputs"]["host_hardware_id"]
JOB = "abcdef55-6666-4777-8888-999999999995"  # of the reader inputs


def reader_block(case: dict[str, Any]) -> bytes:
    return bytes.fromhex(case["data_hex"]) + bytes(case["data_nul_padding"])


@pytest.mark.parametrize("name", VECTORS["states"])
def test_every_state_is_written_byte_for_byte(name: str) -> None:
    state = VECTORS["states"][name]
    given = state["inputs"]["metadata"]
    record = JobRecord.pending(
        given["job_id"], given["generation"], now=1700000000, hardware_id=HOST
    )
    if name != "PENDING":
        end = JobStatus(name.split("_", maxsplit=1)[0])
        now = 1700000200 if end is JobStatus.FENCED else 1700000100
        record = record.ended(end, now=now, hardware_id=HOST)
    block = lvb.encode(record)
    assert block.hex() == state["hex_512"]
    assert lvb.decode(block) == record
    assert dict(record.keys) == state["vdsm_reads_back"]["metadata"]


def test_never_written_is_all_nul() -> None:
    assert lvb.encode(None) == bytes(512)
    assert lvb.decode(bytes(512)) is None


@pytest.mark.parametrize("case", VECTORS["writer_size_limit"], ids=lambda c: c["json_length"])
def test_a_record_that_does_not_fit_is_refused(case: dict[str, Any]) -> None:
    record = JobRecord({"x": "y" * (case["json_length"] - len('{"x": ""}'))})
    if case["set_lvb"] == "ok":
        assert lvb.decode(lvb.encode(record)) == record
        return
    with pytest.raises(SanlockLVBError):
        lvb.encode(record)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x"], ids=repr)
def test_what_is_not_json_is_not_written(value: object) -> None:
    with pytest.raises(SanlockLVBError):
        lvb.encode(JobRecord({"x": value}))


# vdsm returns these as metadata, or as none; a reader of ours would have to handle each of them.
REFUSED_BY_US = {"JSON array", "JSON string", "JSON null"}
# Only a daemon can be sent these: in a sector there are always 512 bytes.
NOT_A_BLOCK = {"8 bytes sent without padding (after a longer value)", "513 bytes"}
READABLE = [c for c in VECTORS["reader"] if c["name"] not in NOT_A_BLOCK]


@pytest.mark.parametrize("case", READABLE, ids=lambda c: c["name"])
def test_reader_inputs_give_what_vdsm_reads(case: dict[str, Any]) -> None:
    block = reader_block(case)
    assert len(block) == 512
    if "error" in case["lease_status"] or case["name"] in REFUSED_BY_US:
        with pytest.raises(SanlockLVBError):
            lvb.decode(block)
        return
    record = lvb.decode(block)
    keys = dict(record.keys) if record else {}
    assert keys == case["lease_status"]["metadata"]
    assert list(keys) == list(case["lease_status"]["metadata"])  # the order too


# Types are strict: 0.0 is not the generation 0.
STRICTER = {"generation as true/float": 911}


@pytest.mark.parametrize("case", READABLE, ids=lambda c: c["name"])
def test_reader_inputs_are_fenced_or_refused_as_by_vdsm(case: dict[str, Any]) -> None:
    def fenced() -> bytes:
        record = lvb.decode(reader_block(case)) or JobRecord({})
        record.check(Expectation(JOB, 0))
        return lvb.encode(record.ended(JobStatus.FENCED, now=1700000200, hardware_id=HOST))

    if case["fence"] == "ok" and case["name"] not in STRICTER:
        assert fenced().rstrip(b"\0").decode() == case["lvb_after_fence"]
        return
    with pytest.raises(Error) as caught:
        fenced()
    code = STRICTER.get(case["name"]) or case["fence"].get("code", 703)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "text",
    [
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b'{"x": ' + b"[" * 500,
        b'{"x": 1} {"x": 2}',
        b"{'x': 1}",
        b"\0{}",
        b'{"x": 1}\0{}',
    ],
)
def test_garbage_is_not_taken_for_a_record(text: bytes) -> None:
    with pytest.raises(SanlockLVBError):
        lvb.decode(text.ljust(512, b"\0"))


def test_unknown_keys_and_their_order_are_kept() -> None:
    block = b'{"zzz": [1, {"a": null}], "job_id": "x", "\xc3\xa4": "\\ud83d\\ude00"}'.ljust(512)
    record = lvb.decode(block)
    assert record is not None
    assert list(record.keys) == ["zzz", "job_id", "ä"]
    assert lvb.decode(lvb.encode(record)) == record


@pytest.mark.parametrize("case", VECTORS["copy_data_validation"], ids=lambda c: c["name"])
def test_a_record_is_taken_up_or_refused_as_by_vdsm(case: dict[str, Any]) -> None:
    record = lvb.decode(case["lvb_before"].encode().ljust(512, b"\0"))
    assert record is not None
    expected = Expectation(JOB, case["endpoint_generation"])
    if "error" in case["job_info"]:
        with pytest.raises(Error) as caught:
            record.check(expected)
        assert caught.value.code == case["job_info"]["error"]["code"]
        return
    record.check(expected)
    ended = record.ended(JobStatus.SUCCEEDED, now=1700000300, hardware_id=HOST)
    assert lvb.encode(ended).rstrip(b"\0").decode() == case["lvb_after"]
