"""The states of a job and the moves between them."""

from collections.abc import Mapping
from enum import StrEnum


class Status(StrEnum):
    """Wish and fact are separate: ABORTING is a wish, the end says what happened."""

    PENDING = "pending"  # accepted; storage untouched
    RUNNING = "running"
    ABORTING = "aborting"  # cancel delivered; cleanup still runs
    DONE = "done"
    ABORTED = "aborted"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        return not NEXT[self]


# The whole machine. ABORTING -> DONE or FAILED: the end came before the abort did anything.
NEXT: Mapping[Status, frozenset[Status]] = {
    Status.PENDING: frozenset({Status.RUNNING, Status.ABORTED}),
    Status.RUNNING: frozenset({Status.DONE, Status.FAILED, Status.ABORTING}),
    Status.ABORTING: frozenset({Status.ABORTED, Status.DONE, Status.FAILED}),
    Status.DONE: frozenset(),
    Status.ABORTED: frozenset(),
    Status.FAILED: frozenset(),
}
