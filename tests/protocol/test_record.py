"""The job record: what must be right before it is believed, and what its end changes."""

from typing import Any

import pytest

from protocol.errors import Error, GenerationMismatch, JobStatusMismatch, UnsupportedOperation
from protocol.record import Expectation, JobRecord, JobStatus, next_generation

JOB = "5e36a8c5-0000-4000-8000-000000000001"
OTHER = "5e36a8c5-0000-4000-8000-000000000002"
EXPECTED = Expectation(JOB, 7)


def record(**changes: Any) -> JobRecord:
    good = JobRecord.pending(JOB, 7, now=1700000000, hardware_id="host-1")
    return JobRecord({**good.keys, **changes})


def test_a_pending_record_has_the_seven_keys_in_the_order_of_vdsm() -> None:
    assert list(JobRecord.pending(JOB, 0, now=5, hardware_id="h").keys.items()) == [
        ("type", "JOB"),
        ("generation", 0),
        ("job_id", JOB),
        ("job_status", "PENDING"),
        ("created", 5),
        ("modified", 5),
        ("host_hardware_id", "h"),
    ]


@pytest.mark.parametrize("type_", ["JOB", "job", "Job"])
def test_the_expected_record_passes_with_the_type_in_any_case(type_: str) -> None:
    record(type=type_).check(EXPECTED)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"type": "VM"}, UnsupportedOperation),
        ({"type": None}, UnsupportedOperation),
        ({"type": 1}, UnsupportedOperation),
        ({"type": ["JOB"]}, UnsupportedOperation),
        ({"job_id": OTHER}, UnsupportedOperation),
        ({"job_id": None}, UnsupportedOperation),
        ({"job_status": "FAILED"}, JobStatusMismatch),
        ({"job_status": "FENCED"}, JobStatusMismatch),
        ({"job_status": "pending"}, JobStatusMismatch),
        ({"job_status": None}, JobStatusMismatch),
        ({"job_status": ["PENDING"]}, JobStatusMismatch),
        ({"generation": 8}, GenerationMismatch),
        ({"generation": "7"}, GenerationMismatch),
        ({"generation": 7.0}, GenerationMismatch),
        ({"generation": None}, GenerationMismatch),
        # In this order: what stands first in the contract is what is told.
        ({"type": "VM", "job_id": OTHER, "job_status": "FAILED"}, UnsupportedOperation),
        ({"job_id": OTHER, "job_status": "FAILED", "generation": 8}, UnsupportedOperation),
        ({"job_status": "FAILED", "generation": 8}, JobStatusMismatch),
    ],
)
def test_the_first_difference_is_told(changes: dict[str, Any], error: type[Error]) -> None:
    with pytest.raises(error):
        record(**changes).check(EXPECTED)


def test_the_type_is_told_before_the_job_id() -> None:
    with pytest.raises(UnsupportedOperation, match="lease type is 'VM'"):
        record(type="VM", job_id=OTHER).check(EXPECTED)
    with pytest.raises(UnsupportedOperation, match="lease is of job"):
        record(job_id=OTHER).check(EXPECTED)


@pytest.mark.parametrize("generation", [False, 0.0, "0", None, [0]])
def test_only_the_number_0_is_generation_0(generation: Any) -> None:
    with pytest.raises(GenerationMismatch):
        record(generation=generation).check(Expectation(JOB, 0))


def test_true_is_not_generation_1() -> None:
    with pytest.raises(GenerationMismatch):
        record(generation=True).check(Expectation(JOB, 1))


@pytest.mark.parametrize("missing", ["type", "job_id", "job_status", "generation"])
def test_a_missing_key_fails_the_check(missing: str) -> None:
    keys = {key: value for key, value in record().keys.items() if key != missing}
    with pytest.raises(Error):
        JobRecord(keys).check(EXPECTED)


def test_the_empty_record_is_not_a_job() -> None:
    with pytest.raises(UnsupportedOperation):
        JobRecord({}).check(EXPECTED)


@pytest.mark.parametrize("status", list(JobStatus))
def test_any_status_can_be_expected(status: JobStatus) -> None:
    record(job_status=status.value).check(Expectation(JOB, 7, status))


@pytest.mark.parametrize(
    ("status", "before", "after"),
    [
        (JobStatus.SUCCEEDED, 7, 8),
        (JobStatus.FENCED, 7, 8),
        (JobStatus.FAILED, 7, 7),
        (JobStatus.SUCCEEDED, 999, 0),
        (JobStatus.FENCED, 999, 0),
        (JobStatus.FAILED, 999, 999),
        (JobStatus.SUCCEEDED, 0, 1),
    ],
)
def test_success_and_fence_take_the_next_generation(
    status: JobStatus, before: int, after: int
) -> None:
    ended = record(generation=before).ended(status, now=1700000099, hardware_id="host-2")
    assert ended.keys["generation"] == after
    assert ended.keys["job_status"] == status.value
    assert ended.keys["modified"] == 1700000099
    assert ended.keys["host_hardware_id"] == "host-2"
    assert ended.keys["created"] == 1700000000
    assert ended.keys["job_id"] == JOB


def test_the_end_keeps_unknown_keys_and_the_order() -> None:
    before = JobRecord({"future": {"a": 1}, **record().keys, "zz": None})
    after = before.ended(JobStatus.SUCCEEDED, now=1, hardware_id="h")
    assert list(after.keys) == list(before.keys)
    assert after.keys["future"] == {"a": 1}
    assert before.keys["job_status"] == "PENDING"  # the old record is left alone


def test_a_status_is_written_as_plain_text() -> None:
    ended = record().ended(JobStatus.FAILED, now=1, hardware_id="h")
    assert type(ended.keys["job_status"]) is str


def test_generations_wrap_after_999() -> None:
    assert [next_generation(g) for g in (0, 998, 999)] == [1, 999, 0]
