"""The job record: what the value block of a lease says about its job.

Source: docs/formats.md, "Value block".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from protocol.errors import GenerationMismatch, JobStatusMismatch, UnsupportedOperation

GENERATIONS = 1000
JOB_TYPE = "JOB"


class JobStatus(StrEnum):
    """job_status on storage. There is no RUNNING: running means that the lease is owned."""

    PENDING = "PENDING"
    FAILED = "FAILED"
    SUCCEEDED = "SUCCEEDED"
    FENCED = "FENCED"


def next_generation(generation: int) -> int:
    """The generation after `generation`: 0 to 999, then 0 again."""
    return (generation + 1) % GENERATIONS


@dataclass(frozen=True)
class Expectation:
    """What a caller believes a record to say: what a job takes up, or a fence ends."""

    job_id: str
    generation: int
    status: JobStatus = JobStatus.PENDING


@dataclass(frozen=True)
class JobRecord:
    """The keys of a value block in the order in which they stand there, unknown ones included.

    Nothing is trusted until `check` passed: the block may have been written by another program.
    `created` and `modified` are whole seconds since the epoch by the writer's clock: show them,
    never compare them.
    """

    keys: Mapping[str, Any]

    @classmethod
    def pending(cls, job_id: str, generation: int, *, now: int, hardware_id: str) -> Self:
        """The record of a job that has not ended, as Lease.create writes it."""
        return cls(
            {
                "type": JOB_TYPE,
                "generation": generation,
                "job_id": job_id,
                "job_status": JobStatus.PENDING.value,
                "created": now,
                "modified": now,
                "host_hardware_id": hardware_id,
            }
        )

    def check(self, expected: Expectation) -> None:
        """Raise unless the record is the expected one; compared in this order:

        type and job_id (UnsupportedOperation 2009), job_status (JobStatusMismatch 912),
        generation (GenerationMismatch 911). Types are strict: generation "0", 0.0 or false is
        not 0. The type is accepted in any case, because oVirt's own pages disagree about it.
        """
        type_ = self.keys.get("type")
        if not isinstance(type_, str) or type_.upper() != JOB_TYPE:
            raise UnsupportedOperation(f"lease type is {type_!r}, not {JOB_TYPE!r}")
        job_id = self.keys.get("job_id")
        if job_id != expected.job_id:
            raise UnsupportedOperation(f"lease is of job {job_id!r}, not {expected.job_id!r}")
        status = self.keys.get("job_status")
        if status != expected.status.value:
            raise JobStatusMismatch(expected.status.value, status)
        generation = self.keys.get("generation")
        if type(generation) is not int or generation != expected.generation:
            raise GenerationMismatch(expected.generation, generation)

    def ended(self, status: JobStatus, *, now: int, hardware_id: str) -> "JobRecord":
        """The record after the end: SUCCEEDED and FENCED take the next generation, FAILED keeps it.

        The record must have passed `check`. Key order and unknown keys are kept.
        """
        generation = self.keys["generation"]
        if status in (JobStatus.SUCCEEDED, JobStatus.FENCED):
            generation = next_generation(generation)
        return JobRecord(
            {
                **self.keys,
                "generation": generation,
                "job_status": status.value,
                "modified": now,
                "host_hardware_id": hardware_id,
            }
        )
