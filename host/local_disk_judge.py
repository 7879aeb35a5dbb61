"""What is to be done about a local disk that is wanted, or that nobody may need: pure decisions.

One rule stands above all: nothing is removed under a writer, and nothing that a VM has written to
unless its owner asks for that. Source: docs/localdisk.md.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Lease(StrEnum):
    """What the lease of the copy that a disk names says. NONE: the disk names no copy."""

    NONE = "none"
    MISSING = "missing"
    OWNED = "owned"
    PENDING = "PENDING"
    FAILED = "FAILED"
    FENCED = "FENCED"
    SUCCEEDED = "SUCCEEDED"
    UNKNOWN = "unknown"


class Decision(StrEnum):
    CREATE = "create"  # there is nothing
    WAIT = "wait"  # for the copy that fills it
    AGAIN = "again"  # remove it and copy anew
    USE = "use"
    USE_CHANGED = "use, though its source has changed"
    REFUSED = "refused"  # not ours, or not ours to replace
    IN_USE = "in use"
    UNCERTAIN = "uncertain"  # whether it has a writer


@dataclass(frozen=True)
class Facts:
    """Of a disk that is wanted, and of what was found in its place.

    ours: a local disk of that image. filling: it has the tag UPDATING. started: it was handed to a
    VM. open: somebody has its device open. alive: this host has a process that copies to it, or is
    about to. same_size: as the source, rounded to extents; None: the source cannot be looked at.
    changed: the source has another generation than it had. another: it is the disk of another VM
    than the one that wants it. again: whoever wants it has asked for a new copy, whatever is lost.
    """

    exists: bool = True
    ours: bool = True
    filling: bool = False
    started: bool = False
    open: bool = False
    alive: bool = False
    lease: Lease = Lease.NONE
    same_size: bool | None = True
    changed: bool = False
    another: bool = False
    again: bool = False

    def looked_at(self) -> Mapping[str, bool]:
        """What the rows of the table name."""
        return {
            "exists": self.exists,
            "ours": self.ours,
            "filling": self.filling,
            "started": self.started,
            "open": self.open,
            "busy": self.alive or self.lease is Lease.OWNED,
            "uncertain": self.lease is Lease.UNKNOWN,
            "wrong_size": self.same_size is False,
            "changed": self.changed,
            "another": self.another,
            "again": self.again,
        }


@dataclass(frozen=True)
class Verdict:
    """fence: the lease says PENDING and nobody will ever end that job: fence it first."""

    decision: Decision
    reason: str = ""
    fence: bool = False


_NO, _YES = False, True
# The first row whose conditions all hold decides.
TABLE: tuple[tuple[dict[str, bool], Decision, str], ...] = (
    ({"exists": _NO}, Decision.CREATE, ""),
    ({"ours": _NO}, Decision.REFUSED, "it is no local disk of this image: rename or remove it"),
    ({"filling": _YES, "busy": _YES}, Decision.WAIT, ""),
    ({"filling": _YES, "uncertain": _YES}, Decision.UNCERTAIN, "its lease cannot be read"),
    ({"filling": _YES, "open": _YES}, Decision.IN_USE, "it is open, though no copy is known"),
    (
        {"filling": _YES, "started": _YES, "again": _NO},
        Decision.REFUSED,
        "it has the tags UPDATING and STARTED: a VM may have written to what was never complete",
    ),
    ({"filling": _YES}, Decision.AGAIN, "the copy that filled it has not succeeded"),
    # From here on it is ready.
    ({"another": _YES, "open": _YES}, Decision.IN_USE, "it is open, and the disk of another VM"),
    (
        {"another": _YES, "started": _YES, "again": _NO},
        Decision.REFUSED,
        "it is the disk of another VM, which has written to it: remove it first",
    ),
    ({"wrong_size": _NO, "changed": _NO, "again": _NO}, Decision.USE, ""),
    (
        {"wrong_size": _NO, "changed": _YES, "started": _YES, "again": _NO},
        Decision.USE_CHANGED,
        "its source has changed, and a VM has written to it",
    ),
    (
        {"wrong_size": _YES, "started": _YES, "again": _NO},
        Decision.REFUSED,
        "it has another size than its source, and a VM has written to it",
    ),
    ({"busy": _YES}, Decision.WAIT, ""),
    ({"uncertain": _YES}, Decision.UNCERTAIN, "its lease cannot be read"),
    (
        {"open": _YES, "wrong_size": _NO, "again": _NO},
        Decision.USE_CHANGED,
        "its source has changed, and somebody has it open",
    ),
    ({"open": _YES}, Decision.IN_USE, "somebody has it open"),
    ({"again": _YES}, Decision.AGAIN, "a new copy was asked for"),
    ({"wrong_size": _YES}, Decision.AGAIN, "it has another size than its source"),
    ({}, Decision.AGAIN, "its source has changed"),
)
_FENCED = (Decision.AGAIN, Decision.USE, Decision.USE_CHANGED)


def judge(facts: Facts) -> Verdict:
    found = facts.looked_at()
    decision, reason = next(
        (decision, reason)
        for conditions, decision, reason in TABLE
        if all(found[name] is value for name, value in conditions.items())
    )
    # Of a job that may still begin nothing is fenced: it is about to record its success.
    fence = facts.lease is Lease.PENDING and not facts.alive and decision in _FENCED
    return Verdict(decision, reason, fence)


@dataclass(frozen=True)
class Known:
    """Of a disk that was found. age: seconds since it was prepared; None: nobody knows."""

    facts: Facts
    vm_id: str | None
    age: float | None


def unused(disk: Known, keep: float, vms: Collection[str] | None) -> str | None:
    """Why nothing needs it; None: it is kept. keep: seconds. vms: all that there are, if known."""
    facts = disk.facts
    if not (facts.exists and facts.ours) or facts.open or facts.alive:
        return None
    if facts.lease in (Lease.OWNED, Lease.UNKNOWN):
        return None
    # By the wall clock: one that was set back makes it young, and it is kept.
    if disk.age is not None and disk.age < keep:
        return None
    if vms is not None and disk.vm_id is not None and disk.vm_id not in vms:
        return f"VM {disk.vm_id} does not exist"
    if facts.filling and not facts.started:
        return "the copy that filled it has not succeeded"
    return None
