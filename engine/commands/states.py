"""The states of a command, as its row has them, for those who ask. The journal says more."""

from enum import StrEnum


class State(StrEnum):
    RUNNING = "running"
    UNDOING = "undoing"  # it failed, or is aborted, and what it did is taken back
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    ABORTED = "aborted"
    UNRESOLVED = "unresolved"  # nobody can tell what became of its job; nothing was undone
    QUARANTINED = "quarantined"  # it failed, and not all could be undone


# The whole machine. What leads out of an end is the wish of an operator: `resolve`, `clear`.
NEXT = {
    State.RUNNING: {State.SUCCEEDED, State.UNDOING, State.UNRESOLVED},
    State.UNDOING: {State.FAILED, State.ABORTED, State.QUARANTINED},
    State.SUCCEEDED: {State.RUNNING},  # what its clean-up left
    State.FAILED: set[State](),
    State.ABORTED: set[State](),
    State.UNRESOLVED: {State.RUNNING, State.UNDOING},
    State.QUARANTINED: {State.UNDOING},
}
ACTIVE = frozenset({State.RUNNING, State.UNDOING})
