"""The value block of a lease, and the job record in it.

Oracle of the reader: 703, or a record that is written and read back as it is (or is too long in
our writing of it). Oracle of the check: a block passes as the expected job only if Python's own
reader of JSON finds exactly the expected type, id, status and generation in it.
"""

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leases import lvb
from leases.repair import Content
from leases.slot import LVB_SIZE
from protocol.errors import (
    GenerationMismatch,
    JobStatusMismatch,
    SanlockLVBError,
    UnsupportedOperation,
)
from protocol.record import Expectation, JobRecord, JobStatus, next_generation
from tests.properties.inputs import JSON, SCALARS, bounded, edited, edits, flipped, flips

JOB = "abcdef50-6666-4777-8888-999999999991"
KEYS = ("type", "job_id", "job_status", "generation", "created", "modified", "host_hardware_id")
REFUSALS = (SanlockLVBError, UnsupportedOperation, JobStatusMismatch, GenerationMismatch)

records = st.builds(
    lambda job, generation, status, now, host, more: JobRecord(
        {
            **JobRecord.pending(str(job), generation, now=now, hardware_id=host).keys,
            "job_status": status,
            **more,
        }
    ),
    st.uuids() | st.just(UUID(JOB)),
    st.integers(0, 999),
    st.sampled_from([s.value for s in JobStatus]),
    st.integers(0, 1 << 40),
    st.text(st.characters(codec="utf-8"), max_size=8),
    st.dictionaries(
        st.text(max_size=5), SCALARS.filter(lambda x: not isinstance(x, float)), max_size=2
    ),
).filter(lambda r: not {"type", "job_id", "job_status", "generation"} - r.keys.keys())


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
    return (
        str(keys.get("type")).upper() == "JOB"
        and facts == wanted
        and [type(f) for f in facts] == [str, str, int]
    )


@given(st.binary(max_size=512))
def test_no_bytes_crash_the_reader(data: bytes) -> None:
    read(data)
    read(data.ljust(512, b"\0"))
    read((b"{" + data[:500] + b"}").ljust(512, b"\0"))


@given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON), st.booleans())
def test_every_json_is_read_back_or_refused(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode(errors="replace")
    assume(len(text) <= 512)
    record = read(text.ljust(512, b"\0"))
    if record is not None:
        assert isinstance(value, dict)
        assert record.keys == json.loads(text)


@given(records)
def test_what_we_write_is_read_back_to_the_byte(record: JobRecord) -> None:
    block = written(record)
    found = read(block)
    assert found is not None
    assert list(found.keys.items()) == list(record.keys.items())
    assert written(found) == block
    assert Content(used=True, lease_id="a", block=block).job


@given(records, edits(512))
def test_an_edited_block_passes_only_as_what_it_says(record: JobRecord, changes: Any) -> None:
    block = edited(written(record), changes)
    read(block)
    for source in (record, JobRecord.pending(JOB, 0, now=1, hardware_id="h")):
        keys = source.keys
        expected = Expectation(keys["job_id"], keys["generation"], JobStatus(keys["job_status"]))
        assert not passes(block, expected) or says(block, expected)


@given(records, flips(range(512)))
def test_a_flipped_byte_never_makes_it_another_job(record: JobRecord, flip: Any) -> None:
    """Another id, status or generation may come of it, but not one that is expected here."""
    block = flipped(written(record), flip)
    read(block)
    keys = record.keys
    generation, status = keys["generation"], JobStatus(keys["job_status"])
    if passes(block, Expectation(keys["job_id"], generation, status)):
        assert says(block, Expectation(keys["job_id"], generation, status))
    others = [s for s in JobStatus if s is not status]
    assert not any(passes(block, Expectation(keys["job_id"], generation, s)) for s in others)
    assert not passes(block, Expectation(JOB[::-1], generation, status))


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, SCALARS)), records)
def test_a_check_compares_values_and_their_types(keys: Any, record: JobRecord) -> None:
    wanted = record.keys
    expected = Expectation(wanted["job_id"], wanted["generation"], JobStatus(wanted["job_status"]))
    mixed = JobRecord({**wanted, **keys})
    same = (
        all(
            type(mixed.keys[k]) is type(wanted[k]) and mixed.keys[k] == wanted[k]
            for k in ("job_id", "job_status", "generation")
        )
        and str(mixed.keys["type"]).upper() == "JOB"
    )
    if same:
        mixed.check(expected)
        return
    with pytest.raises(REFUSALS):
        mixed.check(expected)


@given(records, st.sampled_from(JobStatus), st.integers(0, 1 << 40))
def test_an_end_changes_four_keys_and_keeps_all_others(
    record: JobRecord, status: JobStatus, now: int
) -> None:
    before, after = record.keys, record.ended(status, now=now, hardware_id="x").keys
    kept = before["generation"]
    moved = status in (JobStatus.SUCCEEDED, JobStatus.FENCED)
    assert after["generation"] == (next_generation(kept) if moved else kept)
    assert (after["job_status"], after["modified"], after["host_hardware_id"]) == (status, now, "x")
    changed = {"generation", "job_status", "modified", "host_hardware_id"}
    assert list(after) == list(before)
    assert all(after[k] == before[k] for k in before if k not in changed)
