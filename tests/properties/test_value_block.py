"""The value block of a lease.

Oracle of the reader: 703, or a record that is written and read back as it is (or is too long in
our writing of it). Oracle of what is made of it: a block passes as an expected job only if Python's
own reader of JSON finds exactly the expected type, id, status and generation in it.
"""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leases import lvb
from leases.repair import Content
from leases.slot import LVB_SIZE
from protocol.errors import SanlockLVBError
from protocol.record import Expectation, JobRecord, JobStatus
from tests.properties.inputs import JSON, bounded, edited, edits, flipped, some, tries
from tests.properties.records import JOB, KEYS, REFUSALS, expectation, records

PENDING = JobRecord.pending(JOB, 0, now=1, hardware_id="h")


def written(record: JobRecord) -> bytes:
    assume(len(json.dumps(record.keys)) <= LVB_SIZE)
    return lvb.encode(record)


def read(block: bytes) -> JobRecord | None:
    """As the reader reads it, and as the oracle wants it."""
    with bounded():
        try:
            record = lvb.decode(block)
        except SanlockLVBError:
            return None
    assert (record is None) == (block.strip(b"\0") == b"")
    if record is None:
        return None
    if len(json.dumps(record.keys)) > LVB_SIZE:  # ASCII may be longer than UTF-8
        with pytest.raises(SanlockLVBError):
            lvb.encode(record)
        return record
    again = lvb.encode(record)
    assert len(again) == LVB_SIZE
    assert lvb.decode(again) == record
    return record


def passes(block: bytes, expected: Expectation) -> bool:
    """Whether a worker or a fence takes the block for that of the expected job."""
    try:
        (lvb.decode(block) or JobRecord({})).check(expected)
    except REFUSALS:
        return False
    return True


def says(block: bytes, expected: Expectation) -> bool:
    """The same, said differently."""
    keys = json.loads(block.rstrip(b"\0 \t\r\n"))
    facts = [keys.get(k) for k in ("job_id", "job_status", "generation")]
    wanted = [expected.job_id, expected.status.value, expected.generation]
    same = facts == wanted and [type(f) for f in facts] == [str, str, int]
    return same and str(keys.get("type")).upper() == "JOB"


@tries("value block", each=3)
@given(st.binary(max_size=512))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    read(data)
    read(data.ljust(512, b"\0"))
    read((b"{" + data[:500] + b"}").ljust(512, b"\0"))


@tries("value block")
@given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON), st.booleans())
def test_every_json_is_read_back_or_refused(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace")
    assume(len(text) <= 512)
    record = read(text.ljust(512, b"\0"))
    if record is not None:
        assert isinstance(value, dict)
        assert record.keys == json.loads(text)


@tries("value block")
@given(records)
def test_what_we_write_is_read_back_to_the_byte(record: JobRecord) -> None:
    block = written(record)
    found = read(block)
    assert found is not None
    assert list(found.keys.items()) == list(record.keys.items())
    assert written(found) == block
    assert passes(block, expectation(record))
    assert Content(used=True, lease_id="a", block=block).job


@tries("value block")
@given(records, edits(512))
def test_an_edited_block_passes_only_as_what_it_says(record: JobRecord, changes: Any) -> None:
    block = edited(written(record), changes)
    read(block)
    for source in (record, PENDING):
        expected = expectation(source)
        assert not passes(block, expected) or says(block, expected)


@tries("value block", each=64)
@given(records, st.integers(0, 7), some)
def test_a_flipped_byte_never_makes_another_job_of_it(
    record: JobRecord, first: int, by: int
) -> None:
    good = written(record)
    expected = expectation(record)
    others = [
        Expectation(expected.job_id, expected.generation, s)
        for s in JobStatus
        if s is not expected.status
    ]
    for at in range(first, 512, 8):
        block = flipped(good, at, by)
        read(block)
        if passes(block, expected):
            assert says(block, expected)
        assert not any(passes(block, other) for other in others)
