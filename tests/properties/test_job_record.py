"""The job record: whether it is the expected one, and what its end makes of it.

Oracle: a record passes when type (in any case), id, status and generation are equal and of the same
Python type; otherwise the first of them that is not decides the error.
"""

import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from leases.repair import Content
from leases.slot import LVB_SIZE
from protocol.errors import GenerationMismatch, JobStatusMismatch, UnsupportedOperation
from protocol.record import Expectation, JobRecord, JobStatus, next_generation
from tests.properties.inputs import JSON, SCALARS, tries
from tests.properties.records import CHECKED, KEYS, expectation, records

ERRORS = dict(
    zip(
        CHECKED,
        (UnsupportedOperation, UnsupportedOperation, JobStatusMismatch, GenerationMismatch),
        strict=True,
    )
)


def same(key: str, found: Any, wanted: Any) -> bool:
    if key == "type":
        return isinstance(found, str) and found.upper() == "JOB"
    return type(found) is type(wanted) and found == wanted


def check(record: JobRecord, expected: Expectation) -> None:
    """The check and its oracle."""
    values = (None, expected.job_id, expected.status.value, expected.generation)
    for key, wanted in zip(CHECKED, values, strict=True):
        if not same(key, record.keys.get(key), wanted):
            with pytest.raises(ERRORS[key]):
                record.check(expected)
            return
    record.check(expected)


def near(value: Any) -> Iterator[Any]:
    """What looks like `value` and is not."""
    yield from (None, [value], {"": value}, str(value) + " ", str(value) + "\0", "")
    if isinstance(value, str):
        yield from (value.encode().decode("utf-16", "replace"), value[::-1], value[:-1])
    else:
        yield from (float(value), str(value), bool(value), -value - 1, value + 1, value + 1000)


@tries("job record")
@given(st.dictionaries(st.sampled_from(KEYS), JSON), records)
def test_any_values_are_compared_with_their_types_in_order(keys: Any, record: JobRecord) -> None:
    check(JobRecord(keys), expectation(record))
    check(JobRecord({**record.keys, **keys}), expectation(record))


@tries("job record", each=32)
@given(records)
def test_what_looks_like_the_expected_value_is_not_it(record: JobRecord) -> None:
    expected = expectation(record)
    record.check(expected)
    for key in CHECKED:
        for value in near(record.keys[key]):
            check(JobRecord({**record.keys, key: value}), expected)


@tries("job record", each=2)
@given(records, records)
def test_the_record_of_a_job_is_not_that_of_another(one: JobRecord, other: JobRecord) -> None:
    check(one, expectation(other))
    check(other, expectation(one))


@tries("job record")
@given(records, st.sampled_from(JobStatus), st.integers(0, 1 << 40))
def test_an_end_changes_four_keys_and_keeps_all_others(
    record: JobRecord, status: JobStatus, now: int
) -> None:
    before, after = record.keys, record.ended(status, now=now, hardware_id="x").keys
    kept = before["generation"]
    moved = status in (JobStatus.SUCCEEDED, JobStatus.FENCED)
    assert after["generation"] == (next_generation(kept) if moved else kept)
    assert 0 <= after["generation"] <= 999
    assert (after["job_status"], after["modified"], after["host_hardware_id"]) == (status, now, "x")
    changed = {"generation", "job_status", "modified", "host_hardware_id"}
    assert list(after) == list(before)
    assert all(after[k] == before[k] for k in before if k not in changed)


@tries("job record", each=2)
@given(records, st.sampled_from([JobStatus.SUCCEEDED, JobStatus.FENCED]))
def test_a_record_that_ended_is_never_taken_up_again(record: JobRecord, status: JobStatus) -> None:
    begun = JobRecord({**record.keys, "job_status": "PENDING"})
    ended = begun.ended(status, now=1, hardware_id="x")
    for generation in (begun.keys["generation"], ended.keys["generation"]):
        with pytest.raises(JobStatusMismatch):
            ended.check(Expectation(record.keys["job_id"], generation))


@tries("job record")
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(CHECKED, SCALARS)), records)
def test_a_rebuild_takes_for_a_job_only_what_can_be_one(changes: Any, record: JobRecord) -> None:
    keys = {**record.keys, **changes}
    assume(len(json.dumps(keys, allow_nan=True)) <= LVB_SIZE)
    block = json.dumps(keys).encode().ljust(LVB_SIZE, b"\0")
    job = Content(used=True, lease_id="a", block=block).job
    if not changes:
        assert job
    if job:
        assert keys["type"].upper() == "JOB"
        UUID(keys["job_id"])
        assert keys["job_status"] in list(JobStatus)
        assert type(keys["generation"]) is int
        assert keys["generation"] in range(1000)
