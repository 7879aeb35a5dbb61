"""What may be done to a VM with local disks, and why not: one table, for hooks, agent and engine.

A VM has local disks when its custom property `localdisk` is set: at its start each of its disks is
copied to storage of the host, and the VM writes to that copy. What works on the disk in its storage
domain, the source, would work on something that the VM has left behind.
Source: docs/localdisk.md, which shows this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from protocol.errors import UnsupportedOperation


class Operation(StrEnum):
    """What somebody wants to do, as people say it."""

    START = "start the VM"
    STOP = "stop the VM"
    REBOOT = "reboot inside the VM"
    SUSPEND = "suspend the VM"
    MIGRATE = "migrate the VM"
    UNPIN = "let the VM run on other hosts"
    CLEAR_PROPERTY = "change or clear localdisk"
    SNAPSHOT = "create a snapshot"
    RESTORE_SNAPSHOT = "preview or restore a snapshot"
    DELETE_SNAPSHOT = "delete a snapshot"
    TEMPLATE = "make a template of the VM"
    CLONE = "clone the VM"
    EXPORT = "export the VM"
    BACK_UP = "back up a disk"
    MOVE_DISK = "move a disk"
    COPY_DISK = "copy a disk"
    RESIZE_DISK = "resize a disk"
    HOT_PLUG_DISK = "plug a disk in while the VM runs"
    DETACH_DISK = "detach a disk"
    DELETE_DISK = "delete a disk"
    DELETE_VM = "delete the VM"
    DEACTIVATE_DOMAIN = "deactivate the domain of a disk"


class Needs(StrEnum):
    """What must be so that it may be done."""

    NOTHING = "always"
    PINNED = "when pinned to this host"
    KEPT = "when local disks are kept"
    NO_COPY = "without a local copy"
    NO_LOCAL_DISKS = "never"


@dataclass(frozen=True)
class Facts:
    """What decides.

    pinned: the VM may run on one host only, the one that has its copies or is to have them. copy:
    a local copy of the disk, of a disk of the VM, or of a disk of the domain exists, complete or
    not. kept: the copies stay when the VM stops.
    """

    pinned: bool = False
    copy: bool = True
    kept: bool = False


@dataclass(frozen=True)
class Rule:
    """reason: why it is refused, or what happens when it is not."""

    needs: Needs
    reason: str


@dataclass(frozen=True)
class Verdict:
    allowed: bool
    reason: str


RULES: Mapping[Operation, Rule] = MappingProxyType(
    {
        Operation.START: Rule(
            Needs.PINNED, "its local disks are on one host; on another it would begin without them"
        ),
        Operation.STOP: Rule(
            Needs.NOTHING, "its local disks are deleted then, unless they are to be kept"
        ),
        Operation.REBOOT: Rule(Needs.NOTHING, "the VM goes on with the same local disks"),
        Operation.SUSPEND: Rule(
            Needs.KEPT, "its local disks are deleted then, and its memory would meet other disks"
        ),
        Operation.MIGRATE: Rule(
            Needs.NO_LOCAL_DISKS, "its local disks are on this host and stay here"
        ),
        Operation.UNPIN: Rule(Needs.NO_COPY, "on another host it would begin without its writes"),
        Operation.CLEAR_PROPERTY: Rule(
            Needs.NO_COPY, "its next start would be from the source, without its writes"
        ),
        Operation.SNAPSHOT: Rule(
            Needs.NO_LOCAL_DISKS, "it would be one of the source, which the VM has left behind"
        ),
        Operation.RESTORE_SNAPSHOT: Rule(
            Needs.NO_LOCAL_DISKS, "the VM would go on with its local disks, whatever is restored"
        ),
        Operation.DELETE_SNAPSHOT: Rule(
            Needs.NO_LOCAL_DISKS, "it changes the chain of the source, which may be being copied"
        ),
        Operation.TEMPLATE: Rule(
            Needs.NO_LOCAL_DISKS, "it would hold the source, without what the VM has written"
        ),
        Operation.CLONE: Rule(
            Needs.NO_LOCAL_DISKS, "it would hold the source, without what the VM has written"
        ),
        Operation.EXPORT: Rule(
            Needs.NO_LOCAL_DISKS, "it would hold the source, without what the VM has written"
        ),
        Operation.BACK_UP: Rule(
            Needs.NO_LOCAL_DISKS, "it would hold the source, without what the VM has written"
        ),
        Operation.MOVE_DISK: Rule(
            Needs.NO_LOCAL_DISKS, "the source would be moved, and the VM go on with its local disk"
        ),
        Operation.COPY_DISK: Rule(
            Needs.NO_LOCAL_DISKS, "it would hold the source, without what the VM has written"
        ),
        Operation.RESIZE_DISK: Rule(
            Needs.NO_COPY, "the local copy has the size that the source had when it was copied"
        ),
        Operation.HOT_PLUG_DISK: Rule(
            Needs.NO_LOCAL_DISKS, "it would be on shared storage now, and local at the next start"
        ),
        Operation.DETACH_DISK: Rule(
            Needs.NO_COPY, "another VM would get the source, without what this one has written"
        ),
        Operation.DELETE_DISK: Rule(Needs.NO_COPY, "a local copy of it exists on a host"),
        Operation.DELETE_VM: Rule(Needs.NO_COPY, "a local copy of its disk exists on a host"),
        Operation.DEACTIVATE_DOMAIN: Rule(
            Needs.NO_COPY, "a local copy of one of its disks exists, which may still be filled"
        ),
    }
)

WAYS_OUT: Mapping[Needs, str] = MappingProxyType(
    {
        Needs.NOTHING: "",
        Needs.PINNED: "pin the VM to this host, and to no other",
        Needs.KEPT: "set `localdisk.delete_on_stop = false` on the host",
        Needs.NO_COPY: "remove the local copy first: `leasehold localdisk remove`",
        Needs.NO_LOCAL_DISKS: "stop the VM, remove its local copies, and clear its localdisk",
    }
)


def judged(operation: Operation, facts: Facts) -> Verdict:
    """Whether a VM with local disks may do it. Pure."""
    rule = RULES[operation]
    return Verdict(_met(rule.needs, facts), rule.reason)


def check(operation: Operation, facts: Facts) -> None:
    """Raise UnsupportedOperation (2009), with the reason and the way out, for what may not be."""
    rule = RULES[operation]
    if not _met(rule.needs, facts):
        raise UnsupportedOperation(refusal(operation))


def refusal(operation: Operation) -> str:
    """`cannot migrate the VM: its local disks are on this host ... (stop the VM, ...)`."""
    rule = RULES[operation]
    return f"with local disks: cannot {operation}: {rule.reason} ({WAYS_OUT[rule.needs]})"


def _met(needs: Needs, facts: Facts) -> bool:
    return {
        Needs.NOTHING: True,
        Needs.PINNED: facts.pinned,
        Needs.KEPT: facts.kept,
        Needs.NO_COPY: not facts.copy,
        Needs.NO_LOCAL_DISKS: False,
    }[needs]
