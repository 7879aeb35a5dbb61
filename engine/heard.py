"""What was heard of a job, in the words of the table in engine/decide.py. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from engine.answers import (
    FenceAnswer,
    Fenced,
    FenceFailed,
    Free,
    HostState,
    LeaseView,
    LookFailed,
    Nobody,
    NotReported,
    Owned,
    Report,
    Told,
)
from protocol.errors import (
    AcquireLockFailure,
    Error,
    GenerationMismatch,
    InvalidMetadata,
    InvalidRecord,
    InvalidSlot,
    JobStatusMismatch,
    NoSuchLease,
    SanlockLVBError,
    TruncatedIndex,
    UnsupportedOperation,
)
from protocol.record import Expectation, JobRecord, JobStatus, next_generation


@dataclass(frozen=True)
class Bounds:
    """How often and how long, in seconds, before something else is done."""

    calls: int = 3  # failed calls of a host that is up, in a row, before the lease is asked
    looks: int = 10  # unreadable looks in a row, when the host says done (2b)
    damaged_looks: int = 3  # looks in a row that find damage, before it is believed (2d)
    fences: int = 10  # fences without an end (12)
    held: float = 120.0  # T of row 5a. Releasing a lease takes far less
    alarm: float = 600.0  # without a word from the host that the job is active
    nobody: float = 3600.0  # without any host to ask about the lease


@dataclass(frozen=True)
class Facts:
    """One moment of a judgement.

    host, report: what is known of the job's own host, and what it answered in this round.
    lease: the last look of this round; None: not looked yet, or fenced since.
    fence: the last fence of this round; None: not tried.
    The counts and the seconds are of this judgement, up to this moment.
    """

    host: HostState
    report: Report
    lease: LeaseView | None = None
    fence: FenceAnswer | None = None
    calls_failed: int = 0  # in a row, with this one
    looks_failed: int = 0  # in a row, with this one
    damaged_looks: int = 0  # likewise, those that found damage
    fences: int = 0  # tried
    held_for: float = 0.0  # the host answers and the lease is held nevertheless
    unheard_for: float = 0.0  # since the host last said that the job is active
    nobody_for: float = 0.0  # no host to ask


class Word(Enum):
    """What the job's own host says."""

    ACTIVE = auto()
    DONE = auto()
    ENDED = auto()  # failed or aborted
    ABSENT = auto()  # it answers and does not know the job
    RETRY = auto()  # it is up, and the call failed
    SILENT = auto()  # it is not up, was removed, or too many calls failed


class Lease(Enum):
    """What the lease says."""

    UNASKED = auto()
    HELD = auto()
    OVERDUE = auto()  # held for longer than T
    SUCCEEDED = auto()
    FAILED = auto()
    FENCED = auto()
    PENDING = auto()
    EMPTY = auto()
    OTHER = auto()  # not mine
    GONE = auto()
    GARBLED = auto()  # damaged, by some looks so far
    CORRUPT = auto()  # damaged, by so many looks that it is believed
    UNREAD = auto()  # the look failed
    UNREADABLE = auto()  # so many looks failed
    NOBODY = auto()  # no host to ask
    FORSAKEN = auto()  # no host to ask for too long


class Fence(Enum):
    """What came of fencing in this round."""

    UNTRIED = auto()
    SPENT = auto()  # not tried in this round, and too often before
    DONE = auto()
    ENDED = auto()  # 912: another status than PENDING
    HELD = auto()  # 651
    HELD_HERE = auto()  # 651 from the host that holds it
    NO_OWNER = auto()  # the host that holds it cannot be asked
    REFUSED = auto()  # 911, 2009, 936
    NO_ANSWER = auto()  # everything else: it may have been done


_WORDS: Mapping[str, Word] = {
    "pending": Word.ACTIVE,
    "running": Word.ACTIVE,
    "aborting": Word.ACTIVE,
    "done": Word.DONE,
    "failed": Word.ENDED,
    "aborted": Word.ENDED,
}

_GENERATION: Mapping[JobStatus, Callable[[int], int]] = {
    JobStatus.SUCCEEDED: next_generation,
    JobStatus.FENCED: next_generation,
    JobStatus.FAILED: lambda generation: generation,
    JobStatus.PENDING: lambda generation: generation,
}

# An error of reading has the code of a damaged record too, so one look is not enough.
DAMAGE = frozenset(
    error.code
    for error in (SanlockLVBError, InvalidMetadata, TruncatedIndex, InvalidRecord, InvalidSlot)
)

# Every other code is no answer: the fence may have been done, or not.
FENCES: Mapping[int, Fence] = {
    AcquireLockFailure.code: Fence.HELD,
    JobStatusMismatch.code: Fence.ENDED,
    GenerationMismatch.code: Fence.REFUSED,
    UnsupportedOperation.code: Fence.REFUSED,
    NoSuchLease.code: Fence.REFUSED,
}
# Of the host that holds the lease, 651 is the truth about it, and no answer leaves the others.
_BY_OWNER = {Fence.HELD: Fence.HELD_HERE, Fence.NO_ANSWER: Fence.NO_OWNER}


def understood(report: Report) -> bool:
    """Is it an answer? A status that nobody knows is none: it could be followed for ever."""
    if isinstance(report, Told):
        return report.status in _WORDS
    return isinstance(report, NotReported)


def word(facts: Facts, bounds: Bounds) -> Word:
    if facts.host is not HostState.UP:
        return Word.SILENT
    if isinstance(facts.report, NotReported):
        return Word.ABSENT
    if isinstance(facts.report, Told) and facts.report.status in _WORDS:
        return _WORDS[facts.report.status]
    return Word.RETRY if facts.calls_failed < bounds.calls else Word.SILENT


def recorded(metadata: Mapping[str, Any], expected: Expectation) -> Lease:
    """What a value block says about the job `expected`; OTHER: it is not mine."""
    if not metadata:
        return Lease.EMPTY
    try:
        status = JobStatus(str(metadata.get("job_status")))
        generation = _GENERATION[status](expected.generation)
        JobRecord(metadata).check(Expectation(expected.job_id, generation, status))
    except (ValueError, Error, RecursionError):  # of keys that are nested without end
        return Lease.OTHER
    return Lease[status.name]


def lease(facts: Facts, expected: Expectation, bounds: Bounds) -> Lease:
    match facts.lease:
        case None:
            return Lease.UNASKED
        case Owned():
            return Lease.OVERDUE if facts.held_for >= bounds.held else Lease.HELD
        case Free(metadata):
            return recorded(metadata, expected)
        case Nobody():
            return Lease.FORSAKEN if facts.nobody_for >= bounds.nobody else Lease.NOBODY
        case LookFailed(code):
            return _unread(code, facts, bounds)


def _unread(code: int, facts: Facts, bounds: Bounds) -> Lease:
    if code == NoSuchLease.code:
        return Lease.GONE
    if code in DAMAGE:
        believed = facts.damaged_looks >= bounds.damaged_looks
        return Lease.CORRUPT if believed else Lease.GARBLED
    return Lease.UNREADABLE if facts.looks_failed >= bounds.looks else Lease.UNREAD


def fence(facts: Facts, bounds: Bounds) -> Fence:
    match facts.fence:
        case None:
            return Fence.SPENT if facts.fences >= bounds.fences else Fence.UNTRIED
        case Fenced():
            return Fence.DONE
        case FenceFailed(code, by_owner=by_owner):
            answer = FENCES.get(code, Fence.NO_ANSWER)
            return _BY_OWNER.get(answer, answer) if by_owner else answer
