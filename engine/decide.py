"""The judgement about a job, as one table.

    what the host says + what the lease says + what the fence said  ->  what to do

The host's word alone never decides: a job is done only when the record in its free lease says
SUCCEEDED, and failed only when that says FAILED or FENCED. "Mine" means: the record is of type JOB,
has the job's id, and the generation g + 1 with SUCCEEDED and FENCED, g with FAILED and PENDING.

The rows, by their numbers in docs/judgement.md:

    1   the host says pending, running, aborting        follow; the lease is not asked
    2   it says done; lease free, SUCCEEDED             done
    2a  it says done; lease free, FENCED or FAILED      failed, and people are told: they disagree
    2b  it says done; lease held or unreadable          back off and ask again; bounded; 5a
    2c  it says done; lease free, PENDING or empty      fence, then failed
    2d  whatever it says; record not mine, damaged      unresolved (a damaged one is looked at
        or the lease gone                               some times before it is believed)
    3   it says failed, aborted; FAILED or FENCED       failed
        free, PENDING or empty                          fence, then failed
        free, SUCCEEDED                                 done, by row 6: the record counts
        held                                            row 5
    4   it is up, but the call failed                   ask it again; bounded, then as row 5
    5   it does not report the job, or is not up, or    running; alarm after a time
        was removed; lease held
    5a  it answers, but not that the job is active,     fence on the host that holds it, which knows
        and the lease was held for longer than T        whether it does (if so: 5), then on any;
                                                        bounded, then unresolved
    6   as 5; lease free, SUCCEEDED                     done
    7   as 5; lease free, FAILED or FENCED              failed
    8   as 5; lease free, PENDING or empty              fence, then ask the lease again
    9   as 5; the lease cannot be read                  fence on another host; bounded, with pauses
    10  the fence was refused, 651                      the lease is held: row 5
    11  the fence was refused, 912                      ask the lease again: rows 6, 7
    12  the fence was refused, 911, 2009, 936, or was   unresolved
        tried too often
    13  the owner's host is dead                        the lease is free; `cut_off` says that the
                                                        access of that host must end first

Each combination is in exactly one row; a test checks all of them. Everything here is pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import product

from engine.heard import Bounds, Facts, Fence, Lease, Word, fence, lease, word
from engine.unresolved import Unresolved
from protocol.record import Expectation


class Do(StrEnum):
    """What to do next. FENCE and ASK_LEASE are done now, the next five after a pause or never."""

    ASK_LEASE = "ask the lease"
    FENCE = "fence"
    FOLLOW = "follow"
    ASK_HOST = "ask the host again"
    BACK_OFF = "back off"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    UNRESOLVED = "unresolved"


class Where(StrEnum):
    """On which host to fence."""

    OWNER = "the host that holds the lease"
    ANY = "any host"
    OTHER = "another host than the one that could not read the lease"


@dataclass(frozen=True)
class Decision:
    """row: its number in the table. why: one sentence for people.

    where: of FENCE. cause: of UNRESOLVED.
    fenced: of FAILED: the record says FENCED; else it says FAILED.
    cut_off: of DONE and FAILED: the job's host did not say itself that the job ended, so its access
    to the target is ended first, by force where it does not answer (row 13).
    disagree: host and lease tell different ends; people should know.
    alarm: nothing is wrong enough to stop, but somebody should look.
    """

    row: str
    do: Do
    why: str
    where: Where | None = None
    cause: Unresolved | None = None
    fenced: bool = False
    cut_off: bool = False
    disagree: bool = False
    alarm: bool = False


@dataclass(frozen=True, eq=False)
class Row:
    """One line: for these words, leases and fences, do this."""

    number: str
    words: Iterable[Word]
    leases: Iterable[Lease]
    fences: Iterable[Fence]
    do: Do
    why: str
    where: Where | None = None
    cause: Unresolved | None = None
    disagree: bool = False

    @property
    def cells(self) -> Iterable["Cell"]:
        return product(self.words, self.leases, self.fences)


Cell = tuple[Word, Lease, Fence]


_DONE, _ENDED = {Word.DONE}, {Word.ENDED}
_AS_5 = {Word.ABSENT, Word.SILENT}
_NOT_DONE = _ENDED | _AS_5
_ASKING = _DONE | _NOT_DONE  # the lease decides
_ANSWERS = {Word.ENDED, Word.ABSENT}

_WRONG = {Lease.OTHER, Lease.GONE, Lease.CORRUPT}
_RIGHT = set(Lease) - _WRONG
_LOST = {Lease.FAILED, Lease.FENCED}
_OPEN = {Lease.PENDING, Lease.EMPTY}  # free, and the job has not ended
_NO_LOOK = {Lease.UNREAD, Lease.UNREADABLE}
_NO_HOST = {Lease.NOBODY, Lease.FORSAKEN}

_ANY = set(Fence)
_VALID = _ANY - {Fence.REFUSED}
_FRESH = {Fence.UNTRIED, Fence.SPENT}  # no fence in this round
_TRIED = _VALID - _FRESH
_NOT_FENCED = _VALID - {Fence.DONE}
_VAIN = _TRIED - {Fence.DONE}

# fmt: off
ROWS: tuple[Row, ...] = (
    # Whatever the host says.
    Row("2d", Word, {Lease.OTHER}, _ANY, Do.UNRESOLVED,
        "the record in the lease is not of this job and its generation",
        cause=Unresolved.OTHER_RECORD),
    Row("2d", Word, {Lease.GONE}, _ANY, Do.UNRESOLVED,
        "the lease is gone and nobody had decided", cause=Unresolved.LEASE_GONE),
    Row("2d", Word, {Lease.CORRUPT}, _ANY, Do.UNRESOLVED,
        "the record, its slot or the index is damaged", cause=Unresolved.CORRUPT),
    Row("1", {Word.ACTIVE}, _RIGHT, _ANY, Do.FOLLOW, "the host says that the job is active"),
    Row("4", {Word.RETRY}, _RIGHT, _ANY, Do.ASK_HOST, "the host is up and gave no answer"),
    Row("12", _ASKING, _RIGHT, {Fence.REFUSED}, Do.UNRESOLVED,
        "the fence found something else than was expected", cause=Unresolved.FENCE_REFUSED),

    # The lease was not asked yet in this round, or not since the fence.
    Row("2", _DONE, {Lease.UNASKED}, _FRESH, Do.ASK_LEASE, "the host says done: does the lease?"),
    Row("3", _ENDED, {Lease.UNASKED}, _FRESH, Do.ASK_LEASE,
        "the host says that the job failed or was aborted: what says the lease?"),
    Row("5", _AS_5, {Lease.UNASKED}, _FRESH, Do.ASK_LEASE,
        "the host tells nothing of the job: what says the lease?"),
    Row("2c", _DONE, {Lease.UNASKED}, {Fence.DONE}, Do.FAILED,
        "the host said done, but nothing was recorded: fenced", disagree=True),
    Row("3", _ENDED, {Lease.UNASKED}, {Fence.DONE}, Do.FAILED,
        "the host says that the job ended without success, and it was fenced"),
    Row("8", _AS_5, {Lease.UNASKED}, {Fence.DONE}, Do.ASK_LEASE, "fenced: what says the lease?"),
    Row("11", _ASKING, {Lease.UNASKED}, {Fence.ENDED}, Do.ASK_LEASE,
        "the record is not PENDING any more: what says the lease?"),
    Row("5a", _ASKING, {Lease.UNASKED}, {Fence.NO_OWNER}, Do.FENCE,
        "the host that holds the lease cannot be asked: another tries", where=Where.ANY),
    Row("2b", _DONE, {Lease.UNASKED}, {Fence.HELD, Fence.HELD_HERE}, Do.BACK_OFF,
        "the host says done, but the lease is held"),
    Row("10", _NOT_DONE, {Lease.UNASKED}, {Fence.HELD}, Do.RUNNING,
        "the fence was refused: the lease is held"),
    Row("5", _NOT_DONE, {Lease.UNASKED}, {Fence.HELD_HERE}, Do.RUNNING,
        "the host that holds the lease says that it does: a process of the job lives"),
    Row("9", _ASKING, {Lease.UNASKED}, {Fence.NO_ANSWER}, Do.BACK_OFF,
        "the fence gave no answer"),

    # Free, with a result.
    Row("2", _DONE, {Lease.SUCCEEDED}, _VALID, Do.DONE, "host and lease say that it succeeded"),
    Row("6", _ENDED, {Lease.SUCCEEDED}, _VALID, Do.DONE,
        "the lease says SUCCEEDED, whatever the host says", disagree=True),
    Row("6", _AS_5, {Lease.SUCCEEDED}, _VALID, Do.DONE, "the lease says SUCCEEDED"),
    Row("2a", _DONE, _LOST, _VALID, Do.FAILED,
        "the lease says that the job failed or was fenced, though the host says done",
        disagree=True),
    Row("3", _ENDED, _LOST, _VALID, Do.FAILED, "host and lease say that the job failed"),
    Row("7", _AS_5, _LOST, _VALID, Do.FAILED, "the lease says that the job failed or was fenced"),

    # Free, without one.
    Row("2c", _DONE, _OPEN, {Fence.UNTRIED}, Do.FENCE,
        "the host says done, but nothing was recorded", where=Where.ANY),
    Row("3", _ENDED, _OPEN, {Fence.UNTRIED}, Do.FENCE,
        "the host says that the job ended without success, but nothing was recorded",
        where=Where.ANY),
    Row("8", _AS_5, _OPEN, {Fence.UNTRIED}, Do.FENCE,
        "no process of the job lives, and nothing was recorded", where=Where.ANY),
    Row("12", _ASKING, _OPEN, {Fence.SPENT}, Do.UNRESOLVED,
        "the fence was tried too often", cause=Unresolved.FENCE_BOUND),
    Row("8", _ASKING, _OPEN, _TRIED, Do.BACK_OFF,
        "after the fence the lease says that nothing was recorded: hosts disagree"),

    # Held.
    Row("2b", _DONE, {Lease.HELD}, _VALID, Do.BACK_OFF,
        "the host says done, but the lease is held"),
    Row("5", _NOT_DONE, {Lease.HELD}, _VALID, Do.RUNNING,
        "the lease is held: a process of the job lives"),
    Row("5", {Word.SILENT}, {Lease.OVERDUE}, _VALID, Do.RUNNING,
        "the lease is held: a process of the job lives"),
    Row("5a", _DONE | _ANSWERS, {Lease.OVERDUE}, {Fence.UNTRIED}, Do.FENCE,
        "the lease is held for longer than it should: does the host that holds it know?",
        where=Where.OWNER),
    Row("2b", _DONE, {Lease.OVERDUE}, {Fence.SPENT}, Do.UNRESOLVED,
        "the host says done, but the lease stays held", cause=Unresolved.STILL_HELD),
    Row("5a", _ANSWERS, {Lease.OVERDUE}, {Fence.SPENT}, Do.UNRESOLVED,
        "the lease stays held, and the host that holds it cannot be asked",
        cause=Unresolved.STILL_HELD),
    Row("2b", _DONE, {Lease.OVERDUE}, _TRIED, Do.BACK_OFF,
        "the host says done, but the lease is held"),
    Row("5", _ANSWERS, {Lease.OVERDUE}, _TRIED, Do.RUNNING,
        "the lease is held: a process of the job lives"),

    # The look failed.
    Row("2d", _ASKING, {Lease.GARBLED}, _VALID, Do.BACK_OFF,
        "the record, its slot or the index looks damaged: look again"),
    Row("2c", _DONE, _NO_LOOK | _NO_HOST, {Fence.DONE}, Do.FAILED,
        "the host said done, but nothing was recorded: fenced", disagree=True),
    Row("3", _ENDED, _NO_LOOK | _NO_HOST, {Fence.DONE}, Do.FAILED,
        "the host says that the job ended without success, and it was fenced"),
    Row("8", _AS_5, _NO_LOOK | _NO_HOST, {Fence.DONE}, Do.FAILED, "it was fenced"),
    Row("2b", _DONE, {Lease.UNREAD}, _NOT_FENCED, Do.BACK_OFF,
        "the host says done, but the lease cannot be read"),
    Row("2b", _DONE, {Lease.UNREADABLE}, _NOT_FENCED, Do.UNRESOLVED,
        "the host says done, but the lease cannot be read", cause=Unresolved.UNREADABLE),
    Row("9", _NOT_DONE, _NO_LOOK, {Fence.UNTRIED}, Do.FENCE,
        "the lease cannot be read", where=Where.OTHER),
    Row("12", _NOT_DONE, _NO_LOOK, {Fence.SPENT}, Do.UNRESOLVED,
        "the lease cannot be read, and the fence was tried too often",
        cause=Unresolved.FENCE_BOUND),
    Row("9", _NOT_DONE, _NO_LOOK, _VAIN, Do.BACK_OFF, "the lease cannot be read"),
    Row("9", _ASKING, {Lease.NOBODY}, _NOT_FENCED, Do.BACK_OFF, "no host can be asked"),
    Row("9", _ASKING, {Lease.FORSAKEN}, _NOT_FENCED, Do.UNRESOLVED,
        "no host could be asked for too long", cause=Unresolved.NOBODY),
)
# fmt: on

TABLE: Mapping[Cell, Row] = {cell: row for row in ROWS for cell in row.cells}


_WAITING = (Do.RUNNING, Do.BACK_OFF, Do.ASK_HOST)


def decide(facts: Facts, expected: Expectation, bounds: Bounds) -> Decision:
    """Look the moment up in the table. expected: job id and generation that the job began with."""
    cell = word(facts, bounds), lease(facts, expected, bounds), fence(facts, bounds)
    row = TABLE[cell]
    heard_the_end = cell[0] in (Word.DONE, Word.ENDED)
    return Decision(
        row.number,
        row.do,
        row.why,
        where=row.where,
        cause=row.cause,
        fenced=row.do is Do.FAILED and cell[1] is not Lease.FAILED,
        cut_off=row.do in (Do.DONE, Do.FAILED) and not heard_the_end,
        disagree=row.disagree,
        alarm=row.do in _WAITING and facts.unheard_for >= bounds.alarm,
    )
