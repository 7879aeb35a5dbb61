"""Job records."""

from uuid import UUID

from hypothesis import strategies as st

from protocol.errors import (
    GenerationMismatch,
    JobStatusMismatch,
    SanlockLVBError,
    UnsupportedOperation,
)
from protocol.record import Expectation, JobRecord, JobStatus
from tests.properties.inputs import SCALARS

JOB = "abcdef50-6666-4777-8888-999999999991"
CHECKED = ("type", "job_id", "job_status", "generation")
KEYS = (*CHECKED, "created", "modified", "host_hardware_id")
REFUSALS = (SanlockLVBError, UnsupportedOperation, JobStatusMismatch, GenerationMismatch)


def _record(
    *, job: UUID, generation: int, status: str, now: int, host: str, more: dict[str, object]
) -> JobRecord:
    pending = JobRecord.pending(str(job), generation, now=now, hardware_id=host)
    return JobRecord({**pending.keys, "job_status": status, **more})


_MORE = st.text(max_size=5).filter(lambda key: key not in CHECKED)
_VALUES = SCALARS.filter(lambda value: not isinstance(value, float))

records = st.builds(
    _record,
    job=st.uuids() | st.just(UUID(JOB)),
    generation=st.integers(0, 999) | st.sampled_from([0, 998, 999]),
    status=st.sampled_from([s.value for s in JobStatus]),
    now=st.integers(0, 1 << 40),
    host=st.text(max_size=8),
    more=st.dictionaries(_MORE, _VALUES, max_size=2),
)


def expectation(record: JobRecord) -> Expectation:
    """What the record is taken up by."""
    keys = record.keys
    return Expectation(keys["job_id"], keys["generation"], JobStatus(keys["job_status"]))
